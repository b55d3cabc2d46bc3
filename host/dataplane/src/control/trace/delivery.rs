//! What the host would do with a packet that the chain has decided about.

use std::net::SocketAddr;

use millrace_abi::{Control, Field, Reason};
use millrace_parse::Layers;
use millrace_wire::MacAddr;

use super::report::{DeliveryStatus, Ending, OffloadStatus};
use super::{Probe, egress};
use crate::connections::{Endpoint, Link};
use crate::control::flows::Names;
use crate::dispatch::fits;
use crate::port::{HeldPort, Hold, Port, PortTable};
use crate::tracking::{Preview, preview};

/// What becomes of the packet, as [`Dispatch`](crate::dispatch::Dispatch) would have it.
pub(super) fn ending(
    probe: &Probe<'_>,
    layers: Layers,
    ports: &PortTable,
    names: &Names<'_>,
) -> Ending {
    let (slot, verdict) = (&probe.slot, &probe.verdict);
    let by = (names.stage)(verdict.by);
    let reason = verdict.reason.unwrap_or(Reason::NoDecision);
    match verdict.control {
        Control::Continue => {}
        Control::Drop => return Ending::dropped(reason, by),
        Control::Reject => {
            return Ending { fate: "rejected".into(), ..Ending::dropped(reason, by) };
        }
    }
    if verdict.answered {
        let port = (names.port)(slot.ingress).into_iter().collect();
        return Ending { delivery: Some(plain(port, 0, slot.ttl)), ..kept("answered", by) };
    }
    if verdict.fields.contains(Field::Flood) {
        return flooded(probe, layers, ports, by);
    }
    let host = |reason| Ending::dropped(reason, None);
    let Some(egress) = egress(verdict, ports) else { return host(Reason::NoSuchPort) };
    if !egress.up {
        return host(Reason::PortDown);
    }
    if !fits(probe.frame, layers, egress) {
        return host(Reason::TooBig);
    }
    let routed = verdict.fields.contains(Field::DecrementTtl) && layers.network != 0;
    if routed && slot.ttl <= 1 {
        return host(Reason::TtlExceeded);
    }
    let preview = match preview(slot, verdict, &probe.terms, ports) {
        Ok(preview) => preview,
        Err(reason) => return host(reason),
    };
    let Preview { translation, link, offload } = preview;
    if translation.is_none() && TRANSLATIONS.iter().any(|&field| verdict.fields.contains(field)) {
        return host(Reason::Unsupported);
    }
    let next_hop = verdict.fields.contains(Field::NextHop);
    let link = match (link, egress.hold) {
        (None, Hold::Direct) if next_hop => return host(Reason::Unsupported),
        (None, Hold::Cached(station)) if next_hop => {
            Some(Link { destination: station.mac, source: station.gateway.mac })
        }
        (link, _) => link,
    };
    let changed =
        link.filter(|link| (link.source, link.destination) != (slot.src_mac, slot.dst_mac));
    let end = |end: Option<Endpoint>| end.map(|it| SocketAddr::new(it.ip(), it.port));
    let mac = |of: fn(&Link) -> [u8; 6]| changed.as_ref().map(|link| MacAddr(of(link)).to_string());
    let delivery = DeliveryStatus {
        source: end(translation.and_then(|it| it.source)),
        destination: end(translation.and_then(|it| it.destination)),
        source_mac: mac(|link| link.source),
        destination_mac: mac(|link| link.destination),
        offload,
        ..plain(vec![egress.name.clone()], egress.mtu, slot.ttl - u8::from(routed))
    };
    Ending { delivery: Some(delivery), ..kept("forwarded", by) }
}

fn flooded(probe: &Probe<'_>, layers: Layers, ports: &PortTable, by: Option<String>) -> Ending {
    let slot = &probe.slot;
    let member = |port: &&Port| {
        port.id.number() != slot.ingress && port.up && port.vlans.tagging(slot.vlan).is_some()
    };
    let members = ports.iter().map(|HeldPort { port, .. }| port).filter(member);
    let takers: Vec<&Port> = members.filter(|port| fits(probe.frame, layers, port)).collect();
    let Some(mtu) = takers.iter().map(|port| port.mtu).min() else {
        return Ending::dropped(Reason::NothingToFlood, None);
    };
    let names = takers.iter().map(|port| port.name.clone()).collect();
    Ending { delivery: Some(plain(names, mtu, slot.ttl)), ..kept("flooded", by) }
}

fn kept(fate: &'static str, by: Option<String>) -> Ending {
    Ending { fate: fate.into(), by, reason: None, help: None, delivery: None }
}

/// A packet that leaves as it came.
fn plain(ports: Vec<String>, mtu: u32, ttl: u8) -> DeliveryStatus {
    DeliveryStatus {
        ports,
        mtu,
        source: None,
        destination: None,
        source_mac: None,
        destination_mac: None,
        ttl,
        offload: OffloadStatus {
            there: false,
            back: false,
            why_not: Some("it is no packet of a connection with one way".to_owned()),
        },
    }
}

/// Fields that state a translation.
const TRANSLATIONS: [Field; 3] = [Field::To, Field::As, Field::Masquerade];
