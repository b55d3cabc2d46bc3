//! Ports come and go; what others have on them stays.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use millrace_fastpath::{AttachError, Counter, Egress, FlowCache, Protocol};

use crate::bed::{Bed, PODS, attach, index, ip, join, port, with_and_without_features};

#[test]
fn two_owners_of_a_hook_do_not_remove_each_other() {
    with_and_without_features(|bed| {
        bed.run(|one, _punt_end| {
            let two = bed.cache();
            drop(one);
            passes(&bed, two);
        });
        bed.run(|one, _punt_end| {
            let two = bed.cache();
            drop(two);
            passes(&bed, one);
        });
    });
}

#[test]
fn what_a_port_receives_is_the_hosts_before_and_after() {
    with_and_without_features(|bed| {
        let own = "10.8.0.254/24".parse().unwrap();
        bed.host.netlink().unwrap().add_address(PODS[0], own).unwrap();
        let host = bed.host.run(|| UdpSocket::bind("10.8.0.254:9")).unwrap().unwrap();
        host.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let client = bed.udp(0, 4, 1000);
        let mac = bed.host.netlink().unwrap().link(PODS[0]).unwrap().mac.expect("veths have one");
        let neighbour =
            millrace_netns::Neighbour::permanent("eth0", "10.8.0.254".parse().unwrap(), mac);
        bed.pods[0].netlink().unwrap().add_neighbour(&neighbour).unwrap();
        let arrives = |word: &[u8]| {
            client.send_to(word, "10.8.0.254:9").unwrap();
            let mut bytes = [0; 9];
            let length = host.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..length], word);
        };

        arrives(b"before");
        bed.run(|mut cache, _punt_end| {
            client.send_to(b"taken", "10.8.0.254:9").unwrap();
            assert_eq!(cache.count(Counter::MissUnknown).unwrap(), 1);
            assert!(cache.detach(index(PODS[0])).unwrap());
            assert!(!cache.detach(index(PODS[0])).unwrap());
            arrives(b"detached");
            assert!(matches!(
                cache.attach(index(PODS[1]), port(2), Egress::Link(index(PODS[1]))),
                Err(AttachError::IsPort(link)) if link == index(PODS[1])
            ));
            attach(&mut cache, 0);
            client.send_to(b"taken", "10.8.0.254:9").unwrap();
            assert_eq!(cache.count(Counter::MissUnknown).unwrap(), 2);
        });
        arrives(b"dropped");
    });
}

#[test]
fn a_link_that_is_not_there_is_no_port() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, _punt_end| {
            let outcome = cache.attach(99_999, port(2), Egress::Link(99_999));
            assert!(matches!(outcome, Err(AttachError::NoSuchLink { link: 99_999, .. })));
        });
    });
}

#[test]
fn a_link_that_is_deleted_takes_its_program_along() {
    with_and_without_features(|bed| {
        bed.run(|mut cache, _punt_end| {
            let link = index(PODS[0]);
            bed.host.netlink().unwrap().delete_link(PODS[0]).unwrap();
            assert!(cache.detach(link).unwrap());
        });
    });
}

/// The cache carries a packet from pod 0 to pod 1.
fn passes(bed: &Bed, mut cache: FlowCache) {
    join(&mut cache, 4, Protocol::Udp, [1000, 2000]);
    let (client, server) = (bed.udp(0, 4, 1000), bed.udp(1, 4, 2000));
    client.send_to(b"hello", SocketAddr::new(ip(1, 4), 2000)).unwrap();
    assert_eq!(server.recv(&mut [0; 9]).unwrap(), 5);
    assert_eq!(cache.count(Counter::Hit).unwrap(), 1);
}
