//! Flows that a filter looks into, behind cached ports: every packet comes to it, until it has
//! seen enough.

use std::mem::offset_of;
use std::time::Duration;

use millrace_abi::{Capability, Slot};
use millrace_packet_tests::guests::{self, Guest};
use millrace_packet_tests::module_as;
use millrace_traffic::Core;
use millrace_traffic::burst::{BurstSettings, bursts};

use crate::bed::{Bed, await_some};
use crate::cached::in_kernel;

/// Two pods whose flows go to the other one, behind a stage that does this for each packet it
/// sees, and wants to see so many.
fn inspected(packets: u16, body: &str) -> Bed {
    let bed = Bed::cached(2, Core::available().len());
    let ingress = offset_of!(Slot, ingress);
    let other = format!("(i32.sub (i32.const 3) (i32.load16_u offset={ingress} {}))", guests::SLOT);
    let guest = Guest::new()
        .wants(&[Capability::Redirect])
        .flow(&(guests::egress_by(&other) + &guests::inspect(packets)))
        .packet(body);
    bed.load(module_as("watcher", guest.build(), "{}"));
    bed
}

/// How many packets the stage saw.
fn shown(bed: &Bed) -> u64 {
    bed.stage("watcher").counters.shown
}

#[test]
fn f12_a_flow_whose_first_packets_a_filter_sees_goes_over_to_the_kernel_in_order() {
    let bed = inspected(5, "");
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    assert!(client.pings(server.address), "neighbours know each other");
    for length in [3, 20] {
        let settings = BurstSettings {
            flows: 200,
            length,
            core: Some(Core::available()[0]),
            patience: Duration::from_secs(5),
            ..BurstSettings::default()
        };
        let before = shown(&bed);
        let report = bursts(client.end(), server.end(), settings).expect("datagrams arrive");
        let fates = (report.reordered_flows, report.lost, report.surplus);
        assert_eq!(fates, (0, 0, 0), "bursts of {length}: {report:?}");
        let (seen, wanted) = (shown(&bed) - before, 200 * u64::from(length.min(5)));
        assert!((wanted..=wanted + CHATTER).contains(&seen), "{seen} of bursts of {length}");
    }
    assert!(in_kernel(&bed, "miss-punt") > 0, "they are brought to one worker meanwhile");
}

#[test]
fn a_connection_that_a_filter_releases_is_the_kernels_from_then_on() {
    // the third packet is the last one that the filter needs; the handshake alone has as many
    let bed = inspected(3, "");
    let released = inspected(u16::MAX, &guests::release());
    for bed in [&bed, &released] {
        let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
        assert!(client.pings(server.address), "neighbours know each other");
        let (before, hits) = (shown(bed), in_kernel(bed, "hit"));
        client.talks_to(server, server.address, &[7; 2_000_000]);
        let seen = shown(bed) - before;
        assert!((1..=3 + CHATTER).contains(&seen), "{seen}");
        assert!(in_kernel(bed, "hit") > hits + 20, "the kernel carries the rest");
    }
}

#[test]
fn of_a_flow_that_a_filter_never_releases_it_sees_every_packet() {
    let bed = inspected(u16::MAX, "");
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    let (from, to) = (client.udp(), server.udp_at(5000));
    let address = to.local_addr().expect("bound");
    assert!(client.pings(server.address), "neighbours know each other");
    let (hits, before) = (in_kernel(&bed, "hit"), shown(&bed));
    let mut byte = [0];
    for n in 0..50u8 {
        from.send_to(&[n], address).expect("there is a route");
        let (_, peer) = to.recv_from(&mut byte).expect("it arrives");
        assert_eq!(byte, [n]);
        to.send_to(&byte, peer).expect("there is a route");
        from.recv(&mut byte).expect("the answer arrives");
    }
    await_some(|| match shown(&bed) - before {
        100.. => Ok(()),
        fewer => Err(fewer),
    });
    assert_eq!(in_kernel(&bed, "hit"), hits);
}

/// What pods may say unasked: multicast listeners, and routers they look for.
const CHATTER: u64 = 20;
