//! What outlives a process, and what its successor makes of it.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use millrace_fastpath::{
    Counter, Cursor, Egress, FlowCache, Left, LoadError, Protocol, RefusedBy, Refuser, Verdict,
    remove_pins,
};
use millrace_netns::Neighbour;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::bed::{
    Bed, Ends, GATEWAY_MAC, PODS, attach, index, join, key, mac, port, way,
    with_and_without_features,
};

#[test]
fn a_successor_takes_over_without_the_loss_of_a_packet() {
    const TAKE_OVERS: u32 = 20;
    with_pins(|bed, folder| {
        let mut cache = adopt(bed, folder);
        join(&mut cache, 4, Protocol::Udp, [1000, 2000]);
        let (client, server) = (bed.udp(0, 4, 1000), bed.udp(1, 4, 2000));
        let to = server.local_addr().unwrap();
        let done = AtomicBool::new(false);
        let sent = std::thread::scope(|scope| {
            let ends = Ends(&done);
            let sending = scope.spawn(|| {
                let mut sent = 0u64;
                while !done.load(Ordering::Acquire) {
                    client.send_to(b"hello", to).unwrap();
                    // each is awaited, so that none is lost for want of room
                    assert_eq!(server.recv(&mut [0; 9]).unwrap(), 5);
                    sent += 1;
                }
                sent
            });
            for _ in 0..TAKE_OVERS {
                let successor = adopt(bed, folder);
                drop(std::mem::replace(&mut cache, successor));
            }
            drop(ends);
            sending.join().unwrap()
        });
        let usage = cache.usage(&key(0, 4, Protocol::Udp, 1000, 2000)).unwrap().unwrap();
        assert_eq!(usage.packets, sent);
        assert_eq!(cache.count(Counter::Hit).unwrap(), sent, "each met one program, once");
    });
}

#[test]
fn entries_carry_packets_while_nobody_is_there() {
    with_pins(|bed, folder| {
        let mut cache = adopt(bed, folder);
        join(&mut cache, 6, Protocol::Udp, [1000, 2000]);
        let flow = key(0, 6, Protocol::Udp, 1000, 2000);
        let generation = cache.usage(&flow).unwrap().unwrap().generation;
        drop(cache);
        let (client, server) = (bed.udp(0, 6, 1000), bed.udp(1, 6, 2000));
        for _ in 0..10 {
            client.send_to(b"hello", server.local_addr().unwrap()).unwrap();
            assert_eq!(server.recv(&mut [0; 9]).unwrap(), 5);
        }

        let mut successor = adopt(bed, folder);
        let usage = successor.usage(&flow).unwrap().unwrap();
        assert_eq!((usage.packets, usage.generation), (10, generation));
        let other = key(0, 6, Protocol::Udp, 1, 1);
        let next = successor.insert(&other, &Verdict::Drop(Refuser::UNNAMED)).unwrap();
        assert!(next > generation, "{next:?} after {generation:?}");
        assert!(successor.change(&flow, generation, &Verdict::Drop(Refuser::UNNAMED)).unwrap());
    });
}

