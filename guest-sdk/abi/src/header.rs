//! Writes the C header from the Rust declarations, so that the two cannot
//! differ. `cargo run -p millrace-abi --example c_header` prints it.

use core::fmt::{self, Write};

use crate::layout::Layout;
use crate::names::{
    MANIFEST_SECTION, emit_status, export, import, log_level, map_flag, map_status, metric_kind,
};
use crate::{
    ABI_VERSION, Class, Control, Decision, Field, MapShape, Origin, PacketRecord, PacketVerdict,
    PortKind, Reason, Slot, Tag, TagKind, limits, packet_flag, slot_flag,
};

/// Writes `millrace.h`.
///
/// # Errors
/// Only those of `out`.
pub fn write(out: &mut impl Write) -> fmt::Result {
    out.write_str(OPENING)?;
    constants(out)?;
    structure::<Slot>(out)?;
    structure::<Decision>(out)?;
    structure::<PacketRecord>(out)?;
    structure::<MapShape>(out)?;
    out.write_str(FUNCTIONS)?;
    functions(out)?;
    out.write_str("\n#endif\n")
}

fn constants(out: &mut impl Write) -> fmt::Result {
    let mut define = |name: &str, label: &str, value: u64| {
        out.write_str("#define MILLRACE_")?;
        for part in [name, label] {
            for c in part.chars() {
                out.write_char(if c == '-' { '_' } else { c.to_ascii_uppercase() })?;
            }
        }
        if value > 0xff { writeln!(out, " 0x{value:x}") } else { writeln!(out, " {value}") }
    };

    define("ABI_VERSION", "", ABI_VERSION.into())?;
    define("MAX_BATCH", "", limits::MAX_BATCH as u64)?;
    define("MAX_TAGS", "", limits::MAX_TAGS as u64)?;
    define("HISTOGRAM_BUCKETS", "", limits::HISTOGRAM_BUCKETS as u64)?;
    for control in Control::ALL {
        define("CONTROL_", control.label(), control as u64)?;
    }
    for field in Field::ALL {
        define("FIELD_", field.label(), field as u64)?;
    }
    for verdict in PacketVerdict::ALL {
        define("PACKET_", verdict.label(), verdict as u64)?;
    }
    define("PACKET_FLAG_", "rewritten", packet_flag::REWRITTEN.into())?;
    define("PACKET_FLAG_", "release", packet_flag::RELEASE.into())?;
    for (label, origin) in ["new", "redecide", "shadow"].into_iter().zip(Origin::ALL) {
        define("ORIGIN_", label, origin as u64)?;
    }
    for class in Class::ALL {
        define("CLASS_", class.label(), class as u64)?;
    }
    for kind in PortKind::ALL {
        define("PORT_", kind.label(), kind as u64)?;
    }
    define("SLOT_", "tagged", slot_flag::TAGGED.into())?;
    define("SLOT_", "first-fragment", slot_flag::FIRST_FRAGMENT.into())?;
    define("SLOT_", "later-fragment", slot_flag::LATER_FRAGMENT.into())?;
    define("SLOT_", "options", slot_flag::OPTIONS.into())?;
    define("SLOT_", "icmp-error", slot_flag::ICMP_ERROR.into())?;
    for kind in TagKind::ALL {
        define("TAG_", kind.label(), Tag::new(kind, 0).bits().into())?;
    }
    define("LOG_", "error", log_level::ERROR.into())?;
    define("LOG_", "warn", log_level::WARN.into())?;
    define("LOG_", "info", log_level::INFO.into())?;
    define("LOG_", "debug", log_level::DEBUG.into())?;
    define("METRIC_", "counter", metric_kind::COUNTER.into())?;
    define("METRIC_", "gauge", metric_kind::GAUGE.into())?;
    define("METRIC_", "histogram", metric_kind::HISTOGRAM.into())?;
    define("MAP_", "shared", map_flag::SHARED.into())?;
    define("MAP_", "touch", map_flag::TOUCH.into())?;
    define("MAP_", "connections", map_flag::CONNECTIONS.into())?;

    for reason in Reason::ALL {
        define("REASON_", reason.label(), *reason as u64)?;
    }

    for (name, value) in [
        ("MAP_OK", map_status::OK),
        ("MAP_ABSENT", map_status::ABSENT),
        ("MAP_FULL", map_status::FULL),
        ("MAP_REFUSED", map_status::REFUSED),
        ("EMIT_OK", emit_status::OK),
        ("EMIT_REFUSED", emit_status::REFUSED),
    ] {
        writeln!(out, "#define MILLRACE_{name} ({value})")?;
    }
    out.write_char('\n')
}

