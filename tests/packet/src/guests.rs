//! Small guests in WebAssembly text, for what no well-meaning filter does.
//!
//! [`Guest`] writes the module around its hooks; the functions below it write what a hook
//! does for each slot or packet, so that a test reads as what its guest does. A guest knows
//! one number: the digits of its configuration, as in `{"n": 7}`, are its setting.

use std::fmt::Write;
use std::mem::offset_of;

use millrace_abi::{
    Capability, Class, Control, Decision, Field, PacketRecord, PacketVerdict, Reason, Slot, Tag,
    TagKind, packet_flag,
};
use millrace_tables::Table;

/// A guest that is being written.
#[derive(Clone, Debug, Default)]
pub struct Guest {
    capabilities: Vec<Capability>,
    classes: Vec<Class>,
    hooks: Vec<&'static str>,
    tables: Vec<Table>,
    snap: Option<u32>,
    parts: String,
    accepts: Option<String>,
    gives: Option<String>,
}

impl Guest {
    /// A guest without hooks.
    pub fn new() -> Self {
        Self::default()
    }

    /// It wants these capabilities.
    pub fn wants(mut self, capabilities: &[Capability]) -> Self {
        self.capabilities.extend(capabilities);
        self
    }

    /// Its packet hook sees these classes.
    pub fn sees(mut self, classes: &[Class]) -> Self {
        self.classes.extend(classes);
        self
    }

    /// Its packet hook sees this many bytes of a packet.
    pub fn snap(mut self, bytes: u32) -> Self {
        self.snap = Some(bytes);
        self
    }

    /// A flow hook that does `body` for each slot.
    pub fn flow(self, body: &str) -> Self {
        self.flow_batch(&for_each(body))
    }

    /// A flow hook that does `body` once for a batch, and returns what that leaves.
    pub fn flow_batch(mut self, body: &str) -> Self {
        self.hooks.push("flow");
        self.parts += &hook("millrace_flow", body);
        self
    }

    /// A packet hook that does `body` for each packet; it wants the capability for it.
    pub fn packet(self, body: &str) -> Self {
        self.packet_batch(&for_each(body))
    }

    /// A packet hook that does `body` once for a batch, and returns what that leaves.
    pub fn packet_batch(mut self, body: &str) -> Self {
        self.hooks.push("packet");
        self.parts += &hook("millrace_packet", body);
        self.wants(&[Capability::Inspect])
    }

    /// A tick hook that does `body`, and returns what that leaves.
    pub fn tick(mut self, body: &str) -> Self {
        self.hooks.push("tick");
        self.parts +=
            &format!(r#"(func (export "millrace_tick") (param i64) (result i32) {body})"#);
        self
    }

    /// It is told these tables; an update hook that does `body` with `$len` octets at `$changes`,
    /// and returns what that leaves.
    pub fn told(mut self, tables: &[Table], body: &str) -> Self {
        self.hooks.push("update");
        self.tables.extend(tables);
        self.parts += &format!(
            r#"(func (export "millrace_update") (param $changes i32) (param $len i32)
                (result i32) {body})"#
        );
        self
    }

    /// What it returns for a configuration: what `body` leaves, 0 for yes.
    pub fn accepts(mut self, body: &str) -> Self {
        self.accepts = Some(body.to_owned());
        self
    }

    /// What its allocator returns instead of the fresh memory `$at`: what `body` leaves.
    pub fn gives(mut self, body: &str) -> Self {
        self.gives = Some(body.to_owned());
        self
    }

    /// It has a counter `slots`, which [`count`] raises.
    pub fn counts(self) -> Self {
        self.with(r#"(data (i32.const 16) "slots")"#).accepts(
            "(i64.store (i32.const 1024) (i64.const 0))
             (drop (call $metric (i32.const 1) (i32.const 16) (i32.const 5) (i32.const 1024)))
             i32.const 0",
        )
    }

    /// Another function, global or piece of data.
    pub fn with(mut self, part: &str) -> Self {
        self.parts += part;
        self
    }

