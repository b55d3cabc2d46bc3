//! What a packet's connection would be like, if it opened one: [`Tracking::open`], without opening
//! anything.

use millrace_abi::{Field, FieldSet, Reason, Slot};
use millrace_wire::IpProtocol;

use super::ends::Ends;
use super::{flows, lasts, ways, zone};
use crate::connections::{Direction, Key, Link, Translation, Zone, may_open};
use crate::control::trace::OffloadStatus;
use crate::port::{Hold, PortId, PortTable};
use crate::verdict::{Terms, Verdict};

/// A connection that nobody has opened.
pub(crate) struct Preview {
    /// The ends that the packet gets, if it belongs to a connection then.
    pub(crate) translation: Option<Translation>,
    /// The Ethernet addresses it gets.
    pub(crate) link: Option<Link>,
    /// Who carries the connection.
    pub(crate) offload: OffloadStatus,
}

/// What the connection of a packet would be like that the chain has let go on.
///
/// # Errors
/// Why the packet would be dropped instead.
pub(crate) fn preview(
    slot: &Slot,
    verdict: &Verdict,
    terms: &Terms,
    ports: &PortTable,
) -> Result<Preview, Reason> {
    let lasts = lasts(verdict, terms);
    let egress = PortId::new(verdict.egress).and_then(|id| ports.get(id)).map(|held| &held.port);
    let (Some(zone), Some(egress), true) = (zone(slot, ports), egress, lasts) else {
        let why = why_no_connection(slot, lasts, ports);
        return Ok(Preview { translation: None, link: None, offload: by_workers(why) });
    };
    may_open(slot)?;
    let ways = ways(slot, verdict, egress);
    let key = Key::of(slot, zone);
    let leaving = Ends::of(slot, &key, verdict.fields, egress)?;
    let reply = leaving.answered_at(&key, Zone::of(egress));
    let translation = Translation::between(&key, &reply);
    let carried = flows([&key, &reply], &ways, ports).map(|flow| flow.is_some());
    let link = ways[Direction::Original as usize].link;
    let offload = OffloadStatus {
        there: carried[0],
        back: carried[1],
        why_not: (carried != [true; 2]).then(|| why_not(&key, verdict, egress.hold).to_owned()),
    };
    Ok(Preview { translation: Some(translation), link, offload })
}

fn by_workers(why: &str) -> OffloadStatus {
    OffloadStatus { there: false, back: false, why_not: Some(why.to_owned()) }
}

/// Why what is decided about a packet is not remembered by its connection.
fn why_no_connection(slot: &Slot, lasts: bool, ports: &PortTable) -> &'static str {
    let held = PortId::new(slot.ingress).and_then(|id| ports.get(id));
    match held.map(|held| held.port.hold) {
        Some(Hold::Cached(_)) if lasts => "it is no packet of a connection",
        Some(Hold::Cached(_)) => "what is decided holds for this packet alone, or not for long",
        _ => "it comes in by a direct port, whose packets workers carry",
    }
}

/// Why workers carry a connection.
fn why_not(key: &Key, verdict: &Verdict, egress: Hold) -> &'static str {
    let carried = [Field::Egress, Field::NextHop, Field::DecrementTtl, Field::Idle, Field::To]
        .into_iter()
        .chain([Field::As, Field::Masquerade])
        .fold(FieldSet::EMPTY, FieldSet::with);
    let is_direct = egress == Hold::Direct;
    match IpProtocol(key.protocol) {
        IpProtocol::TCP | IpProtocol::UDP if verdict.inspect != 0 => "a stage sees its packets",
        IpProtocol::TCP | IpProtocol::UDP if is_direct => "it leaves by a direct port",
        IpProtocol::TCP | IpProtocol::UDP if !verdict.fields.minus(carried).is_empty() => {
            "what is decided is more than the kernel can do"
        }
        IpProtocol::TCP | IpProtocol::UDP => "the kernel's cache does not carry this way",
        _ => "the kernel carries TCP and UDP alone",
    }
}