#[test]
fn what_entries_drop_is_counted_by_who_has_it_dropped_and_stays_so_for_successors() {
    with_pins(|bed, folder| {
        let mut cache = adopt(bed, folder);
        let [one, other] = [1, 2].map(|n| [n; 72]);
        let flow = |n| key(0, 4, Protocol::Udp, n, 2000);
        let say = |n| {
            bed.udp(0, 4, n).send_to(b"hello", (crate::bed::ip(1, 4), 2000)).unwrap();
        };
        let refuser = cache.refuser(&one).unwrap();
        assert_eq!(cache.refuser(&one).unwrap(), refuser, "one number for one name");
        let generation = cache.insert(&flow(1000), &Verdict::Drop(refuser)).unwrap();
        let second = cache.refuser(&other).unwrap();
        cache.insert(&flow(1001), &Verdict::Drop(second)).unwrap();
        cache.insert(&flow(1002), &Verdict::Drop(Refuser::UNNAMED)).unwrap();
        [1000, 1000, 1001, 1002].into_iter().for_each(say);
        // somebody else refuses it from now on
        assert!(cache.change(&flow(1000), generation, &Verdict::Drop(second)).unwrap());
        say(1000);
        let counted = |cache: &FlowCache| {
            let mut refused = cache.refused_by().unwrap();
            refused.sort_by_key(|(_, packets)| *packets);
            refused
        };
        let named = |by: fn([u8; 72]) -> RefusedBy| [by(one), by(other)].map(|by| (by, 2));
        let mut expected = vec![(RefusedBy::Unnamed, 1)];
        expected.extend(named(RefusedBy::Own));
        let is_expected = |cache: &FlowCache, expected: &[(RefusedBy, u64)]| {
            let refused = counted(cache);
            assert_eq!(refused.len(), expected.len(), "{refused:?}");
            assert!(expected.iter().all(|it| refused.contains(it)), "{refused:?}");
        };
        is_expected(&cache, &expected);

        // what was counted stays when an entry goes, and when the process does
        cache.remove(&[flow(1001)]).unwrap();
        drop(cache);
        say(1000);
        let mut successor = adopt(bed, folder);
        let mut expected = vec![(RefusedBy::Unnamed, 1), (RefusedBy::Predecessor(other), 3)];
        expected.push((RefusedBy::Predecessor(one), 2));
        is_expected(&successor, &expected);
        // it counts the same name apart from its predecessor's
        let anew = successor.refuser(&one).unwrap();
        assert_ne!(anew, refuser);
        successor.insert(&flow(1003), &Verdict::Drop(anew)).unwrap();
        say(1003);
        expected.push((RefusedBy::Own(one), 1));
        is_expected(&successor, &expected);
        let all = expected.iter().map(|(_, packets)| packets).sum::<u64>();
        assert_eq!(successor.count(Counter::DropEntry).unwrap(), all);
    });
}

#[test]
fn what_is_removed_leaves_no_trace() {
    with_pins(|bed, folder| {
        let mut cache = adopt(bed, folder);
        join(&mut cache, 4, Protocol::Udp, [1000, 2000]);
        drop(cache);
        let before = std::fs::read_dir(folder).unwrap().count();
        assert!(before > 3, "maps, two ports and the punt pair");
        remove_pins(folder).unwrap();
        assert!(!folder.exists());
        remove_pins(folder).unwrap();

        // the host has its packets back
        let net = bed.host.netlink().unwrap();
        net.add_address(PODS[0], "10.8.0.254/24".parse().unwrap()).unwrap();
        let mac = net.link(PODS[0]).unwrap().mac.expect("veths have one");
        let neighbour = Neighbour::permanent("eth0", "10.8.0.254".parse().unwrap(), mac);
        bed.pods[0].netlink().unwrap().add_neighbour(&neighbour).unwrap();
        let host = UdpSocket::bind("10.8.0.254:9").unwrap();
        host.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        // the kernel takes a program off its link a moment after the last file of it is gone
        let give_up = Instant::now() + Duration::from_secs(10);
        let pod = bed.udp(0, 4, 1000);
        loop {
            pod.send_to(b"hello", "10.8.0.254:9").unwrap();
            match host.recv(&mut [0; 9]) {
                Ok(length) => break assert_eq!(length, 5),
                Err(error) => assert!(Instant::now() < give_up, "{error}"),
            }
        }

        // a new one begins from nothing
        let cache = adopt(bed, folder);
        assert_eq!(cache.count(Counter::Hit).unwrap(), 0);
        assert_eq!(cache.slice(Cursor::default()).unwrap().entries, []);
    });
}

#[test]
fn a_port_that_is_not_attached_again_is_let_go() {
    with_pins(|bed, folder| {
        let mut cache = adopt(bed, folder);
        assert_eq!(cache.let_go_others().unwrap(), 0);
        drop(cache);
        let mut successor = FlowCache::load_pinned(bed.settings, folder).unwrap();
        successor.punt_to(index("punt0"), 2).unwrap();
        attach(&mut successor, 1);
        assert_eq!(successor.let_go_others().unwrap(), 1);
        assert_eq!(successor.let_go_others().unwrap(), 0);
        // and one that is detached leaves no pin
        attach(&mut successor, 0);
        assert!(successor.detach(index(PODS[0])).unwrap());
        drop(successor);
        let mut third = FlowCache::load_pinned(bed.settings, folder).unwrap();
        assert_eq!(third.let_go_others().unwrap(), 2, "a port and the punt pair");
    });
}

