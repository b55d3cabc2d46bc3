//! Who makes room in the kernel's cache.

use std::num::NonZeroU32;

use super::*;

const FLOODER: Zone = Zone::port(7);
const NEIGHBOUR: Zone = Zone::port(8);
/// Entries, so 20 connections.
const CAPACITY: u32 = 40;

fn table() -> Connections {
    // one shard, so that the oldest is the oldest of all
    Connections::new(Settings { shards: 1, ..Settings::default() })
}

fn id_of(table: &Connections, opening: &Opening) -> ConnectionId {
    table.view_by_key(&opening.reply).unwrap().id
}

/// Opens some connections that the kernel carries both ways.
fn carried(table: &Connections, owner: Zone, count: u16) -> Vec<Opening> {
    let all = open_some(table, owner, count);
    all.iter().for_each(|opening| carry(table, id_of(table, opening)));
    all
}

fn carry(table: &Connections, id: ConnectionId) {
    for direction in Direction::BOTH {
        assert!(table.cached(id, direction, NonZeroU32::new(3), 0));
    }
}

/// One more connection, which the kernel does not carry yet.
fn another(table: &Connections, owner: Zone, protocol: u8) -> (ConnectionId, Opening) {
    let mut slot = slot(protocol, 5000, 443);
    slot.src_addr[15] = owner.number() as u8;
    slot.ingress = owner.number();
    let reply = Key::of(&slot, owner).reversed(SERVER);
    let opening = Opening { zone: owner, reply, ..opening(slot) };
    (table.open(&opening).unwrap().id, opening)
}

/// The server's ports of connections that are to leave the kernel.
fn ports(dues: &[Due]) -> Vec<u16> {
    dues.iter().map(|due| due.keys[0].destination.port).collect()
}

/// A TCP connection that the kernel carries, from its first to its last packet.
fn over(table: &Connections, owner: Zone) -> ConnectionId {
    let (id, opening) = another(table, owner, 6);
    let key = Key::of(&opening.slot, owner);
    carry(table, id);
    for (key, flags) in [(&opening.reply, SYN_ACK), (&key, ACK), (&key, FIN), (&opening.reply, FIN)]
    {
        assert!(table.find(key, packet(flags, SECOND)).is_some());
    }
    table.find(&key, packet(ACK, SECOND)).unwrap();
    assert!(table.view(id).unwrap().state.is_over());
    id
}

#[test]
fn whoever_is_above_its_share_makes_room_for_whoever_is_within_and_stays_a_connection() {
    let table = table();
    let flood = carried(&table, FLOODER, 18);
    let (asking, _) = another(&table, NEIGHBOUR, 17);
    let leaving = table.crowd_out(asking, CAPACITY, SECOND);
    // down to its share of two, and no further
    assert_eq!(ports(&leaving), Vec::from_iter(1..=8));
    assert!(leaving.iter().all(|due| due.generations == [NonZeroU32::new(3); 2] && !due.over));
    for due in &leaving {
        table.crowded_out(due.id);
        assert!(table.outlasts(due.id, SECOND));
    }
    let counts = table.owner(FLOODER);
    assert_eq!((counts.connections, counts.unsettled, counts.evicted), (18, 18, 0));
    assert_eq!((counts.carried, counts.crowded_out), (10, 8));
    assert!(flood.iter().all(|opening| is_there(&table, opening)));
    assert_eq!(table.view(leaving[0].id).unwrap().generations, [None; 2]);

    // nobody is above any more
    assert_eq!(table.crowd_out(asking, CAPACITY, SECOND), []);
    assert_eq!(table.owner(NEIGHBOUR).crowded_out, 0);
}

#[test]
fn what_both_sides_take_part_in_makes_room_last_and_only_for_who_is_within_its_share() {
    let table = table();
    let flood = carried(&table, FLOODER, 14);
    for opening in &flood[..12] {
        answer(&table, opening, SECOND).unwrap();
    }
    let (asking, _) = another(&table, NEIGHBOUR, 17);
    assert_eq!(ports(&table.crowd_out(asking, CAPACITY, SECOND)), [13, 14]);
    let settled = table.crowd_out(asking, CAPACITY, SECOND);
    assert_eq!(ports(&settled), Vec::from_iter(1..=4));
    settled.iter().for_each(|due| assert!(table.outlasts(due.id, SECOND)));

    let (own, _) = another(&table, FLOODER, 17);
    assert_eq!(table.crowd_out(own, CAPACITY, SECOND), []);
    assert_eq!(table.replaceable_by(own, SECOND), []);
}

#[test]
fn who_has_the_most_makes_room_first() {
    let table = table();
    carried(&table, FLOODER, 8);
    carried(&table, Zone::port(9), 12);
    let (asking, _) = another(&table, NEIGHBOUR, 17);
    let leaving = table.crowd_out(asking, CAPACITY, SECOND);
    assert_eq!(leaving.len(), 6, "12 of 20, in three shares");
    assert!(leaving.iter().all(|due| due.keys[0].zone == Zone::port(9)));
}

