//! What is known of a port.

use std::sync::Arc;

use millrace_netns::LinkKind;

use super::opened::Opened;
use crate::control::request::{AddPort, Beyond};
use crate::control::status::PortState;
use crate::port::{PortCounters, PortId};

pub(in crate::control) struct PortRecord {
    pub(in crate::control) id: PortId,
    pub(super) request: AddPort,
    /// By worker.
    pub(super) counters: Vec<Arc<PortCounters>>,
    pub(super) state: PortState,
    /// What is there while the interface is.
    pub(super) opened: Option<Opened>,
    /// Why there is nothing, if the interface has returned and cannot be a port as it is.
    pub(super) refusal: Option<String>,
}

impl PortRecord {
    /// The interface its packets come and go by.
    pub(super) fn interface(&self) -> &str {
        match &self.request.beyond {
            Some(Beyond::Tunnel(tunnel)) => &tunnel.interface,
            _ => &self.request.interface,
        }
    }

    /// What is odd, with the remedy.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self.refusal.iter().cloned().collect();
        let Some(opened) = &self.opened else { return notes };
        notes.extend(opened.notes());
        if opened.link.kind == LinkKind::Veth && self.request.vlans.is_trunk() {
            notes.push(
                "VLAN tags that a sender leaves to its end of the veth do not arrive: `ethtool -K \
                 PEER txvlan off tx-vlan-stag-hw-insert off` where it begins"
                    .to_owned(),
            );
        }
        notes
    }
}
