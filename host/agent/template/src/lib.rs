//! Refuses flows to some ports: a filter to start from.
//!
//! ```json
//! {"ports": [23, 445], "action": "reject"}
//! ```
//! `flow` is asked once about every flow, and the host remembers what it says.

use millrace_filter::prelude::*;

/// What the operator configures. `millrace filter inspect` shows these comments.
#[derive(Config, Clone, Debug)]
pub struct Settings {
    /// Ports that nobody may open flows to.
    ports: Vec<u16>,
    /// What becomes of such a flow.
    #[config(default = Action::Drop)]
    action: Action,
}

/// What becomes of a refused flow.
#[derive(Config, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing is heard of it.
    Drop,
    /// Its sender gets a TCP RST or an ICMP error.
    Reject,
}

/// The filter.
pub struct ClosedPorts {
    settings: Settings,
    refused: Counter,
}

impl Filter for ClosedPorts {
    const MANIFEST: Manifest = Manifest::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
        .describes("Refuses flows to some ports.")
        .wants(&[Capability::Drop, Capability::Reject])
        .rules(&[CLOSED]);
    type Config = Settings;

    fn new(settings: Settings, setup: &mut Setup) -> Result<Self, Error> {
        // what has no ports, such as ICMP, is told to have port 0
        if settings.ports.contains(&0) {
            return Err("`ports`: 0 is no port".into());
        }
        Ok(Self {
            settings,
            refused: setup.counter("refused")?,
        })
    }

    fn flow(&mut self, slot: &Slot, decision: &mut Decision) {
        if self.settings.ports.contains(&slot.dst_port) {
            self.refused.add(1);
            match self.settings.action {
                Action::Drop => decision.drop(Reason::Denied),
                Action::Reject => decision.reject(Reason::Denied),
            };
            decision.by_rule(CLOSED.id);
        }
    }
}

filter!(ClosedPorts: flow);

const CLOSED: Rule = Rule::new(1, "closed", "The port is closed.");

#[cfg(test)]
mod tests;