#[test]
fn who_is_above_its_share_has_no_room_but_its_own() {
    let table = table();
    carried(&table, NEIGHBOUR, 11);
    carried(&table, FLOODER, 12);
    let (asking, opening) = another(&table, FLOODER, 17);
    assert_eq!(table.crowd_out(asking, CAPACITY, SECOND), []);
    let leaving = table.replaceable_by(asking, SECOND);
    assert_eq!(ports(&leaving), Vec::from_iter(1..=12));

    // and what is known already replaces nothing that is like it
    leaving.iter().for_each(|due| assert!(table.renew(due.id, SECOND)));
    table.find(&Key::of(&opening.slot, FLOODER), packet(Flags::NONE, SECOND)).unwrap();
    assert_eq!(table.replaceable_by(asking, SECOND), []);
    answer(&table, &opening, SECOND).unwrap();
    assert_eq!(table.replaceable_by(asking, SECOND).len(), 12);
}

#[test]
fn what_is_over_makes_room_first() {
    let table = table();
    carried(&table, FLOODER, 12);
    let over = over(&table, FLOODER);
    for owner in [NEIGHBOUR, FLOODER] {
        let mut opening = with_tags(u32::from(owner.number()), &[]);
        opening.slot.ingress = owner.number();
        let asking = table.open(&opening).unwrap().id;
        let leaving = table.crowd_out(asking, CAPACITY, SECOND);
        assert_eq!(
            leaving.iter().map(|due| (due.id, due.over)).collect::<Vec<_>>(),
            [(over, true)]
        );
        // whom it was handed to let it be
        assert!(table.renew(over, SECOND));
    }
    assert_eq!(table.crowd_out(over, CAPACITY, SECOND), [], "it wants no room itself");
}

#[test]
fn one_that_asks_does_not_replace_itself() {
    let table = table();
    let (asking, _) = another(&table, FLOODER, 17);
    assert!(table.cached(asking, Direction::Original, NonZeroU32::new(3), 0));
    for _ in 0..2 {
        assert_eq!(table.replaceable_by(asking, SECOND), []);
    }
}

#[test]
fn the_other_family_has_room_of_its_own() {
    let table = table();
    carried(&table, FLOODER, 18);
    let mut slot = slot(17, 1, 53);
    // all others have what is IPv6's
    slot.src_addr[10..12].fill(0xff);
    slot.dst_addr[10..12].fill(0xff);
    slot.ingress = NEIGHBOUR.number();
    let reply = Key::of(&slot, NEIGHBOUR).reversed(SERVER);
    let opening = Opening { zone: NEIGHBOUR, reply, ..opening(slot) };
    let asking = table.open(&opening).unwrap().id;
    assert_eq!(table.crowd_out(asking, CAPACITY, SECOND), []);
    let (asking, _) = another(&table, NEIGHBOUR, 17);
    assert!(!table.crowd_out(asking, CAPACITY, SECOND).is_empty());
}

#[test]
fn what_stages_look_into_stays_with_its_worker() {
    let table = table();
    let mut seen = way(2);
    seen.verdict.inspect = 1;
    for opening in open_some(&table, FLOODER, 15) {
        let id = id_of(&table, &opening);
        let anew = Anew { ways: [seen; 2], ..anew(&[]) };
        let revision = table.replace(id, &anew).unwrap().revision;
        table.inspect(id, &[1; crate::verdict::MAX_STAGES]);
        assert!(table.cached(id, Direction::Original, NonZeroU32::new(3), revision));
    }
    let (asking, _) = another(&table, NEIGHBOUR, 17);
    assert_eq!(table.crowd_out(asking, CAPACITY, SECOND), []);
    let (views, _) = table.all(Cursor::default(), usize::MAX);
    let first = views.iter().find(|view| view.owner == FLOODER).unwrap();
    assert_eq!(table.shows(first.id, 0), Showing::Last);
    assert_eq!(table.crowd_out(asking, CAPACITY, SECOND).len(), 1);
}

#[test]
fn counts_of_the_kernel_are_right_again_when_all_is_gone() {
    let table = table();
    carried(&table, FLOODER, 20);
    let (asking, _) = another(&table, NEIGHBOUR, 17);
    let crowded = table.crowd_out(asking, CAPACITY, SECOND);
    assert!(!crowded.is_empty());
    // nobody lets those go; they are due again
    let now = 1000 * SECOND;
    for due in table.due(now, usize::MAX) {
        assert!(matches!(table.retire(due.id, now), Retirement::Retired(_)));
    }
    for owner in [FLOODER, NEIGHBOUR] {
        let counts = table.owner(owner);
        assert_eq!((counts.connections, counts.unsettled, counts.carried), (0, 0, 0));
    }
    assert!(table.shards.iter().all(|shard| shard.lock().is_empty()));
}
