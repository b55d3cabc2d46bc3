//! What connections cost. In a process of its own: it is measured from outside.

use millrace_abi::{Slot, Tag, TagKind};
use millrace_dataplane::connections::{
    Connections, Endpoint, Hop, Key, Limits, Opening, Settings, Way, Zone,
};
use millrace_dataplane::verdict::{Tags, Verdict};

/// Bytes that a connection may take, all told: with an entry that waits, up to 512.
const MOST: usize = 490;

#[test]
fn a_connection_takes_no_more_than_490_bytes_with_all_that_finds_it() {
    let settings = Settings {
        limits: Limits { total: usize::MAX, per_owner: usize::MAX },
        ..Settings::default()
    };
    let before = resident();
    let table = Connections::new(settings);
    let mut opened = 0;
    // at the second count the indexes have just doubled
    for count in [100_000, 118_000] {
        for number in opened..count {
            table.open(&translated(number)).expect("no two are alike");
        }
        opened = count;
        let each = (resident() - before) / count as usize;
        println!("{each} bytes for each of {count} connections");
        assert!(each <= MOST, "{each} bytes for each of {count} connections");
        assert!(each > 400, "{each} bytes: this measures something else");
    }
    assert_eq!(table.len(), opened as usize);
}

/// A connection whose keys are far apart, and that depends on as much as one can.
fn translated(number: u32) -> Opening {
    let end = |last: u32, port| {
        let mut address = [0; 16];
        address[12..].copy_from_slice(&last.to_be_bytes());
        Endpoint { address, port }
    };
    let slot = Slot {
        src_addr: end(number, 0).address,
        dst_addr: end(1, 0).address,
        src_port: 5000,
        dst_port: 80,
        protocol: 17,
        now_ns: 1 + u64::from(number) * 1000,
        ingress: 1,
        ..Slot::ZERO
    };
    let way = Way { verdict: Verdict::OPEN, link: None, hop: Hop::Routed };
    let mut tags = Tags::default();
    for kind in [TagKind::Service, TagKind::PolicySet, TagKind::Identity, TagKind::Prefix] {
        for id in [number % 10, 10 + number % 1000] {
            assert!(tags.add(Tag::new(kind, id)));
        }
    }
    Opening {
        slot,
        zone: Zone::port(1),
        reply: Key {
            source: end(2, 8080),
            destination: end(number, 5000),
            zone: Zone::port(2),
            protocol: 17,
        },
        ways: [way; 2],
        tags,
        idle: None,
    }
}

/// Bytes of memory that the process has.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is there");
    let kilobytes = line.trim().trim_end_matches(" kB");
    kilobytes.parse::<usize>().expect("it is a number") * 1024
}
