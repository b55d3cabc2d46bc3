//! Connections that stages look into.

use millrace_abi::INSPECT_ALL;

use super::*;
use crate::verdict::MAX_STAGES;

/// Looked into by the stages 1 and 4, which want to see so many packets each.
fn inspected(table: &Connections, left: [u16; 2]) -> ConnectionId {
    let mut ways = [way(2), way(1)];
    for way in &mut ways {
        way.verdict.inspect = 1 << 1 | 1 << 4;
    }
    let id = table.open(&Opening { ways, ..opening(slot(17, 5000, 53)) }).unwrap().id;
    let mut all = [0; MAX_STAGES];
    (all[1], all[4]) = (left[0], left[1]);
    table.inspect(id, &all);
    id
}

fn inspect(table: &Connections, id: ConnectionId) -> [u16; 2] {
    table.sides(id).unwrap().map(|side| side.way.verdict.inspect)
}

#[test]
fn each_stage_is_shown_as_many_packets_of_both_directions_as_it_wants() {
    let table = table();
    let id = inspected(&table, [2, 3]);
    assert_eq!([1, 1, 1].map(|at| table.shows(id, at)), [Showing::Yes, Showing::Yes, Showing::No]);
    assert_eq!(inspect(&table, id), [1 << 4; 2]);
    assert_eq!(
        [4, 4, 4, 4].map(|at| table.shows(id, at)),
        [Showing::Yes, Showing::Yes, Showing::Last, Showing::No]
    );
    assert_eq!(inspect(&table, id), [0; 2]);
}

#[test]
fn a_stage_that_wants_all_is_shown_all_until_it_releases_the_connection() {
    let table = table();
    let id = inspected(&table, [INSPECT_ALL; 2]);
    for _ in 0..70_000 {
        assert_eq!(table.shows(id, 1), Showing::Yes);
    }
    assert!(!table.released(id, 1), "another one looks");
    assert_eq!(table.shows(id, 1), Showing::No);
    assert!(table.released(id, 4));
    assert!(!table.released(id, 4), "once is enough");
}

#[test]
fn of_a_connection_that_is_gone_every_packet_is_shown() {
    let table = table();
    let id = inspected(&table, [1; 2]);
    let [original, _] = table.sides(id).unwrap();
    assert!(table.find(&original.key, packet(Flags::NONE, SECOND)).is_some());
    let due = table.due(100 * SECOND, 10);
    due.iter().for_each(|due| drop(table.retire(due.id, 100 * SECOND)));
    assert_eq!(table.sides(id), None);
    assert_eq!(table.shows(id, 1), Showing::Yes);
    assert!(!table.released(id, 1));
}