#[test]
fn a_link_that_was_let_go_can_be_a_port_again_at_once_while_programs_are_started() {
    with_pins(|bed, folder| {
        let mut cache = adopt(bed, folder);
        thread::scope(|scope| {
            let starting = scope.spawn(|| {
                for _ in 0..200 {
                    assert!(Command::new("true").status().unwrap().success());
                }
            });
            while !starting.is_finished() {
                assert!(cache.detach(index(PODS[0])).unwrap());
                attach(&mut cache, 0);
            }
        });
    });
}

#[test]
fn a_port_may_have_another_number_with_the_successor() {
    with_pins(|bed, folder| {
        drop(adopt(bed, folder));
        let mut cache = FlowCache::load_pinned(bed.settings, folder).unwrap();
        let links = PODS.map(index);
        // they change places, and then one has a new number
        for (link, number) in [(links[0], port(1)), (links[1], port(0))] {
            cache.attach(link, number, Egress::Peer(link)).unwrap();
        }
        drop(cache);
        let mut cache = FlowCache::load_pinned(bed.settings, folder).unwrap();
        cache.punt_to(index("punt0"), 2).unwrap();
        cache.attach(links[0], port(1), Egress::Peer(links[0])).unwrap();
        cache.attach(links[1], port(2), Egress::Peer(links[1])).unwrap();

        let mut punt_end = bed.punt_end();
        let (client, server) = (bed.udp(0, 4, 1000), bed.udp(1, 4, 2000));
        client.send_to(b"hello", server.local_addr().unwrap()).unwrap();
        let frame = punt_end.await_frame(|frame| frame.transport() == Some(17));
        assert_eq!(frame.vlan(), Some(port(1).number()));
        let wire = bed.wire();
        wire.send(&frame.to(port(0), mac(1), GATEWAY_MAC));
        wire.send(&frame.to(port(2), mac(1), GATEWAY_MAC));
        assert_eq!(server.recv(&mut [0; 9]).unwrap(), 5);
        assert_eq!(cache.count(Counter::DropGone).unwrap(), 1);
        assert_eq!(cache.count(Counter::Returned).unwrap(), 1);
    });
}

#[test]
fn what_waits_for_a_predecessor_that_has_ended_can_be_forced_over() {
    with_pins(|bed, folder| {
        let flow = key(0, 4, Protocol::Udp, 1000, 2000);
        let (client, server) = (bed.udp(0, 4, 1000), bed.udp(1, 4, 2000));
        let to = server.local_addr().unwrap();
        let mut punt_end = bed.punt_end();
        let mut cache = adopt(bed, folder);
        let slot = cache.acks().take().unwrap();
        client.send_to(b"lost", to).unwrap();
        punt_end.await_frame(|frame| frame.transport() == Some(17));
        cache.insert_waiting(&flow, way(0), &slot).unwrap();
        // as if it were killed: nothing is given back
        std::mem::forget(slot);
        drop(cache);

        let successor = adopt(bed, folder);
        client.send_to(b"late", to).unwrap();
        punt_end.await_frame(|frame| frame.transport() == Some(17));
        successor.acks().force_others();
        client.send_to(b"over", to).unwrap();
        assert_eq!(server.recv(&mut [0; 9]).unwrap(), 4);
        assert_eq!(successor.count(Counter::Forced).unwrap(), 1);
    });
}

