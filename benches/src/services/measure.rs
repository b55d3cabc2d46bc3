//! What is measured through a Service.

use std::time::Duration;

use anyhow::Result;
use millrace_traffic::sink::{Sink, discard_at};

use super::site::Site;
use crate::traffic::{self, Lanes, Places};
use crate::unit::Unit;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// What a client sends.
    pub traffic: traffic::Measure,
    /// Where.
    pub to: To,
}

/// Where a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum To {
    /// To the Service's address.
    Service,
    /// To that of a pod behind it.
    Pod,
}

/// What is learned by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    /// Of what arrives.
    pub traffic: traffic::Quantity,
    /// Where it was sent.
    pub to: To,
}

/// Where a sample is taken.
pub struct Spot<'a> {
    /// The client, and who is behind the Service.
    pub site: &'a Site,
    /// What counts there.
    pub sink: &'a Sink,
    /// The cores.
    pub places: Places,
    /// For how long.
    pub time: Duration,
}

impl Measure {
    /// All of them, in the order in which they are done.
    pub const ALL: [Self; 5] = [
        Self { traffic: traffic::Measure::SmallPackets, to: To::Service },
        Self { traffic: traffic::Measure::SmallPackets, to: To::Pod },
        Self { traffic: traffic::Measure::Stream, to: To::Service },
        Self { traffic: traffic::Measure::Connect(Lanes::One), to: To::Service },
        Self { traffic: traffic::Measure::Connect(Lanes::Many), to: To::Service },
    ];

    /// Takes a sample.
    ///
    /// # Errors
    /// If there is no traffic.
    pub fn sample(self, spot: &Spot<'_>) -> Result<Vec<(Quantity, f64)>> {
        let Spot { site, sink, places, time } = *spot;
        let (client, to) = (site.client(), self.to);
        let (server, discard) = match to {
            To::Service => (site.server(), site.discard()),
            To::Pod => (site.ground.far().into(), discard_at(site.ground.far())),
        };
        let spot = traffic::Spot { client, server, discard, sink, places, time };
        let found = self.traffic.sample(&spot)?.into_iter();
        Ok(found.map(|(traffic, value)| (Quantity { traffic, to }, value)).collect())
    }
}

impl Quantity {
    /// What results call it.
    pub fn label(self) -> String {
        let to = match self.to {
            To::Service => "",
            To::Pod => " to a pod itself",
        };
        format!("{}{to}", self.traffic.label())
    }

    /// Its unit.
    pub const fn unit(self) -> Unit {
        self.traffic.unit()
    }
}
