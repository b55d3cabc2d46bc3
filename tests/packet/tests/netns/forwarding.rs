//! Real traffic through bridge.

use millrace_dataplane::control::Settings;
use millrace_traffic::sequence::{Sequence, SequenceSettings};

use crate::bed::{Bed, PATIENCE};

#[test]
fn pods_ping_each_other_over_both_ip_versions() {
    let bed = Bed::new(3).bridged();
    for from in &bed.pods {
        for to in &bed.pods {
            assert!(from.pings(to.address), "{} to {}", from.address, to.address);
            assert!(from.pings(to.v6()), "{} to {}", from.v6(), to.v6());
        }
    }
}

#[test]
fn f1_tcp_goes_through_whole_although_senders_leave_checksums_to_hardware() {
    let bed = Bed::new(2).bridged();
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    let data: Vec<u8> = (0..2_000_000u32).map(|n| ((n * 31) >> 3) as u8).collect();
    client.talks_to(server, server.address, &data);
}

#[test]
fn several_workers_share_the_queues_of_a_port() {
    let settings = Settings { workers: 2, ..Settings::default() };
    let bed = Bed::with(2, &settings, 2).bridged();
    let [a, b] = &bed.pods[..] else { unreachable!("there are two") };
    let server = b.udp_at(5000);
    for n in 0..64u8 {
        let client = a.udp();
        client.send_to(&[n], server.local_addr().expect("bound")).expect("there is a route");
        let mut byte = [0];
        let (_, from) = server.recv_from(&mut byte).expect("it arrives");
        assert_eq!(byte, [n]);
        server.send_to(&[n], from).expect("there is a route");
        client.recv(&mut byte).expect("the answer arrives");
    }
    assert!(a.pings(b.address) && b.pings(a.address));
}

#[test]
fn packets_of_a_flow_stay_in_order_on_several_workers_and_queues() {
    let settings = Settings { workers: 2, ..Settings::default() };
    let bed = Bed::with(2, &settings, 4).bridged();
    let [a, b] = &bed.pods[..] else { unreachable!("there are two") };
    let settings = SequenceSettings { flows: 32, patience: PATIENCE, ..Default::default() };
    let sequences = [(a.end(), b.end()), (b.end(), a.end()), (a.end_v6(), b.end_v6())]
        .map(|(from, to)| Sequence::start(from, to, settings).expect("it starts"));
    for sequence in sequences {
        assert!(sequence.await_arrivals(5_000));
        let report = sequence.stop().expect("sockets do not fail");
        assert_eq!((report.lost, report.reordered, report.duplicated), (0, 0, 0), "{report:?}");
    }
    let workers = bed.plane.workers().expect("they are there");
    assert!(workers.iter().all(|worker| worker.bursts > 0), "both had some: {workers:?}");
    assert_eq!(bed.port("p1").queues, 4);
}
