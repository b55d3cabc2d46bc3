//! Filters that fail: whatever a guest does, the host lives, the fault is counted and named,
//! its stage acts as its terms say, and nobody else notices.

mod calls;
mod starting;
mod versions;

use millrace_abi::{Capability, Decision, Reason};
use millrace_dataplane::control::request::{Load, StageTerms};
use millrace_dataplane::counters::Fate;
use millrace_dataplane::stage::OnFault;
use millrace_filter::testing::frames;
use millrace_packet_tests::guests::{
    self, Guest, drop_flow, egress, inspect, setting_is, to_port, when,
};
use millrace_packet_tests::{Plane, load, module_as, plane};

/// The port whose flows make a guest fail.
const POISON: u16 = 666;
/// The setting with which a guest fails.
const BAD: u32 = 1;
/// The configuration with that setting, and another one.
const BADLY: &str = r#"{"n":1}"#;
const WELL: &str = r#"{"n":0}"#;

const BOTH: [OnFault; 2] = [OnFault::Open, OnFault::Closed];

/// What a guest does in the middle of a hook so that the call fails, and what that is called.
const MISDEEDS: [(&str, &str, &str); 9] = [
    ("loops for ever", "(loop $for_ever (br $for_ever))", "deadline"),
    ("panics", "unreachable", "trap"),
    ("reads outside its memory", "(drop (i32.load (i32.const -4)))", "trap"),
    ("divides by zero", "(drop (i32.div_u (i32.const 1) (i32.const 0)))", "trap"),
    ("calls without end", "(drop (call $deep (i32.const 1)))", "stack"),
    ("wants all memory there is", "(call $bomb)", "memory"),
    (
        "gives the host an address outside its memory",
        "(call $fail (i32.const -8) (i32.const 9))",
        "trap",
    ),
    ("returns an error", "(return (i32.const 7))", "refused"),
    (
        "says why it fails",
        "(call $fail (i32.const 512) (i32.const 4)) (return (i32.const 1))",
        "refused",
    ),
];

/// What those need.
const MEANS: &str = r#"
    (func $deep (param i32) (result i32)
        (i32.add (i32.const 1) (call $deep (i32.add (local.get 0) (i32.const 1)))))
    (func $bomb
        (loop $more (br_if $more (i32.ne (memory.grow (i32.const 64)) (i32.const -1))))
        unreachable)
    (data (i32.const 512) "sour")"#;

/// Answers of the flow hook that the host must not carry out, and what is wrong with them.
fn wrong_answers() -> Vec<(&'static str, String, &'static str)> {
    use std::mem::offset_of;
    let says = guests::decision;
    vec![
        (
            "a control that is none",
            says(8, offset_of!(Decision, control), 9),
            "control 9 does not exist",
        ),
        (
            "a field that is none",
            says(16, offset_of!(Decision, fields), 0x8000),
            "field bits 0x8000",
        ),
        ("the port 0", egress(0), "port 0 cannot exist"),
        ("a port above all others", egress(4095), "port 4095 cannot exist"),
        (
            "one port and all of them",
            says(16, offset_of!(Decision, fields), 0b11),
            "`egress` and `flood` exclude each other",
        ),
        ("a reason of the host's", drop_flow(Reason::FilterFault), "reason 65 is not one"),
        (
            "a reason that is none",
            drop_flow(Reason::Denied) + &says(16, offset_of!(Decision, reason), 9999),
            "reason 9999 is not one",
        ),
        (
            "more tags than there are",
            says(8, offset_of!(Decision, tag_count), 9),
            "9 tags are more",
        ),
        ("packets without a hook for them", inspect(1), "no packet hook"),
        (
            "a translation without the capability",
            says(16, offset_of!(Decision, fields), 1 << 4),
            "`masquerade` without the capability `translate`",
        ),
    ]
}

/// A bad guest's capabilities: all but one.
const MOST: [Capability; 5] = [
    Capability::Drop,
    Capability::Reject,
    Capability::Redirect,
    Capability::Inspect,
    Capability::Rewrite,
];

/// Ports `a` and `b`; all that comes in by `a` leaves by `b`, and the reverse, unless the guest
/// says otherwise: it is asked about what comes in by `a`. Behind it is one that only watches.
fn between(guest: &Guest, config: &str, on_fault: OnFault) -> Plane {
    let mut plane = plane(&["a", "b"]);
    let ingress = std::mem::offset_of!(millrace_abi::Slot, ingress);
    let other = format!("(i32.sub (i32.const 3) (i32.load16_u offset={ingress} {}))", guests::SLOT);
    let way = Guest::new().wants(&[Capability::Redirect]).flow(&guests::egress_by(&other));
    load(&mut plane, module_as("way", way.build(), ""));
    let terms = StageTerms { ports: ["a".to_owned()].into(), on_fault, ..StageTerms::default() };
    load(&mut plane, Load { terms, ..module_as("guest", guest.build(), config) });
    load(&mut plane, module_as("behind", guests::silent().build(), ""));
    plane
}

/// A guest that does `misdeed` when it meets the poison.
fn poisoned(misdeed: &str) -> Guest {
    Guest::new().wants(&[Capability::Drop]).with(MEANS).flow(&when(&to_port(POISON), misdeed))
}

/// A guest that does `misdeed` when it is configured so.
fn ill_set(misdeed: &str) -> Guest {
    Guest::new()
        .wants(&[Capability::Drop])
        .with(MEANS)
        .flow_batch(&(when(&setting_is(BAD), misdeed) + "i32.const 0"))
}

fn to(port: u16) -> Vec<u8> {
    frames::udp("10.0.0.1:1000", &format!("10.0.0.2:{port}"), b"x")
}

/// Packets of `n` flows, a burst's worth.
fn burst_from(first: u16, n: u16) -> Vec<Vec<u8>> {
    (first..first + n).map(to).collect()
}

fn ports_of(packets: &[(String, Vec<u8>)]) -> Vec<u16> {
    packets.iter().map(|(_, packet)| u16::from_be_bytes([packet[36], packet[37]])).collect()
}

/// How often the stage failed, by class, without those that never happened.
fn faults(plane: &Plane, name: &str) -> Vec<(String, u64)> {
    let faults = plane.stage(name).counters.faults;
    faults.into_iter().filter(|(_, n)| *n > 0).map(|(class, n)| (class.to_string(), n)).collect()
}

fn dropped(plane: &Plane, reason: Reason) -> u64 {
    plane.count(Fate::Dropped(reason))
}
