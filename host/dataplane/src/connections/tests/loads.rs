//! What endpoints are said to have, against what there is.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_sandbox::maps::{HostMap, MapRegistry};
use proptest::prelude::*;

use super::*;

/// A connection of CLIENT's to a Service, at one of some endpoints.
fn served(client: u32, protocol: u8, endpoint: u8) -> Opening {
    let plain = opening(slot(protocol, client, 80));
    let mut reply = plain.reply;
    reply.source.address[15] = endpoint;
    reply.source.port = 8080;
    Opening { reply, ..plain }
}

/// What the map says, by the endpoint's last octet and protocol.
fn said(loads: &HostMap) -> BTreeMap<(u8, u8), u64> {
    let read = |value: &[u8]| u64::from_le_bytes(value.try_into().unwrap());
    let entries = loads.entries(1).into_iter();
    entries.map(|entry| ((entry.key[15], entry.key[18]), read(&entry.value))).collect()
}

/// What a walk through all connections finds.
fn found(table: &Connections) -> BTreeMap<(u8, u8), u64> {
    let mut found = BTreeMap::new();
    for view in table.all(Cursor::default(), usize::MAX).0 {
        let [there, back] = view.keys;
        if there.destination != back.source && !view.state.is_over() {
            *found.entry((back.source.address[15], back.protocol)).or_default() += 1;
        }
    }
    found
}

fn loads() -> Arc<HostMap> {
    Arc::clone(MapRegistry::default().connections())
}

fn count_all(table: &Connections, loads: &Arc<HostMap>) {
    let mut from = Some(Cursor::default());
    while let Some(at) = from {
        from = table.count(loads, at, 3);
    }
}

#[test]
fn what_is_translated_counts_from_its_first_packet_until_both_sides_are_done() {
    let (table, loads) = (table(), loads());
    count_all(&table, &loads);
    let one = served(1, 6, 7);
    table.open(&one).unwrap();
    table.open(&served(2, 17, 7)).unwrap();
    table.open(&opening(slot(6, 3, 80))).unwrap();
    assert_eq!(said(&loads), [((7, 6), 1), ((7, 17), 1)].into());
    let key = Key::of(&one.slot, CLIENT);
    for (key, flags) in [(one.reply, SYN_ACK), (key, ACK), (key, FIN), (one.reply, ACK)] {
        table.find(&key, packet(flags, 2 * SECOND)).unwrap();
    }
    assert_eq!(said(&loads)[&(7, 6)], 1, "one side alone is done");
    for (key, flags) in [(one.reply, FIN), (key, ACK)] {
        table.find(&key, packet(flags, 2 * SECOND)).unwrap();
    }
    assert_eq!(said(&loads), [((7, 17), 1)].into());
    assert!(is_there(&table, &one), "its ports are not free yet");
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Open { client: u32, protocol: u8, endpoint: u8 },
    Segment { client: u32, endpoint: u8, there: bool, flags: u8 },
    Dismiss { client: u32, protocol: u8 },
    Age { seconds: u64 },
    Count,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let (client, endpoint) = (1..8u32, 1..4u8);
    let protocol = prop_oneof![Just(6u8), Just(17u8)];
    let flags = prop_oneof![Just(SYN), Just(SYN_ACK), Just(ACK), Just(FIN), Just(RST)];
    let event = prop_oneof![
        4 => (client.clone(), protocol.clone(), endpoint.clone())
            .prop_map(|(client, protocol, endpoint)| Event::Open { client, protocol, endpoint }),
        8 => (client.clone(), endpoint, any::<bool>(), flags).prop_map(
            |(client, endpoint, there, flags)| {
                Event::Segment { client, endpoint, there, flags: flags.0 }
            }
        ),
        1 => (client, protocol)
            .prop_map(|(client, protocol)| Event::Dismiss { client, protocol }),
        1 => (1..200u64).prop_map(|seconds| Event::Age { seconds }),
        1 => Just(Event::Count),
    ];
    prop::collection::vec(event, 1..120)
}

proptest! {
    #[test]
    fn endpoints_have_what_a_walk_finds_whenever_counting_began(events in events()) {
        let (table, loads) = (table(), loads());
        let (mut now_ns, mut counting) = (SECOND, false);
        for event in events {
            now_ns += 1_000_000;
            match event {
                Event::Open { client, protocol, endpoint } => {
                    let mut opening = served(client, protocol, endpoint);
                    opening.slot.now_ns = now_ns;
                    let _ = table.open(&opening);
                }
                Event::Segment { client, endpoint, there, flags } => {
                    let opening = served(client, 6, endpoint);
                    let key = Key::of(&opening.slot, CLIENT);
                    let key = if there { key } else { opening.reply };
                    table.find(&key, packet(Flags(flags), now_ns));
                }
                Event::Dismiss { client, protocol } => {
                    let key = Key::of(&slot(protocol, client, 80), CLIENT);
                    if let Some(view) = table.view_by_key(&key) {
                        table.dismiss(view.id, now_ns);
                    }
                }
                Event::Age { seconds } => {
                    now_ns += seconds * SECOND;
                    for due in table.due(now_ns, usize::MAX) {
                        table.retire(due.id, now_ns);
                    }
                }
                Event::Count => {
                    count_all(&table, &loads);
                    counting = true;
                }
            }
            let expected = if counting { found(&table) } else { BTreeMap::new() };
            prop_assert_eq!(said(&loads), expected, "{:?}", event);
        }
    }
}
