//! Ports for sources that are translated.

use std::collections::BTreeSet;

use millrace_abi::Reason;

use super::*;

const NODE: [u8; 16] = [8; 16];

/// A client's connection to a server out in the world.
fn outward(protocol: u8, client: u32, server: u16) -> Opening {
    let slot = slot(protocol, client, server);
    let reply = Key::of(&slot, CLIENT).reversed(Zone::UNDERLAY);
    Opening { reply, ..opening(slot) }
}

fn source_of(table: &Connections, opened: Opened) -> Endpoint {
    let [_, reply] = table.view(opened.id).unwrap().keys;
    reply.destination
}

#[test]
fn f9_a_port_is_of_one_connection_per_destination_and_of_any_number_of_destinations() {
    let (table, masquerade) = (table(), Masquerade::new(40_000..40_100));
    for server in [80, 443] {
        let ports: BTreeSet<_> = (0..100)
            .map(|client| masquerade.open(&table, outward(6, client, server), NODE).unwrap())
            .map(|opened| source_of(&table, opened))
            .map(|source| (source.address, source.port))
            .collect();
        assert_eq!(ports, (40_000..40_100).map(|port| (NODE, port)).collect());
    }
    // the same of another protocol, and of another source
    assert!(masquerade.open(&table, outward(17, 1, 80), NODE).is_ok());
    assert!(masquerade.open(&table, outward(6, 500, 80), [9; 16]).is_ok());
}

#[test]
fn when_no_port_is_left_towards_a_destination_that_is_counted() {
    let (table, masquerade) = (table(), Masquerade::new(40_000..40_010));
    for client in 0..10 {
        masquerade.open(&table, outward(6, client, 80), NODE).unwrap();
    }
    for client in 10..13 {
        let refused = masquerade.open(&table, outward(6, client, 80), NODE);
        assert_eq!(refused, Err(OpenError::Refused(Reason::NoNatPort)));
    }
    assert!(masquerade.open(&table, outward(6, 10, 81), NODE).is_ok());
    let server = outward(6, 0, 80).reply.source;
    assert_eq!(
        masquerade.exhaustion(),
        Exhaustion { by_destination: vec![(6, server, 3)], elsewhere: 0 }
    );
    assert_eq!((table.len(), table.owner(CLIENT).connections), (11, 11));
}

#[test]
fn f9_a_port_rests_in_time_wait_and_is_free_when_the_connection_is() {
    let (table, masquerade) = (table(), Masquerade::new([40_000]));
    let first = outward(6, 1, 80);
    let opened = masquerade.open(&table, first.clone(), NODE).unwrap();
    let [key, reply] = table.view(opened.id).unwrap().keys;
    for (key, flags) in
        [(reply, SYN_ACK), (key, ACK), (key, FIN), (reply, FIN), (key, ACK), (reply, ACK)]
    {
        table.find(&key, packet(flags, SECOND)).unwrap();
    }
    let view = table.view(opened.id).unwrap();
    assert_eq!(view.state, State::Tcp(TcpState::TimeWait));
    let second = outward(6, 2, 80);
    let refused = masquerade.open(&table, second.clone(), NODE);
    assert_eq!(refused, Err(OpenError::Refused(Reason::NoNatPort)));

    // but the client itself may go on with it, as it may without a translation
    let again = masquerade.open(&table, first, NODE).unwrap();
    assert_eq!(again.replaced.map(|due| due.id), Some(opened.id));
    let now = 100 * SECOND;
    for due in table.due(now, 9) {
        table.retire(due.id, now);
    }
    assert!(masquerade.open(&table, second, NODE).is_ok());
}

#[test]
fn an_echo_gets_an_identifier_that_its_answers_have_at_both_ends() {
    let (table, masquerade) = (table(), Masquerade::new(40_000..40_002));
    let echo = |client: u32| {
        let mut opening = outward(1, client, 0);
        opening.slot.src_addr[15] += client as u8;
        opening.slot.src_port = 77;
        opening.reply = Key::of(&opening.slot, CLIENT).reversed(Zone::UNDERLAY);
        opening
    };
    let mut identifiers = BTreeSet::new();
    for client in 0..2 {
        let opened = masquerade.open(&table, echo(client), NODE).unwrap();
        let [_, reply] = table.view(opened.id).unwrap().keys;
        assert_eq!(reply.source.port, reply.destination.port);
        identifiers.insert(reply.destination.port);
    }
    assert_eq!(identifiers, BTreeSet::from([40_000, 40_001]));
    for client in 2..4 {
        assert!(masquerade.open(&table, echo(client), NODE).is_err());
    }
    let [(1, server, 2)] = masquerade.exhaustion().by_destination[..] else {
        panic!("one destination, whatever the identifiers");
    };
    assert_eq!(server.port, 0);
}

#[test]
fn ports_are_not_given_out_in_an_order_that_can_be_guessed() {
    let (table, masquerade) = (table(), Masquerade::new(32_768..=65_535));
    let ports: Vec<_> = (0..64)
        .map(|client| masquerade.open(&table, outward(6, client, 80), NODE).unwrap())
        .map(|opened| source_of(&table, opened).port)
        .collect();
    let mut steps: Vec<_> = ports.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    steps.sort_unstable();
    steps.dedup();
    assert!(steps.len() > 32, "{steps:?}");
}

#[test]
fn without_a_port_nothing_is_masqueraded() {
    let (table, masquerade) = (table(), Masquerade::new([]));
    let refused = masquerade.open(&table, outward(6, 1, 80), NODE);
    assert_eq!(refused, Err(OpenError::Refused(Reason::NoNatPort)));
}