    /// The module.
    ///
    /// # Panics
    /// If what was put together is no module.
    pub fn build(&self) -> Vec<u8> {
        let mut text = format!(
            "(module (@custom \"millrace\" \"{}\") {IMPORTS} {}",
            self.manifest().replace('"', "\\\""),
            if self.capabilities.contains(&Capability::Emit) { EMIT } else { "" },
        );
        let accepts = self.accepts.as_deref().unwrap_or("i32.const 0");
        let gives = self.gives.as_deref().unwrap_or("(local.get $at)");
        write!(
            text,
            "{FRAME}
             (func $accepts (result i32) {accepts})
             (func $gives (param $at i32) (param $len i32) (result i32) {gives})
             {})",
            self.parts
        )
        .expect("a String takes everything");
        wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    fn manifest(&self) -> String {
        let list = |labels: &mut dyn Iterator<Item = &str>| {
            labels.map(|label| format!("{label:?}")).collect::<Vec<_>>().join(",")
        };
        format!(
            r#"{{"abi":1,"name":"guest","snap":{},"hooks":[{}],"tables":[{}],"classes":[{}],"capabilities":[{}]}}"#,
            self.snap.unwrap_or(256),
            list(&mut self.hooks.iter().copied()),
            list(&mut self.tables.iter().map(|table| table.label())),
            list(&mut self.classes.iter().map(|class| class.label())),
            list(&mut self.capabilities.iter().map(|wanted| wanted.label())),
        )
    }
}

/// A guest that sends every flow out of `port`.
pub fn forwarder(port: u16) -> Guest {
    Guest::new().wants(&[Capability::Redirect]).flow(&egress(port))
}

/// A guest that has nothing to say.
pub fn silent() -> Guest {
    Guest::new().flow("")
}

/// `body` where `condition` holds.
pub fn when(condition: &str, body: &str) -> String {
    format!("(if {condition} (then {body}))")
}

/// Whether the guest's setting is `n`.
pub fn setting_is(n: u32) -> String {
    format!("(i32.eq (global.get $setting) (i32.const {n}))")
}

/// Whether the slot's destination port is `port`.
pub fn to_port(port: u16) -> String {
    let at = offset_of!(Slot, dst_port);
    format!("(i32.eq (i32.load16_u offset={at} {SLOT}) (i32.const {port}))")
}

/// Raises the counter of a guest that [counts](Guest::counts).
pub fn count() -> &'static str {
    "(i64.store (i32.const 1024) (i64.add (i64.load (i32.const 1024)) (i64.const 1)))"
}

/// Flow: leave by `port`.
pub fn egress(port: u16) -> String {
    egress_by(&number(port.into()))
}

/// Flow: leave by the port that `expression` says.
pub fn egress_by(expression: &str) -> String {
    stating(Field::Egress) + &store(16, DECISION, offset_of!(Decision, egress), expression)
}

/// Flow: drop for `reason`.
pub fn drop_flow(reason: Reason) -> String {
    store(8, DECISION, offset_of!(Decision, control), &number(Control::Drop as u32))
        + &store(16, DECISION, offset_of!(Decision, reason), &number(reason as u32))
}

/// Flow: depends on the service whose number `expression` is.
pub fn depends_on_service(expression: &str) -> String {
    let kind = Tag::new(TagKind::Service, 0).bits();
    let tag = format!("(i32.or (i32.const {kind}) {expression})");
    store(8, DECISION, offset_of!(Decision, tag_count), &number(1))
        + &store(32, DECISION, offset_of!(Decision, tags), &tag)
}

/// Flow: show this many packets.
pub fn inspect(packets: u16) -> String {
    stating(Field::Inspect)
        + &store(16, DECISION, offset_of!(Decision, inspect), &number(packets.into()))
}

/// Flow: the field is stated, beside those that are.
pub fn stating(field: Field) -> String {
    let at = offset_of!(Decision, fields);
    let both =
        format!("(i32.or (i32.load16_u offset={at} {DECISION}) (i32.const {}))", field as u16);
    store(16, DECISION, at, &both)
}

/// Flow: what it answers in a field of the decision, whatever that means.
pub fn decision(bits: u8, offset: usize, value: u32) -> String {
    store(bits, DECISION, offset, &number(value))
}

/// Packet: what it answers in a field of the record, whatever that means.
pub fn record(bits: u8, offset: usize, value: u32) -> String {
    store(bits, RECORD, offset, &number(value))
}

/// Packet: drop for `reason`, by `rule`.
pub fn drop_packet(reason: Reason, rule: u32) -> String {
    record(8, offset_of!(PacketRecord, verdict), PacketVerdict::Drop as u32)
        + &record(16, offset_of!(PacketRecord, reason), reason as u32)
        + &record(32, offset_of!(PacketRecord, rule), rule)
}

