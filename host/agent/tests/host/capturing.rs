//! Captures of a host whose workers have every packet.

use std::fs;
use std::path::Path;
use std::process::Child;

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

#[test]
fn captures_go_on_side_by_side_and_each_ends_alone_and_one_too_many_is_refused() {
    let Some(bed) = Bed::new(2) else { return };
    let [a, b] = &bed.pods[..] else { unreachable!("there are two") };
    let host = bed.run(&["--filter=bridge"]);
    // two that differ, and as many others as there can be
    let filters = [&["arp"][..], &["icmp"]].into_iter().chain([&["udp"][..]; 6]);
    let mut captures = Vec::from_iter(filters.enumerate().map(|(number, filter)| {
        let file = bed.path(&format!("capture-{number}.pcapng"));
        let path = file.display().to_string();
        let child = host.command(&[&["capture", "-w", &path], filter].concat()).spawn().unwrap();
        let begun = |_: &Value| fs::metadata(&file).is_ok_and(|file| file.len() > 0);
        host.until(&["status"], begun);
        (file, child)
    }));
    let refused = host.refuses(&["capture"]);
    assert!(refused.contains("8 captures and live traces go on"), "{refused}");

    assert!(a.pings(b));
    let end = |child: &mut Child| {
        kill_process(Pid::from_child(child), Signal::INT).expect("it is not reaped yet");
        assert!(child.wait().expect("it is a child").success());
    };
    let (arp, others) = captures.split_first_mut().expect("there are eight");
    let (icmp, idle) = others.split_first_mut().expect("there are eight");
    let size = |file: &Path| fs::metadata(file).expect("it is there").len();
    let empty = size(&idle[0].0);
    host.until(&["status"], |_| size(&arp.0) > empty);
    end(&mut arp.1);
    assert!(icmp.1.try_wait().expect("it is a child").is_none(), "it was another that ended");
    // far more than one exchange has
    let before = size(&icmp.0);
    host.until(&["status"], |_| a.pings(b) && size(&icmp.0) > before + 2000);
    end(&mut icmp.1);
    idle.iter_mut().for_each(|(_, child)| end(child));

    let of = |file: &Path| capture::read(file).expect("it is whole");
    let is_arp = |frame: &[u8]| frame[12..14] == [8, 6];
    assert!(of(&arp.0).iter().all(|packet| is_arp(&packet.frame)));
    let icmp = of(&icmp.0);
    assert!(icmp.len() > 4 && icmp.iter().all(|packet| !is_arp(&packet.frame)), "{icmp:?}");
    assert!(idle.iter().all(|(file, _)| of(file).is_empty()));
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