#[test]
fn a_successor_goes_on_counting_what_a_predecessor_has_left_to_it() {
    with_pins(|bed, folder| {
        let flow = key(0, 4, Protocol::Udp, 1000, 2000);
        let (client, server) = (bed.udp(0, 4, 1000), bed.udp(1, 4, 2000));
        let to = server.local_addr().unwrap();
        let mut punt_end = bed.punt_end();
        let mut cache = adopt(bed, folder);
        let mut successor = adopt(bed, folder);
        let mut punted = |text: &[u8]| {
            client.send_to(text, to).unwrap();
            punt_end.await_frame(|frame| frame.transport() == Some(17));
        };
        let slot = cache.acks().take().unwrap();
        punted(b"one");
        cache.insert_waiting(&flow, way(0), &slot).unwrap();
        punted(b"two");
        slot.add(1);
        // the second is the successor's to send
        let _ = slot.park();
        drop(cache);

        successor.acks().look_again();
        let entry = successor.usage(&flow).unwrap().unwrap();
        let slot = successor.acks().adopt(&entry).expect("it waits");
        assert!(successor.acks().adopt(&entry).is_none(), "somebody has it");
        punted(b"three");
        slot.add(2);
        client.send_to(b"four", to).unwrap();
        assert_eq!(server.recv(&mut [0; 9]).unwrap(), 4);
        assert!(slot.is_over());
        assert_eq!(successor.count(Counter::Forced).unwrap(), 0);
        let entry = successor.usage(&flow).unwrap().unwrap();
        assert!(successor.acks().adopt(&entry).is_none(), "it waits no longer");
        assert!(successor.remove(&[flow]).unwrap() == 1);
    });
}

#[test]
fn what_is_kept_of_connections_is_there_for_a_successor() {
    with_pins(|bed, folder| {
        let mut cache = adopt(bed, folder);
        for (name, record) in [([1; 40], [1; 256]), ([2; 40], [2; 256]), ([1; 40], [3; 256])] {
            cache.keep(&name, &record).unwrap();
        }
        drop(cache);
        let mut successor = adopt(bed, folder);
        let mut kept = successor.kept().unwrap();
        kept.sort_unstable();
        assert_eq!(kept, [([1; 40], [3; 256]), ([2; 40], [2; 256])]);
        successor.drop_kept(&[1; 40]).unwrap();
        successor.drop_kept(&[1; 40]).unwrap();
        assert_eq!(successor.kept().unwrap(), [([2; 40], [2; 256])]);
        let mut numbers = successor.numbers().unwrap();
        numbers.sort_by_key(|(number, _)| *number);
        let ports = [0, 1].map(|at| (port(at), Left::Link(index(PODS[at]))));
        assert_eq!(numbers, ports);
    });
}

#[test]
fn maps_of_another_version_are_refused() {
    with_pins(|bed, folder| {
        drop(adopt(bed, folder));
        std::fs::remove_file(folder.join("flows4")).unwrap();
        std::fs::rename(folder.join("flows6"), folder.join("flows4")).unwrap();
        let outcome = FlowCache::load_pinned(bed.settings, folder).map(|_| ());
        assert!(matches!(outcome, Err(LoadError::OtherLayout("flows4"))), "{outcome:?}");
    });
}

/// Another cache on what is pinned, on both ports.
fn adopt(bed: &Bed, folder: &Path) -> FlowCache {
    let mut cache = FlowCache::load_pinned(bed.settings, folder).unwrap();
    cache.punt_to(index("punt0"), 2).unwrap();
    for at in 0..2 {
        attach(&mut cache, at);
    }
    cache
}

/// Runs a test on the host, with a folder in a BPF file system of its own.
pub(crate) fn with_pins(test: impl Fn(&Bed, &Path) + Sync) {
    with_and_without_features(|bed| {
        let files = BpfFiles::mount();
        bed.host.run(|| test(&bed, &files.0.join("cache"))).unwrap();
    });
}

struct BpfFiles(PathBuf);

impl BpfFiles {
    fn mount() -> Self {
        let name = millrace_netns::unique_name("bpffs");
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        mount("bpf", &folder, "bpf", MountFlags::empty(), None).unwrap();
        Self(folder)
    }
}

impl Drop for BpfFiles {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).unwrap();
        std::fs::remove_dir(&self.0).unwrap();
    }
}