/// Packet: answer with the first `len` bytes; 0 for as many as were shown.
pub fn answer(len: u32) -> String {
    record(8, offset_of!(PacketRecord, verdict), PacketVerdict::Answer as u32)
        + &record(32, offset_of!(PacketRecord, new_len), len)
}

/// Packet: it was rewritten, and has `len` bytes now; 0 for as many as were shown.
pub fn rewritten(len: u32) -> String {
    flagged(packet_flag::REWRITTEN) + &record(32, offset_of!(PacketRecord, new_len), len)
}

/// Packet: no more of this flow.
pub fn release() -> String {
    flagged(packet_flag::RELEASE)
}

/// Packet: the byte at `offset` is the value of `expression` now.
pub fn write_byte(offset: usize, expression: &str) -> String {
    let data = format!("(i32.load {RECORD})");
    store(8, &data, offset, expression)
}

/// The guest's setting.
pub const SETTING: &str = "(global.get $setting)";
/// The decision about slot `$i`.
pub const DECISION: &str = "(i32.add (local.get $out) (i32.mul (local.get $i) (i32.const 128)))";
/// Slot `$i`.
pub const SLOT: &str = "(i32.add (local.get $slots) (i32.mul (local.get $i) (i32.const 128)))";
/// The record of packet `$i`.
pub const RECORD: &str = "(i32.add (local.get $out) (i32.mul (local.get $i) (i32.const 32)))";

fn flagged(flag: u8) -> String {
    let at = offset_of!(PacketRecord, flags);
    let both = format!("(i32.or (i32.load8_u offset={at} {RECORD}) (i32.const {flag}))");
    store(8, RECORD, at, &both)
}

fn number(n: u32) -> String {
    format!("(i32.const {n})")
}

/// Writes the low `bits` of an expression to `base` and `offset`.
fn store(bits: u8, base: &str, offset: usize, expression: &str) -> String {
    let width = if bits == 32 { String::new() } else { bits.to_string() };
    format!("(i32.store{width} offset={offset} {base} {expression})")
}

fn for_each(body: &str) -> String {
    format!(
        "(block $done (loop $next
            (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
            {body}
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br $next)))
        i32.const 0"
    )
}

fn hook(name: &str, body: &str) -> String {
    format!(
        r#"(func (export "{name}") (param $slots i32) (param $out i32) (param $n i32)
            (result i32) (local $i i32) {body})"#
    )
}

const IMPORTS: &str = r#"
    (import "millrace" "fail" (func $fail (param i32 i32)))
    (import "millrace" "metric" (func $metric (param i32 i32 i32 i32) (result i32)))
    (import "millrace" "map_open" (func $map_open (param i32 i32 i32) (result i32)))
    (import "millrace" "map_add" (func $map_add (param i32 i32 i64 i32) (result i32)))"#;

/// Only for guests that want the capability: others are refused with it.
const EMIT: &str = r#"(import "millrace" "emit" (func $emit (param i32 i32 i32) (result i32)))"#;

/// The parts that every guest has. The first 64 KiB are for its own data; what it gives to the
/// host lies behind.
const FRAME: &str = r#"
    (memory (export "memory") 16)
    (global $top (mut i32) (i32.const 65536))
    (global $setting (mut i32) (i32.const 0))
    (global $calls (mut i32) (i32.const 0))
    (func (export "millrace_alloc") (param $len i32) (result i32) (local $at i32)
        (local.set $at (global.get $top))
        (global.set $top (i32.and (i32.const -16)
            (i32.add (i32.add (global.get $top) (local.get $len)) (i32.const 15))))
        (call $gives (local.get $at) (local.get $len)))
    (func (export "millrace_configure") (param $json i32) (param $len i32) (result i32)
        (local $digit i32)
        (global.set $setting (i32.const 0))
        (block $done (loop $next
            (br_if $done (i32.eqz (local.get $len)))
            (local.set $digit (i32.sub (i32.load8_u (local.get $json)) (i32.const 48)))
            (if (i32.lt_u (local.get $digit) (i32.const 10)) (then
                (global.set $setting
                    (i32.add (i32.mul (global.get $setting) (i32.const 10)) (local.get $digit)))))
            (local.set $json (i32.add (local.get $json) (i32.const 1)))
            (local.set $len (i32.sub (local.get $len) (i32.const 1)))
            (br $next)))
        (call $accepts))"#;
