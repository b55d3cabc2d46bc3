//! Whom packets leave from, and for whom, once what filters decided is carried out: from that
//! follows what answers look like.

use std::net::IpAddr;

use millrace_abi::{Field, FieldSet, Reason, Slot};
use millrace_wire::IpProtocol;

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
            .all(|address| Endpoint { address, port: 0 }.ip().is_ipv4() == is_v4);
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

    /// Whether these are the ends of a connection that is answered by packets with this key. The
    /// host has chosen the port of a source that no filter stated.
    pub(super) fn are_answered_by(&self, reply: &Key) -> bool {
        let leaves_from = match self.source {
            Source::Stated(end) => end == reply.destination,
            Source::Own(Endpoint { address, .. }) | Source::Masqueraded(address) => {
                address == reply.destination.address
            }
        };
        leaves_from && self.destination == reply.source
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
    Some(Endpoint::address_of(address))
}

#[cfg(test)]
mod tests {
    use millrace_abi::PortKind;

    use super::*;
    use crate::connections::{Hop, Limits, Settings, Timeouts, Way};
    use crate::port::{Gateway, Hold, PortId, Station, Vlans};
    use crate::verdict::{Tags, Verdict};

    const CLIENT: [u8; 4] = [10, 0, 0, 1];
    const SERVICE: [u8; 4] = [10, 9, 0, 1];
    const BACKEND: [u8; 4] = [10, 0, 0, 2];
    const GATEWAY: [u8; 4] = [10, 0, 0, 254];

    fn address(octets: [u8; 4]) -> [u8; 16] {
        std::net::Ipv4Addr::from(octets).to_ipv6_mapped().octets()
    }

    /// The port behind which the backend is.
    fn egress() -> Port {
        let gateway = Gateway { mac: [2; 6], v4: Some(GATEWAY.into()), v6: None };
        Port {
            id: PortId::new(2).expect("it is a port's number"),
            name: "p2".to_owned(),
            kind: PortKind::Pod,
            link: 2,
            mtu: 1500,
            up: true,
            shaped: false,
            vlans: Vlans::access(0),
            completes_checksums: false,
            hold: Hold::Cached(Station { mac: [4; 6], gateway }),
        }
    }

    /// A datagram from the client to the service, whose backend listens elsewhere.
    fn slot() -> Slot {
        Slot {
            src_addr: address(CLIENT),
            dst_addr: address(SERVICE),
            src_port: 4000,
            dst_port: 53,
            to_addr: address(BACKEND),
            to_port: 5353,
            ip_version: 4,
            protocol: 17,
            ..Slot::ZERO
        }
    }

    fn answers(slot: &Slot, fields: &[Field]) -> Result<(Endpoint, Endpoint), Reason> {
        let key = Key::of(slot, Zone::port(1));
        let fields = fields.iter().fold(FieldSet::EMPTY, |fields, &field| fields.with(field));
        let reply = Ends::of(slot, &key, fields, &egress())?.answered_at(&key, Zone::port(2));
        Ok((reply.source, reply.destination))
    }

    fn end(octets: [u8; 4], port: u16) -> Endpoint {
        Endpoint { address: address(octets), port }
    }

    #[test]
    fn answers_come_from_whom_packets_are_for_and_for_whom_they_are_from() {
        let stated = Slot { as_addr: address([192, 0, 2, 9]), as_port: 4000, ..slot() };
        let [client, service] = [end(CLIENT, 4000), end(SERVICE, 53)];
        let [backend, nine] = [end(BACKEND, 5353), end([192, 0, 2, 9], 4000)];
        for (fields, expected) in [
            (&[][..], (service, client)),
            (&[Field::To], (backend, client)),
            (&[Field::As], (service, nine)),
            (&[Field::To, Field::As], (backend, nine)),
            (&[Field::To, Field::Masquerade], (backend, end(GATEWAY, 4000))),
        ] {
            assert_eq!(answers(&stated, fields), Ok(expected), "{fields:?}");
        }
    }

    #[test]
    fn an_echo_keeps_its_identifier() {
        let echo = Slot { protocol: 1, src_port: 7, dst_port: 0, to_port: 5353, ..slot() };
        let backend = (end(BACKEND, 7), end(CLIENT, 7));
        assert_eq!(answers(&echo, &[Field::To]), Ok(backend));
    }

    #[test]
    fn what_no_address_of_its_ip_version_is_there_for_is_not_translated() {
        let v6 = Slot { to_addr: [0x20; 16], ..slot() };
        assert_eq!(answers(&v6, &[Field::To]), Err(Reason::Unsupported));
        assert!(answers(&v6, &[]).is_ok(), "nobody has stated it");
        let all_v6 = Slot { ip_version: 6, src_addr: [0x20; 16], dst_addr: [0x21; 16], ..slot() };
        assert_eq!(answers(&all_v6, &[Field::Masquerade]), Err(Reason::Unsupported));
    }

    #[test]
    fn a_stated_source_is_never_replaced_and_its_own_port_is_when_answers_would_be_anothers() {
        let limits = Limits { total: 100, per_owner: 100 };
        let settings = Settings { timeouts: Timeouts::default(), limits, shards: 1 };
        let (table, masquerade) = (Connections::new(settings), Masquerade::new([50_000]));
        let open = |service: u8, fields: &[Field]| {
            let mut slot = Slot { as_addr: address(CLIENT), as_port: 4000, ingress: 1, ..slot() };
            slot.dst_addr[15] = service;
            let key = Key::of(&slot, Zone::port(1));
            let fields = fields.iter().fold(FieldSet::EMPTY, |fields, &field| fields.with(field));
            let leaving = Ends::of(&slot, &key, fields, &egress()).expect("it has an address");
            let way = Way { verdict: Verdict::OPEN, link: None, hop: Hop::Routed };
            let opening = Opening {
                slot,
                zone: key.zone,
                reply: leaving.answered_at(&key, Zone::port(2)),
                ways: [way; 2],
                tags: Tags::default(),
                idle: None,
            };
            leaving.open(&table, &masquerade, opening).map(|opened| opened.reply.destination)
        };
        assert_eq!(open(1, &[Field::To]), Ok(end(CLIENT, 4000)));
        assert_eq!(open(2, &[Field::To]), Ok(end(CLIENT, 50_000)));
        assert_eq!(open(3, &[Field::To, Field::As]), Err(OpenError::ReplyTaken));
        assert_eq!(
            open(4, &[Field::To]),
            Err(OpenError::Refused(Reason::NoNatPort)),
            "there is one port"
        );
    }
}
