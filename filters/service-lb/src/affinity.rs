//! Which endpoint a client has got from a Service, for as long as the Service says (S19).
//!
//! A choice is written anew with each connection; how long it lasts is for the Service of the
//! moment to say, so that an operator can change that for choices that there are.

use std::net::IpAddr;
use std::time::Duration;

use millrace_filter::prelude::*;
use millrace_filter::record::{Port, Time};
use millrace_filter::tables::{Endpoint, Frontend, Service};

/// The choices.
pub(crate) struct Affinity(Map<Client, Choice>);

/// A client of a port of a Service.
#[derive(Record, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    service: u32,
    port: u16,
    protocol: u8,
    unused: u8,
    address: IpAddr,
}

/// What it has got. The port comes first: the map's quota goes by it.
#[derive(Record, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    ingress: Port,
    port: u16,
    endpoint: IpAddr,
    used: Time,
}

impl Affinity {
    /// Opens the map.
    pub(crate) fn open(setup: &mut Setup) -> Result<Self, Error> {
        let options = MapOptions::new(CLIENTS).ttl(LONGEST).quota(CLIENTS_PER_PORT);
        Ok(Self(setup.map(MAP, options)?))
    }

    /// The endpoint that the slot's client has got, if that still counts.
    pub(crate) fn choice(
        &self,
        slot: &Slot,
        frontend: &Frontend,
        service: &Service,
    ) -> Option<Endpoint> {
        let choice = self.0.get(&Client::new(slot, frontend, service)?)?;
        let age = Duration::from_nanos(slot.now_ns.saturating_sub(choice.used.0));
        let lasts = age <= Duration::from_secs(service.affinity_s.into());
        lasts.then_some(Endpoint { address: choice.endpoint, port: choice.port })
    }

    /// Notes what the slot's client has got. Without room for it the client has no affinity.
    pub(crate) fn note(
        &self,
        slot: &Slot,
        frontend: &Frontend,
        service: &Service,
        endpoint: Endpoint,
    ) {
        let Some(client) = Client::new(slot, frontend, service) else { return };
        let choice = Choice {
            ingress: Port(slot.ingress),
            port: endpoint.port,
            endpoint: endpoint.address,
            used: Time(slot.now_ns),
        };
        let _ = self.0.set(&client, &choice);
    }
}

impl Client {
    fn new(slot: &Slot, frontend: &Frontend, service: &Service) -> Option<Self> {
        Some(Self {
            service: service.number,
            port: service.port,
            protocol: frontend.protocol as u8,
            unused: 0,
            address: slot.source()?,
        })
    }
}

/// The map's name.
pub(crate) const MAP: &str = "affinity";
/// The longest that a Service may ask for.
const LONGEST: Duration = Duration::from_secs(86_400);
const CLIENTS: u32 = 1 << 17;
/// What comes by one port leaves room for others.
const CLIENTS_PER_PORT: u32 = 1 << 15;
