//! Captures of a host whose workers have every packet.

use std::fs;
use std::path::Path;

use millrace_filter::testing::capture;
use pcap_file::pcapng::{Block, PcapNgReader};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::bed::Bed;

#[test]
fn a_capture_that_is_interrupted_has_what_passed_and_ends_with_statistics() {
    let Some(bed) = Bed::new(2) else { return };
    let [a, b] = &bed.pods[..] else { unreachable!("there are two") };
    let host = bed.run(&["--filter=bridge"]);
    let file = bed.path("capture.pcapng");
    let path = file.display().to_string();
    let mut child = host.command(&["capture", "-w", &path, "icmp", "or", "arp"]).spawn().unwrap();
    // it has begun when the section has
    let holds = |bytes: u64| {
        let file = &file;
        move |_: &Value| fs::metadata(file).is_ok_and(|file| file.len() >= bytes)
    };
    host.until(&["status"], holds(1));
    let refused = host.refuses(&["capture", "-c", "1"]);
    assert!(refused.contains("one capture or live trace is there at a time"), "{refused}");
    let wrong = host.refuses(&["capture", "prot", "80"]);
    assert!(wrong.contains("`prot`: it is no term"), "{wrong}");

    assert!(a.pings(b));
    host.until(&["status"], holds(600));
    kill_process(Pid::from_child(&child), Signal::INT).expect("it is not reaped yet");
    assert!(child.wait().expect("it is a child").success());

    let packets = capture::read(&file).expect("it is whole");
    let from = |port: &str| packets.iter().filter(|packet| &*packet.interface == port).count();
    assert!(from("veth-a") >= 1 && from("veth-b") >= 1, "{packets:?}");
    assert_eq!(statistics(&file), 2, "one for each interface");
    // the next one may begin
    let mut child = host.command(&["capture", "-c", "1"]).spawn().unwrap();
    while child.try_wait().expect("it is a child").is_none() {
        assert!(a.pings(b));
    }
    assert!(child.wait().expect("it is a child").success());
}

/// Blocks of statistics in a capture.
fn statistics(file: &Path) -> usize {
    let bytes = fs::read(file).expect("it is there");
    let mut reader = PcapNgReader::new(&bytes[..]).expect("it is a capture");
    let mut count = 0;
    while let Some(block) = reader.next_block() {
        count += usize::from(matches!(block.expect("it is whole"), Block::InterfaceStatistics(_)));
    }
    count
}
