//! Limits, and who is hit by them.

use std::num::NonZeroU32;

use millrace_abi::Reason;

use super::*;

const FLOODER: Zone = Zone::port(7);
const NEIGHBOUR: Zone = Zone::port(8);

fn limited(total: usize, per_owner: usize) -> Connections {
    // one shard, so that the oldest is the oldest of all
    let limits = Limits { total, per_owner };
    Connections::new(Settings { limits, shards: 1, ..Settings::default() })
}

/// One more connection of an owner.
fn another(owner: Zone, client: u32) -> Opening {
    let mut slot = slot(6, client, 443);
    slot.src_addr[15] = owner.number() as u8;
    slot.ingress = owner.number();
    let reply = Key::of(&slot, owner).reversed(SERVER);
    Opening { zone: owner, reply, ..opening(slot) }
}

#[test]
fn an_owner_at_its_limit_loses_the_oldest_that_nobody_answered() {
    let table = limited(100, 10);
    let mine = open_some(&table, FLOODER, 10);
    let others = open_some(&table, NEIGHBOUR, 5);
    answer(&table, &mine[0], SECOND).unwrap();

    let opened = table.open(&another(FLOODER, 1)).unwrap();
    assert_eq!(opened.evicted, None, "nothing of it is in the kernel");
    let left: Vec<_> = mine.iter().filter(|opening| !is_there(&table, opening)).collect();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].slot.dst_port, 2);
    assert!(others.iter().all(|opening| is_there(&table, opening)));
    let counts = table.owner(FLOODER);
    assert_eq!((counts.connections, counts.unsettled), (10, 9));
    assert_eq!((counts.evicted, counts.refused), (1, 0));
    assert_eq!(table.owner(NEIGHBOUR).evicted, 0);
}

#[test]
fn an_owner_whose_connections_are_all_answered_is_refused_more() {
    let table = limited(100, 10);
    let mine = open_some(&table, FLOODER, 10);
    for opening in &mine {
        answer(&table, opening, SECOND).unwrap();
    }
    let refused = table.open(&another(FLOODER, 1));
    assert_eq!(refused, Err(OpenError::Refused(Reason::ConnectionLimit)));
    assert!(mine.iter().all(|opening| is_there(&table, opening)));
    assert!(table.open(&another(NEIGHBOUR, 1)).is_ok());
    let counts = table.owner(FLOODER);
    assert_eq!((counts.connections, counts.evicted, counts.refused), (10, 0, 1));
}

#[test]
fn in_a_full_table_whoever_has_more_than_its_share_makes_room() {
    let table = limited(20, 20);
    let flood = open_some(&table, FLOODER, 18);
    let quiet = open_some(&table, NEIGHBOUR, 2);
    for client in 0..7 {
        assert!(table.open(&another(NEIGHBOUR, client)).is_ok());
    }
    assert_eq!(flood.iter().filter(|opening| !is_there(&table, opening)).count(), 7);
    assert!(quiet.iter().all(|opening| is_there(&table, opening)));
    // and the flood goes on at its own cost
    for client in 0..50 {
        assert!(table.open(&another(FLOODER, client)).is_ok());
    }
    assert_eq!(table.owner(FLOODER).connections, 11);
    assert_eq!((table.owner(NEIGHBOUR).connections, table.owner(NEIGHBOUR).evicted), (9, 0));
    assert_eq!((table.len(), table.owner(FLOODER).evicted), (20, 57));
}

#[test]
fn a_full_table_of_answered_connections_refuses() {
    let table = limited(10, 10);
    for opening in open_some(&table, FLOODER, 10) {
        answer(&table, &opening, SECOND).unwrap();
    }
    let refused = table.open(&another(NEIGHBOUR, 1));
    assert_eq!(refused, Err(OpenError::Refused(Reason::ConnectionTableFull)));
    assert_eq!((table.owner(NEIGHBOUR).refused, table.owner(FLOODER).evicted), (1, 0));
    assert_eq!((table.len(), table.owner(NEIGHBOUR).connections), (10, 0));
}

#[test]
fn a_half_open_handshake_makes_room_even_when_it_was_answered() {
    let table = limited(10, 1);
    let half_open = another(FLOODER, 1);
    table.open(&half_open).unwrap();
    table.find(&half_open.reply, packet(SYN_ACK, SECOND)).unwrap();
    assert!(table.open(&another(FLOODER, 2)).is_ok());
    assert!(!is_there(&table, &half_open));
}

#[test]
fn what_makes_room_is_asked_about_first_where_the_kernel_may_know_more() {
    for (packets, stays) in [(0, false), (1, true)] {
        let table = limited(10, 1);
        let first = open_some(&table, FLOODER, 1).remove(0);
        let id = table.view_by_key(&first.reply).unwrap().id;
        let generation = NonZeroU32::new(3);
        assert!(table.cached(id, Direction::Reply, generation, 0));

        let evicted = table.open(&another(FLOODER, 1)).unwrap().evicted.unwrap();
        assert_eq!((evicted.id, evicted.generations), (id, [None, generation]));
        assert_eq!(table.owner(FLOODER).connections, 1, "one that makes room does not count");
        assert!(is_there(&table, &first), "its packets still find it");
        let usage = Usage { last_seen_ns: SECOND, packets, ..Usage::default() };
        table.absorb(&first.reply, generation.unwrap(), &usage);
        let still = table.retire(id, SECOND) == Retirement::StillAlive;
        assert_eq!((still, is_there(&table, &first)), (stays, stays));
        assert_eq!(table.owner(FLOODER).connections, 1 + u32::from(stays));
        assert_eq!(table.len(), 1 + usize::from(stays));
    }
}

#[test]
fn what_made_way_for_a_connection_that_is_refused_is_not_forgotten() {
    let table = limited(10, 1);
    let full = open_some(&table, NEIGHBOUR, 1);
    answer(&table, &full[0], SECOND).unwrap();
    let refused = another(FLOODER, 1);
    let id = table.open(&refused).unwrap().id;
    table.find(&refused.reply, packet(RST, SECOND)).unwrap();
    let generation = NonZeroU32::new(3);
    assert!(table.cached(id, Direction::Reply, generation, 0));

    let slot = Slot { ingress: NEIGHBOUR.number(), ..refused.slot };
    let again = Opening { slot, ..refused };
    assert!(matches!(table.open(&again), Err(OpenError::Refused(_))));
    let due = table.due(SECOND, 9);
    assert_eq!(due.len(), 1);
    assert_eq!((due[0].id, due[0].generations), (id, [None, generation]));
    assert_eq!(table.retire(id, SECOND), Retirement::Gone);
}

#[test]
fn counts_are_right_again_when_all_is_gone() {
    let table = limited(1000, 50);
    open_some(&table, FLOODER, 100);
    for opening in open_some(&table, NEIGHBOUR, 20) {
        answer(&table, &opening, SECOND).unwrap();
    }
    let now = 1000 * SECOND;
    for due in table.due(now, usize::MAX) {
        table.retire(due.id, now);
    }
    for owner in [FLOODER, NEIGHBOUR] {
        let counts = table.owner(owner);
        assert_eq!((counts.connections, counts.unsettled), (0, 0));
    }
    assert!(table.is_empty());
}
