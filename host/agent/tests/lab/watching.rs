//! A lab's packets that are traced and captured.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;

use millrace_filter::testing::capture;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use serde_json::Value;

use crate::bed::{Bed, MILLRACE, text, until};
use crate::talk::{ECHO, EXCHANGES, exchange};

#[test]
fn a_trace_follows_a_packet_that_nobody_sends_and_one_of_a_live_connection() {
    let Some(bed) = Bed::up() else { return };
    let (shop, _) = bed.pod("shop");
    let (_, addresses) = bed.pod("cart");
    for address in addresses {
        let server = SocketAddr::new(address, ECHO);
        let to = server.to_string();
        let ask = |more: &[&str]| {
            bed.asked("east", &[&["trace", "--from", "shop", "--to", &to], more].concat())
        };
        let traced = ask(&[]);
        assert_eq!(traced["connection"], Value::Null);
        let stages = traced["stages"].as_array().expect("the chain is asked");
        assert!(stages.iter().all(|step| step["outcome"] == "answered"), "{traced:#}");
        let ending = &traced["ending"];
        assert_eq!(ending["fate"], "forwarded", "{traced:#}");
        let port = ending["delivery"]["ports"][0].as_str().expect("it leaves");
        assert_eq!(traced["pods"][port], "default/cart");
        let carried = &ending["delivery"]["offload"];
        assert_eq!((&carried["there"], &carried["back"]), (&true.into(), &true.into()));
        let flows = bed.asked("east", &["flows", "--pod", "shop"]);
        let opened = flows["flows"].as_array().expect("a list").iter();
        assert!(!opened.clone().any(|flow| flow["original"]["destination"] == *to), "{flows:#}");

        let stream = shop.run(|| TcpStream::connect(server)).expect("it can be entered");
        let stream = stream.expect("the server listens");
        let client = stream.local_addr().expect("it is connected").port().to_string();
        let traced = ask(&["--source-port", &client]);
        assert_eq!(traced["connection"]["direction"], "original", "{traced:#}");
        assert_eq!(traced["connection"]["flow"]["original"]["destination"], to);
    }
    let nowhere = bed.asked("east", &["trace", "--from", "shop", "--to", "10.1.0.99:80"]);
    assert_eq!(nowhere["ending"]["reason"], "no-route", "{nowhere:#}");
    let output =
        bed.lab(&["exec", "node:east", "--", MILLRACE, "trace", "--from=shap", "--to=::1"]);
    assert!(text(&output.stderr).contains("`default/shop`"), "{}", text(&output.stderr));
}

#[test]
fn f11_a_capture_has_the_packets_of_the_chain_and_those_of_the_kernel_with_what_became_of_them() {
    let Some(bed) = Bed::up() else { return };
    let (shop, _) = bed.pod("shop");
    let (_, addresses) = bed.pod("cart");
    let server = SocketAddr::new(addresses[0], ECHO);
    let file = bed.manifests.path().join("capture.pcapng");
    let path = file.display().to_string();
    let filter = format!("tcp port {ECHO} and host {}", server.ip());
    let count = (2 * EXCHANGES).to_string();
    let mut capture = bed.begun("east", &["capture", "-c", &count, "-w", &path, &filter]);
    // it has begun when the section has
    until(|| fs::metadata(&file).is_ok_and(|file| file.len() > 0).then_some(()));
    let datagrams = bed.manifests.path().join("datagrams.pcapng");
    let words = ["capture", "-c", "6", "-w", &datagrams.display().to_string(), "udp", "and", "ip6"];
    let mut other = bed.begun("east", &words);
    until(|| fs::metadata(&datagrams).is_ok_and(|file| file.len() > 0).then_some(()));
    exchange(&shop, server, "default/cart");
    assert!(capture.wait().expect("it ends").success());

    // the other one goes on, and has nothing of this
    let socket = shop.run(|| UdpSocket::bind("[::]:0")).unwrap().unwrap();
    until(|| {
        let six = SocketAddr::new(addresses[1], ECHO);
        socket.send_to(b"x", six).expect("there is a route");
        other.try_wait().expect("it is ours").map(|status| assert!(status.success()))
    });
    let packets = capture::read(&datagrams).expect("it is whole");
    assert_eq!(packets.len(), 6);
    // version 6, and UDP behind its header
    assert!(packets.iter().all(|it| it.frame[14] >> 4 == 6 && it.frame[20] == 17), "{packets:?}");
    let said = self::comments(&datagrams);
    assert!(said.iter().any(|comment| comment.ends_with("carried by the kernel")), "{said:#?}");

    let packets = capture::read(&file).expect("it is whole");
    assert_eq!(packets.len() as u64, 2 * EXCHANGES);
    assert!(packets.iter().all(|packet| packet.frame.len() == packet.wire_len));
    let comments = comments(&file);
    for (words, least) in [("the chain was asked", 1), ("carried by the kernel", 2 * EXCHANGES - 5)]
    {
        let count = comments.iter().filter(|comment| comment.ends_with(words)).count() as u64;
        assert!(count >= least, "{words}: {comments:#?}");
    }
    assert!(comments.iter().all(|it| it.starts_with("forwarded by ")), "{comments:#?}");
    assert!(comments.iter().all(|it| it.contains(" by bridge, leaves by mp")), "{comments:#?}");

    // its packets pass filters again
    let mut replay = Command::new(MILLRACE);
    let replayed = replay.args(["filter", "test", "bridge", "--pcap", &path]).output().unwrap();
    assert!(replayed.status.success(), "{}", text(&replayed.stderr));
    let said = text(&replayed.stdout);
    assert!(said.contains(&format!("# {} packets", packets.len())), "{said}");
}

#[test]
fn packets_that_pass_are_traced() {
    let Some(bed) = Bed::up() else { return };
    let (shop, _) = bed.pod("shop");
    let (_, addresses) = bed.pod("cart");
    let server = SocketAddr::new(addresses[1], ECHO);
    let filter = format!("udp dst port {ECHO}");
    let words = ["trace", "--live", &filter, "-c", "1", "-o", "json"];
    let mut live = bed.begun("east", &words);
    let socket = shop.run(|| UdpSocket::bind("[::]:0")).unwrap().unwrap();
    until(|| {
        socket.send_to(b"x", server).expect("there is a route");
        live.try_wait().expect("it is ours").map(|status| assert!(status.success()))
    });
    let mut line = String::new();
    BufReader::new(live.stdout.take().expect("it is piped")).read_line(&mut line).unwrap();
    let packet: Value = serde_json::from_str(&line).expect("it is JSON");
    assert_eq!(packet["happened"]["fate"], "forwarded", "{packet:#}");
    assert_eq!(packet["packet"]["destination"], server.to_string());
    assert_eq!(packet["ending"]["fate"], "forwarded", "{packet:#}");
}

/// What a capture says of its packets.
fn comments(file: &Path) -> Vec<String> {
    let bytes = fs::read(file).expect("it is there");
    let mut reader = PcapNgReader::new(&bytes[..]).expect("it is a capture");
    let mut comments = Vec::new();
    while let Some(block) = reader.next_block() {
        if let Block::EnhancedPacket(packet) = block.expect("it is whole") {
            comments.extend(packet.options.iter().find_map(|option| match option {
                EnhancedPacketOption::Comment(comment) => Some(comment.to_string()),
                _ => None,
            }));
        }
    }
    comments
}
