//! Many workers at once.

use std::num::NonZeroU32;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use millrace_abi::{Tag, TagKind};

use super::*;

const WORKERS: usize = 4;

fn at_once(worker: impl Fn(usize) + Sync) {
    let barrier = Barrier::new(WORKERS);
    thread::scope(|scope| {
        for number in 0..WORKERS {
            let (barrier, worker) = (&barrier, &worker);
            scope.spawn(move || {
                barrier.wait();
                worker(number);
            });
        }
    });
}

/// A connection whose keys are in different shards, as a translation has it.
fn translated(client: u32, backend: u16) -> Opening {
    let slot = slot(17, client, 53);
    let key = Key::of(&slot, CLIENT);
    let source = Endpoint { address: [9; 16], port: backend };
    let reply = Key { source, destination: key.source, zone: SERVER, protocol: 17 };
    Opening { reply, ..opening(slot) }
}

#[test]
fn of_workers_with_the_same_packet_one_opens_the_connection_and_the_others_find_it() {
    let table = table();
    let opened = AtomicUsize::new(0);
    at_once(|worker| {
        for client in 0..5000 {
            // each would translate it differently
            let opening = translated(client, worker as u16);
            match table.open(&opening) {
                Ok(_) => {
                    opened.fetch_add(1, Relaxed);
                }
                Err(error) => assert_eq!(error, OpenError::Open),
            }
            let key = Key::of(&opening.slot, CLIENT);
            let found = table.find(&key, packet(Flags::NONE, SECOND)).expect("somebody opened it");
            let [_, reply] = table.view(found.id).expect("it stays").keys;
            let back =
                table.find(&reply, packet(Flags::NONE, SECOND)).expect("both keys lead there");
            assert_eq!(back.id, found.id);
        }
    });
    assert_eq!((opened.into_inner(), table.len()), (5000, 5000));
    drain(&table);
}

#[test]
fn a_reply_key_is_never_given_to_two_connections() {
    let (table, masquerade) = (table(), Masquerade::new(1000..2000));
    let refused = AtomicUsize::new(0);
    at_once(|worker| {
        for client in 0..300 {
            let opening = translated(client + 1000 * worker as u32, 53);
            if masquerade.open(&table, opening, [8; 16]).is_err() {
                refused.fetch_add(1, Relaxed);
            }
        }
    });
    let (views, _) = table.all(Cursor::default(), usize::MAX);
    let ports: std::collections::BTreeSet<_> =
        views.iter().map(|view| view.keys[1].destination.port).collect();
    assert_eq!(ports.len(), views.len());
    assert_eq!(views.len() + refused.into_inner(), 300 * WORKERS);
    assert!(views.len() > 990, "{} of 1000 ports are in use", views.len());
}

#[test]
fn connections_that_come_and_go_at_once_leave_nothing_behind() {
    let limits = Limits { total: 300, per_owner: 300 };
    let table = Connections::new(Settings { limits, shards: 4, ..Settings::default() });
    let service = Tag::new(TagKind::Service, 1);
    let mut tags = Tags::default();
    assert!(tags.add(service));
    at_once(|worker| {
        for round in 0..20_000u64 {
            let now = SECOND + round * 10_000_000;
            let mut opening = translated((round % 97) as u32, (round % 89) as u16);
            opening.slot.now_ns = now;
            opening.tags = tags;
            let key = Key::of(&opening.slot, CLIENT);
            match (round as usize + worker) % 8 {
                0..3 => {
                    if let Ok(opened) = table.open(&opening) {
                        let generation = NonZeroU32::new(round as u32);
                        let _ = table.cached(opened.id, Direction::Original, generation, 0);
                    }
                }
                3 => {
                    if let Some(found) = table.find(&key, packet(Flags::NONE, now)) {
                        assert!(found.direction == Direction::Original);
                    }
                }
                4 => drop(table.find(&opening.reply, packet(Flags::NONE, now))),
                5 => {
                    for id in table.by_tag(service).into_iter().take(3) {
                        let _ = table.replace(id, &anew(&[]));
                    }
                }
                6 => {
                    for id in table.by_tag(service).into_iter().take(3) {
                        let mut due = table.crowd_out(id, 20, now);
                        due.extend(table.replaceable_by(id, now));
                        for due in due {
                            let _ = table.outlasts(due.id, now) || table.renew(due.id, now);
                        }
                    }
                }
                _ => {
                    let mut due = table.due(now, 10);
                    if round % 1000 == 7 {
                        due.extend(table.remove_port(1, now));
                    }
                    for due in due {
                        table.retire(due.id, now);
                    }
                }
            }
        }
    });
    drain(&table);
    let counts = table.owner(CLIENT);
    assert_eq!((counts.connections, counts.unsettled, counts.carried), (0, 0, 0));
}

/// Lets all go, and looks for what they left behind.
fn drain(table: &Connections) {
    let end = 1_000_000 * SECOND;
    for due in table.due(end, usize::MAX) {
        assert!(matches!(table.retire(due.id, end), Retirement::Retired(_)));
    }
    assert_eq!(table.len(), 0);
    for shard in &table.shards {
        assert!(shard.lock().is_empty());
    }
}