fn structure<T: Layout>(out: &mut impl Write) -> fmt::Result {
    comment(out, "", T::DOC)?;
    writeln!(out, "struct {} {{", T::NAME)?;
    for field in T::FIELDS {
        comment(out, "    ", field.doc)?;
        write!(out, "    uint{}_t {}", field.bits, field.name)?;
        if let Some(count) = field.count {
            write!(out, "[{count}]")?;
        }
        out.write_str(";\n")?;
    }
    out.write_str("};\n")?;
    for field in T::FIELDS {
        writeln!(
            out,
            "_Static_assert(offsetof(struct {}, {}) == {}, \"{}\");",
            T::NAME,
            field.name,
            field.offset,
            field.name
        )?;
    }
    writeln!(out, "_Static_assert(sizeof(struct {}) == {}, \"size\");\n", T::NAME, size_of::<T>())
}

fn comment(out: &mut impl Write, indent: &str, lines: &[&str]) -> fmt::Result {
    for (index, line) in lines.iter().enumerate() {
        let open = if index == 0 { "/*" } else { " *" };
        let close = if index + 1 == lines.len() { " */" } else { "" };
        writeln!(out, "{indent}{open}{line}{close}")?;
    }
    Ok(())
}

fn functions(out: &mut impl Write) -> fmt::Result {
    for (name, returns, arguments) in [
        (import::LOG, "void", "uint32_t level, const char *text, uint32_t len"),
        (import::FAIL, "void", "const char *text, uint32_t len"),
        (import::NOW, "uint64_t", "void"),
        (
            import::METRIC,
            "int32_t",
            "uint32_t kind, const char *name, uint32_t len, uint64_t *value",
        ),
        (
            import::MAP_OPEN,
            "int32_t",
            "const char *name, uint32_t len, const struct millrace_map_shape *shape",
        ),
        (import::MAP_GET, "int32_t", "int32_t map, const void *key, void *value"),
        (import::MAP_SET, "int32_t", "int32_t map, const void *key, const void *value"),
        (import::MAP_REMOVE, "int32_t", "int32_t map, const void *key"),
        (import::MAP_ADD, "int32_t", "int32_t map, const void *key, int64_t delta, uint64_t *out"),
        (
            import::MAP_EXCHANGE,
            "int32_t",
            "int32_t map, const void *key, const void *expected, const void *value",
        ),
        (
            import::MAP_GET_ALL,
            "int32_t",
            "int32_t map, uint32_t n, const void *keys, void *values, uint8_t *found",
        ),
        (
            import::MAP_EXCHANGE_ALL,
            "int32_t",
            "int32_t map, uint32_t n, const void *keys, const uint8_t *found, \
             const void *expected, const void *values, int8_t *done",
        ),
        (import::EMIT, "int32_t", "uint32_t port, const void *frame, uint32_t len"),
    ] {
        writeln!(out, "MILLRACE_IMPORT({name}) {returns} millrace_{name}({arguments});")?;
    }
    out.write_str("\n/* What a module exports; leave out the hooks it does not have. */\n")?;
    for (name, returns, arguments) in [
        (export::ALLOC, "void *", "uint32_t len"),
        (export::CONFIGURE, "int32_t ", "const char *json, uint32_t len"),
        (export::UPDATE, "int32_t ", "const void *changes, uint32_t len"),
        (
            export::FLOW,
            "int32_t ",
            "const struct millrace_slot *slots, struct millrace_decision *decisions, uint32_t n",
        ),
        (
            export::PACKET,
            "int32_t ",
            "const struct millrace_slot *slots, struct millrace_packet *packets, uint32_t n",
        ),
        (export::TICK, "int32_t ", "uint64_t now_ns"),
    ] {
        writeln!(out, "MILLRACE_EXPORT({name}) {returns}{name}({arguments});")?;
    }
    write!(
        out,
        "\n/* Puts the manifest, a string literal of JSON, where the host looks for it. In assembly:\n \
         * older compilers put a variable among the data, whatever section it asks for. */\n\
         #define MILLRACE_MANIFEST(json) \\\n    \
         __asm__(\".section .custom_section.{MANIFEST_SECTION},\\\"\\\",@\\n.ascii \" #json \
         \"\\n.text\\n\")\n"
    )
}

const OPENING: &str = "\
/* SPDX-License-Identifier: Apache-2.0
 *
 * The contract between the millrace host and its filters, for guests in C.
 * Written by `cargo run -p millrace-abi --example c_header`; see ABI.md.
 */
#ifndef MILLRACE_H
#define MILLRACE_H

#include <stddef.h>
#include <stdint.h>

";

const FUNCTIONS: &str = "\
#define MILLRACE_IMPORT(name) \\
    __attribute__((import_module(\"millrace\"), import_name(#name))) extern
#define MILLRACE_EXPORT(name) __attribute__((export_name(#name))) extern

/* What the host offers. */
";

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::String;

    /// The header that is in the repository.
    const COMMITTED: &str = include_str!("../include/millrace.h");

    #[test]
    fn the_committed_header_is_the_one_the_layouts_give() {
        let mut written = String::new();
        super::write(&mut written).expect("a String takes everything");
        assert!(
            written == COMMITTED,
            "include/millrace.h is out of date: \
             cargo run -p millrace-abi --example c_header > guest-sdk/abi/include/millrace.h"
        );
    }
}
