//! Whom packets leave from, and for whom, once what filters decided is carried out: from that
//! follows what answers look like.

use std::net::IpAddr;

use millrace_abi::{Field, FieldSet, Reason, Slot};
use millrace_wire::IpProtocol;

use super::kernel::ip;
use crate::connections::{
    Connections, Endpoint, Key, Masquerade, OpenError, Opened, Opening, Zone,
};
use crate::port::Port;

/// The ends of packets as they leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    source: Source,
    destination: Endpoint,
}

/// Whom packets leave from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Whom they come from; from another port of it, should answers be somebody else's.
    Own(Endpoint),
    /// Whom a filter stated.
    Stated(Endpoint),
    /// Some port of this address.
    Masqueraded([u8; 16]),
}

impl Ends {
    /// Those of packets like the one that the slot is about, if `fields` are decided and they
    /// leave by `egress`.
    ///
    /// # Errors
    /// If the egress has no address to masquerade with, or an address is of the other IP version.
    pub(super) fn of(
        slot: &Slot,
        key: &Key,
        fields: FieldSet,
        egress: &Port,
    ) -> Result<Self, Reason> {
        // an echo has no ports: its identifier stays
        let is_echo = !IpProtocol(key.protocol).has_ports();
        let port = |stated, own| if is_echo { own } else { stated };
        let destination = match fields.contains(Field::To) {
            true => {
                let port = port(slot.to_port, key.destination.port);
                Endpoint { address: slot.to_addr, port }
            }
            false => key.destination,
        };
        let source = if fields.contains(Field::As) {
            let port = port(slot.as_port, key.source.port);
            Source::Stated(Endpoint { address: slot.as_addr, port })
        } else if fields.contains(Field::Masquerade) {
            let address = masquerade_address(egress, slot.ip_version).ok_or(Reason::Unsupported)?;
            Source::Masqueraded(address)
        } else {
            Source::Own(key.source)
        };
        let leaving = Self { source, destination };
        let is_v4 = slot.ip_version == 4;
        let is_one_version = [leaving.source.address(), destination.address]
            .into_iter()
            .all(|address| ip(address).is_ipv4() == is_v4);
        if is_one_version { Ok(leaving) } else { Err(Reason::Unsupported) }
    }

    /// What answers look like when they come in at `zone`; of a masqueraded source, but for its
    /// port.
    pub(super) fn answered_at(&self, key: &Key, zone: Zone) -> Key {
        let source = match self.source {
            Source::Own(end) | Source::Stated(end) => end,
            Source::Masqueraded(address) => Endpoint { address, port: key.source.port },
        };
        Key { source: self.destination, destination: source, zone, protocol: key.protocol }
    }

    /// Opens the connection.
    ///
    /// # Errors
    /// As [`Connections::open`]; answers are somebody else's only if a filter insists on that.
    pub(super) fn open(
        &self,
        connections: &Connections,
        masquerade: &Masquerade,
        opening: Opening,
    ) -> Result<Opened, OpenError> {
        if let Source::Masqueraded(address) = self.source {
            return masquerade.open(connections, opening, address);
        }
        match (connections.open(&opening), self.source) {
            // it speaks to the same end by another name too, and from the same port
            (Err(OpenError::ReplyTaken), Source::Own(own)) => {
                masquerade.open(connections, opening, own.address)
            }
            (outcome, _) => outcome,
        }
    }
}

impl Source {
    fn address(&self) -> [u8; 16] {
        match self {
            Self::Own(end) | Self::Stated(end) => end.address,
            Self::Masqueraded(address) => *address,
        }
    }
}

/// What the dataplane is known by behind a port.
fn masquerade_address(egress: &Port, ip_version: u8) -> Option<[u8; 16]> {
    let gateway = egress.gateway()?;
    let address = match ip_version {
        4 => IpAddr::V4(gateway.v4?),
        _ => IpAddr::V6(gateway.v6?),
    };
    Some(match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    })
}
