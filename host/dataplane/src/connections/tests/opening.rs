//! Keys, directions, translations.

use millrace_abi::Reason;

use super::*;

#[test]
fn a_connection_is_found_by_both_its_keys_and_by_no_other() {
    let table = table();
    let opening = opening(slot(17, 5000, 53));
    let key = Key::of(&opening.slot, CLIENT);
    assert_eq!(table.find(&key, packet(Flags::NONE, SECOND)), None);
    let opened = table.open(&opening).unwrap();
    assert_eq!((opened.replaced, opened.evicted), (None, None));

    let there = table.find(&key, packet(Flags::NONE, 2 * SECOND)).unwrap();
    let back = table.find(&opening.reply, packet(Flags::NONE, 3 * SECOND)).unwrap();
    assert_eq!((there.id, back.id), (opened.id, opened.id));
    assert_eq!((there.direction, back.direction), (Direction::Original, Direction::Reply));
    assert_eq!((there.way, back.way), (way(2), way(1)));
    assert_eq!((there.state, back.state), (State::Unreplied, State::Replied));

    let elsewhere = Key { zone: Zone::port(3), ..key };
    assert_eq!(table.find(&elsewhere, packet(Flags::NONE, SECOND)), None);
    assert_eq!(table.len(), 1);
}

#[test]
fn translations_follow_from_the_keys_of_both_directions() {
    let table = table();
    let backend = Endpoint { address: [9; 16], port: 8080 };
    let node = Endpoint { address: [8; 16], port: 50_000 };
    let slot = slot(6, 5000, 80);
    let key = Key::of(&slot, CLIENT);
    let reply = Key { source: backend, destination: node, zone: Zone::UNDERLAY, protocol: 6 };
    table.open(&Opening { reply, ..opening(slot) }).unwrap();

    let there = table.find(&key, packet(SYN, SECOND)).unwrap();
    assert_eq!(there.translation, Translation { source: Some(node), destination: Some(backend) });
    let back = table.find(&reply, packet(SYN_ACK, SECOND)).unwrap();
    assert_eq!(
        back.translation,
        Translation { source: Some(key.destination), destination: Some(key.source) }
    );
}

#[test]
fn what_only_speaks_of_a_connection_leaves_it_as_it_is() {
    let table = table();
    let opening = opening(slot(17, 5000, 53));
    let id = table.open(&opening).unwrap().id;
    let before = table.view(id);
    let quoted = table.related(&opening.reply).unwrap();
    assert_eq!((quoted.id, quoted.direction, quoted.way), (id, Direction::Reply, way(1)));
    assert_eq!(table.view(id), before);
}

#[test]
fn a_key_is_of_one_connection() {
    let table = table();
    let first = opening(slot(6, 5000, 80));
    let id = table.open(&first).unwrap().id;
    assert_eq!(table.open(&first), Err(OpenError::Open));

    // two clients behind one address and port
    let second = Opening { reply: first.reply, ..opening(slot(6, 5001, 80)) };
    assert_eq!(table.open(&second), Err(OpenError::ReplyTaken));
    assert_eq!(table.find(&Key::of(&second.slot, CLIENT), packet(SYN, SECOND)), None);
    assert_eq!(table.find(&first.reply, packet(SYN_ACK, SECOND)).unwrap().id, id);

    // and to itself
    let own = opening(slot(17, 80, 80));
    let own_key = Key { destination: Key::of(&own.slot, CLIENT).source, ..own.reply };
    let slot = Slot { dst_addr: own.slot.src_addr, ..own.slot };
    let reply = Key { zone: CLIENT, ..own_key };
    let reply = Key { source: reply.destination, ..reply };
    assert_eq!(table.open(&Opening { slot, reply, ..own }), Err(OpenError::ReplyTaken));
    assert_eq!(table.len(), 1);
}

#[test]
fn only_a_packet_that_begins_something_may_open_a_connection() {
    let tcp = |flags: Flags| may_open(&Slot { tcp_flags: flags.0, ..slot(6, 1, 80) });
    assert_eq!(tcp(SYN), Ok(()));
    // RFC 3168: a SYN that offers ECN
    assert_eq!(tcp(SYN | Flags::ECE | Flags::CWR), Ok(()));
    for flags in [ACK, FIN, RST, SYN_ACK, SYN | Flags::FIN, SYN | RST, Flags::NONE, Flags::PSH] {
        assert_eq!(tcp(flags), Err(Reason::InvalidState), "{flags}");
    }
    let icmp = |protocol, icmp_type| may_open(&Slot { icmp_type, ..slot(protocol, 1, 0) });
    assert_eq!((icmp(1, 8), icmp(58, 128)), (Ok(()), Ok(())));
    for (protocol, icmp_type) in [(1, 0), (1, 3), (1, 11), (58, 1), (58, 129), (58, 8)] {
        assert_eq!(icmp(protocol, icmp_type), Err(Reason::InvalidState));
    }
    assert_eq!(may_open(&slot(17, 1, 53)), Ok(()));
    assert_eq!(may_open(&slot(132, 1, 53)), Ok(()));
}
