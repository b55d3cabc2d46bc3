//! Deciding anew.

use std::num::NonZeroU32;
use std::time::Duration;

use super::*;

/// Another pod's.
const OTHER: Zone = Zone::port(3);

#[test]
fn a_connection_decided_anew_keeps_its_keys_and_counts_and_has_the_new_ways_and_tags() {
    let table = table();
    let opening = with_tags(1, &[SERVICE, POLICY]);
    let other = table.open(&with_tags(2, &[POLICY])).unwrap().id;
    let id = table.open(&opening).unwrap().id;
    answer(&table, &opening, 2 * SECOND).unwrap();
    let before = table.view(id).unwrap();

    let idle = Some(Duration::from_secs(5));
    let decided = Anew { idle, ..anew(&[POLICY, PREFIX]) };
    let replaced = table.replace(id, &decided).unwrap();
    assert_eq!((replaced.keys, replaced.revision), (before.keys, 1));
    let after = table.view(id).unwrap();
    assert_eq!((after.ways, after.idle, after.revision), (decided.ways, idle, 1));
    assert_eq!(after.labels.iter().collect::<Vec<_>>(), [port(1), port(2), POLICY, PREFIX]);
    let (ways, labels) = (before.ways, before.labels);
    assert_eq!(View { ways, idle: None, labels, revision: 0, ..after }, before);
    assert_eq!(set(table.by_tag(POLICY)), BTreeSet::from([id, other]));
    assert_eq!((table.by_tag(SERVICE), table.by_tag(PREFIX)), (vec![], vec![id]));
    assert_eq!(table.due(8 * SECOND, 9).len(), 1, "and its new length of life");
}

#[test]
fn answers_are_known_by_the_port_where_packets_go_now() {
    let table = table();
    let opening = with_tags(1, &[]);
    let id = table.open(&opening).unwrap().id;
    let before = table.replace(id, &Anew { answers: OTHER, ..anew(&[]) }).unwrap();
    assert_eq!(before.keys[1], opening.reply);
    assert_eq!(answer(&table, &opening, 2 * SECOND), None);
    let moved = Opening { reply: Key { zone: OTHER, ..opening.reply }, ..opening };
    assert_eq!(answer(&table, &moved, 2 * SECOND), Some(id));
    assert!(is_there(&table, &moved), "who opened it notices nothing");
    assert_eq!((table.by_tag(port(2)), table.by_tag(port(3))), (vec![], vec![id]));

    // what it has let go of is another one's
    let reversed = Slot { src_addr: moved.slot.dst_addr, src_port: 53, ..moved.slot };
    let reversed = Slot { dst_addr: moved.slot.src_addr, dst_port: 1, ..reversed };
    let reply = Key::of(&reversed, SERVER).reversed(OTHER);
    let own = Opening { zone: SERVER, reply, slot: reversed, ..moved };
    assert!(table.open(&own).is_ok());
}

#[test]
fn answers_that_are_another_ones_leave_all_as_it_was() {
    let table = table();
    let opening = with_tags(1, &[SERVICE]);
    let id = table.open(&opening).unwrap().id;
    let theirs = Slot { src_addr: opening.slot.dst_addr, src_port: 53, ..opening.slot };
    let theirs = Slot { dst_addr: opening.slot.src_addr, dst_port: 1, ..theirs };
    let reply = Key::of(&theirs, OTHER).reversed(Zone::port(4));
    table.open(&Opening { zone: OTHER, reply, slot: theirs, ..opening.clone() }).unwrap();
    let before = table.view(id).unwrap();
    let decided = Anew { answers: OTHER, ..anew(&[]) };
    assert_eq!(table.replace(id, &decided), Err(AnewError::AnswersTaken));
    assert_eq!(table.view(id), Some(before));
}

#[test]
fn an_entry_made_for_an_earlier_decision_is_not_taken_note_of() {
    let table = table();
    let id = table.open(&with_tags(1, &[])).unwrap().id;
    let cached =
        |entry, revision| table.cached(id, Direction::Original, NonZeroU32::new(entry), revision);
    assert!(cached(5, 0));
    let before = table.replace(id, &anew(&[])).unwrap();
    assert_eq!(before.generations, [NonZeroU32::new(5), None]);
    assert!(!cached(6, 0), "a worker had it made meanwhile");
    assert_eq!(table.view(id).unwrap().generations[0], NonZeroU32::new(5));
    assert!(cached(7, before.revision));
}

#[test]
fn what_is_gone_is_not_decided_anew() {
    let table = table();
    let opening = with_tags(1, &[]);
    let id = table.open(&opening).unwrap().id;
    let due = table.remove_port(1, 2 * SECOND);
    for answers in [SERVER, OTHER] {
        assert_eq!(table.replace(id, &Anew { answers, ..anew(&[]) }), Err(AnewError::Gone));
    }
    for due in due {
        table.retire(due.id, 2 * SECOND);
    }
    assert!(table.shards.iter().all(|shard| shard.lock().is_empty()), "no key is left behind");
}
