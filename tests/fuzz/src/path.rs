//! Packets carried by a worker, past a filter that answers what the packet tells it to: what
//! comes in well-formed leaves well-formed, in its VLAN and no longer than a port takes, and every
//! frame is back in the pool.
//!
//! The first octet of the input chooses the port, the rest is the frame. The filter takes its
//! decisions from the source MAC address, and its answers about packets from their last octets.

use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use millrace_abi::{Reason, Slot};
use millrace_dataplane::control::MemoryPlane;
use millrace_dataplane::control::request::{Load, Position, StageTerms};
use millrace_dataplane::memory_io::MemoryIo;
use millrace_dataplane::port::{PortId, Tagging, Vlans};
use millrace_dataplane::stage::OnFault;
use millrace_dataplane::worker::{Worker, WorkerSettings};
use millrace_parse::parse;
use millrace_sandbox::{Sandbox, Settings};

/// The ports, with their VLANs.
pub const PORTS: [(&str, &str); 4] = [
    ("open", "transparent"),
    ("access", "access:42"),
    ("trunk", "trunk:7+42+native:1"),
    ("other", "trunk:42"),
];

/// Carries what `input` says.
///
/// # Panics
/// If the dataplane breaks its word.
pub fn run(input: &[u8]) {
    static PLANE: LazyLock<Mutex<MemoryPlane>> = LazyLock::new(|| Mutex::new(plane()));
    let Some((&which, frame)) = input.split_first() else { return };
    let from = usize::from(which) % PORTS.len();
    let frame = frame.to_vec();
    let plane = PLANE.lock().expect("a panic ends the fuzzer, or the test");
    let left = plane.run(move |worker| carried(worker, from, &frame));
    let left = left.unwrap_or_else(|complaint| panic!("{complaint}"));

    let Some(vlan) = vlan(from, &input[1..], None) else {
        assert!(left.is_empty(), "nothing comes of a packet that may not come in");
        return;
    };
    for (to, frame) in left {
        assert!(frame.len() <= MTU + 14 + 8, "with two tags at most");
        let tagged = frame[12..14] == [0x81, 0x00] || frame[12..14] == [0x88, 0xa8];
        if tagged && VLANS[to].tagging(vlan) == Some(Tagging::Untagged) {
            // the inner of two tags is payload, and nobody takes it for the frame's own
            let inner = u16::from_be_bytes([frame[14], frame[15]]) & 0x0fff;
            assert_ne!(VLANS[to].tagging(inner), Some(Tagging::Tagged), "a hop by {frame:02x?}");
            continue;
        }
        // with a hop less, neighbour discovery is void beyond its link (RFC 4861 section 6.1)
        let found = self::vlan(to, &frame, Some(Reason::BadNd));
        assert_eq!(found, Some(vlan), "it leaves by {} as {frame:02x?}", PORTS[to].0);
    }
}

/// What leaves when `frame` comes in by the port `from`: frames, and by which ports.
fn carried(
    worker: &mut Worker<MemoryIo>,
    from: usize,
    frame: &[u8],
) -> Result<Vec<(usize, Vec<u8>)>, String> {
    // one more rejection may be sent each time
    worker.io.advance(Duration::from_millis(1));
    let free = worker.io.free();
    worker.io.feed(id(from), frame);
    while worker.round() > 0 {}
    let mut left = Vec::new();
    for to in 0..PORTS.len() {
        left.extend(worker.io.collect(id(to)).into_iter().map(|frame| (to, frame)));
    }
    match worker.io.free() {
        same if same == free => Ok(left),
        other => Err(format!("{free} frames were in the pool, and are {other} now")),
    }
}

/// The VLAN of a frame at a port; `None` if it is malformed, for another reason than the one that
/// is `excused`, or the port does not carry it.
fn vlan(port: usize, frame: &[u8], excused: Option<Reason>) -> Option<u16> {
    let mut slot = Slot::ZERO;
    match parse(frame, &mut slot) {
        Err(reason) if Some(reason) != excused => None,
        _ => VLANS[port].classify(slot.vlan),
    }
}

static VLANS: LazyLock<Vec<Vlans>> = LazyLock::new(|| vlans().collect());

fn vlans() -> impl Iterator<Item = Vlans> {
    PORTS.into_iter().map(|(_, text)| text.parse().expect("it is a set of VLANs"))
}

fn id(port: usize) -> PortId {
    PortId::new(port as u16 + 1).expect("a plane numbers its ports from 1")
}

fn plane() -> MemoryPlane {
    let sandbox = Sandbox::new(&Settings::default()).expect("the engine starts");
    let ports: Vec<_> = PORTS.into_iter().map(|(name, _)| name).zip(vlans()).collect();
    // what is remembered would make the outcome depend on what came before
    let settings = WorkerSettings { cache: false, ..WorkerSettings::default() };
    let mut plane = MemoryPlane::new(Arc::new(sandbox), &ports, settings);
    for (name, text) in [("way", WAY), ("puppet", PUPPET)] {
        let load = Load {
            name: name.to_owned(),
            module: wat::parse_str(text).expect("it is right WebAssembly text"),
            config: String::new(),
            position: Position::Last,
            terms: StageTerms { on_fault: OnFault::Open, ..StageTerms::default() },
        };
        plane.stages.load(load, &|_| None).expect("it is let in");
    }
    plane.run(|worker| {
        for port in 0..PORTS.len() {
            let held = worker.ports.get_mut(id(port)).expect("the port is there");
            held.port.completes_checksums = true;
        }
    });
    plane
}

/// Floods everything.
const WAY: &str = include_str!("way.wat");
/// Says what the packet wants it to.
const PUPPET: &str = include_str!("puppet.wat");
/// Of ports in memory.
const MTU: usize = 1500;
