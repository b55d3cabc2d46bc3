//! Version 1 in numbers, written out: what is declared may grow, and none of this may change.

use std::mem::{offset_of, size_of};

use millrace_abi::names::{
    emit_status, export, import, log_level, map_flag, map_status, metric_kind,
};
use millrace_abi::{
    ABI_VERSION, Capability, Class, Control, Decision, Field, INSPECT_ALL, MapShape, Origin,
    PacketRecord, PacketVerdict, PortKind, Reason, Slot, TagKind, limits, packet_flag, slot_flag,
};

macro_rules! offsets {
    ($ty:ty, $size:literal: $($field:ident $offset:literal),+ $(,)?) => {
        assert_eq!(size_of::<$ty>(), $size);
        $(assert_eq!(offset_of!($ty, $field), $offset, stringify!($field));)+
    };
}

#[test]
fn structures_of_version_1_are_where_they_were() {
    assert_eq!(ABI_VERSION, 1);
    offsets!(Slot, 128:
        src_addr 0, dst_addr 16, src_port 32, dst_port 34, ip_version 36, protocol 37, ttl 38,
        traffic_class 39, src_mac 40, dst_mac 46, ethertype 52, vlan 54, ingress 56,
        ingress_kind 58, origin 59, class 60, tcp_flags 61, icmp_type 62, icmp_code 63, flags 64,
        hash 68, now_ns 72, to_addr 80, as_addr 96, to_port 112, as_port 114, egress 116,
        decided 118, len 120);
    offsets!(Decision, 128:
        control 0, tag_count 1, fields 2, reason 4, egress 6, rule 8, inspect 12, to_port 14,
        as_port 16, idle_ms 20, revalidate_ms 24, tags 32, to_addr 64, as_addr 80, next_hop 96);
    offsets!(PacketRecord, 32:
        data 0, len 4, wire_len 8, capacity 12, slot 16, verdict 20, flags 21, reason 22, rule 24,
        new_len 28);
    offsets!(MapShape, 32:
        key_len 0, value_len 4, capacity 8, ttl_ms 12, flags 16, quota 20);
}

#[test]
fn numbers_of_version_1_mean_what_they_meant() {
    use Field::*;
    let fields = [
        Egress,
        Flood,
        To,
        As,
        Masquerade,
        NextHop,
        DecrementTtl,
        Inspect,
        Idle,
        Revalidate,
        Once,
        PickAgain,
    ];
    for (bit, field) in fields.into_iter().enumerate() {
        assert_eq!(field as u16, 1 << bit, "{field:?}");
    }
    assert_eq!([Control::Continue, Control::Drop, Control::Reject].map(|it| it as u8), [0, 1, 2]);
    let verdicts = [PacketVerdict::Pass, PacketVerdict::Drop, PacketVerdict::Answer];
    assert_eq!(verdicts.map(|it| it as u8), [0, 1, 2]);
    assert_eq!((packet_flag::REWRITTEN, packet_flag::RELEASE, INSPECT_ALL), (1, 2, 0xffff));
    assert_eq!([Origin::New, Origin::Redecide, Origin::Shadow].map(|it| it as u8), [0, 1, 2]);
    let classes = ["flow", "arp", "nd", "icmp", "fragment", "other-ip", "non-ip"];
    let kinds = ["wire", "pod", "host", "uplink", "remote"];
    for (number, label) in classes.into_iter().enumerate() {
        assert_eq!((Class::ALL[number] as usize, Class::ALL[number].label()), (number, label));
    }
    for (number, label) in kinds.into_iter().enumerate() {
        assert_eq!(
            (PortKind::ALL[number] as usize, PortKind::ALL[number].label()),
            (number, label)
        );
    }
    use slot_flag::*;
    assert_eq!([TAGGED, FIRST_FRAGMENT, LATER_FRAGMENT, OPTIONS, ICMP_ERROR], [1, 2, 4, 8, 16]);
    let tags = ["service", "policy-set", "identity", "prefix", "port"];
    for (kind, label) in TagKind::ALL.into_iter().zip(tags) {
        assert_eq!(kind.label(), label);
    }
    let tag = |kind| millrace_abi::Tag::new(kind, 5).bits();
    assert_eq!(
        TagKind::ALL.map(tag)[..5],
        [0x1000_0005, 0x2000_0005, 0x3000_0005, 0x4000_0005, 0x5000_0005]
    );
    use {log_level as log, metric_kind as metric};
    assert_eq!([log::ERROR, log::WARN, log::INFO, log::DEBUG], [1, 2, 3, 4]);
    assert_eq!([metric::COUNTER, metric::GAUGE, metric::HISTOGRAM], [1, 2, 3]);
    assert_eq!([map_flag::SHARED, map_flag::TOUCH, map_flag::CONNECTIONS], [1, 2, 4]);
    use map_status::*;
    assert_eq!([OK, ABSENT, FULL, REFUSED], [1, 0, -1, -2]);
    assert_eq!([emit_status::OK, emit_status::REFUSED], [1, -2]);
    let reasons = [
        "denied",
        "rate-limited",
        "spoofed-mac",
        "spoofed-address",
        "no-route",
        "blackhole",
        "prohibited",
        "no-backend",
        "no-local-backend",
        "no-service",
        "source-range",
        "station-limit",
        "same-port",
        "link-local",
        "isolated",
        "invalid-state",
    ];
    for (number, label) in (32..).zip(reasons) {
        assert_eq!(Reason::stated_by_filter(number).map(Reason::label), Some(label), "{number}");
    }
    assert_eq!(Reason::stated_by_filter(0), Some(Reason::Denied));
}

#[test]
fn names_of_version_1_are_known() {
    let exports = [
        (export::MEMORY, "memory"),
        (export::ALLOC, "millrace_alloc"),
        (export::CONFIGURE, "millrace_configure"),
        (export::UPDATE, "millrace_update"),
        (export::FLOW, "millrace_flow"),
        (export::PACKET, "millrace_packet"),
        (export::TICK, "millrace_tick"),
    ];
    let imports = [
        (import::MODULE, "millrace"),
        (import::LOG, "log"),
        (import::FAIL, "fail"),
        (import::NOW, "now"),
        (import::METRIC, "metric"),
        (import::MAP_OPEN, "map_open"),
        (import::MAP_GET, "map_get"),
        (import::MAP_SET, "map_set"),
        (import::MAP_REMOVE, "map_remove"),
        (import::MAP_ADD, "map_add"),
        (import::MAP_EXCHANGE, "map_exchange"),
        (import::MAP_GET_ALL, "map_get_all"),
        (import::MAP_EXCHANGE_ALL, "map_exchange_all"),
        (import::EMIT, "emit"),
    ];
    for (is, was) in exports.into_iter().chain(imports) {
        assert_eq!(is, was);
    }
    let capabilities =
        ["drop", "reject", "redirect", "translate", "inspect", "rewrite", "emit", "share"];
    for label in capabilities {
        assert!(Capability::from_label(label).is_some(), "{label}");
    }
}

// limits of version 1 are no narrower
const _: () = {
    assert!(limits::MAX_BATCH == 256 && limits::MAX_TAGS == 8 && limits::HISTOGRAM_BUCKETS == 32);
    assert!(limits::MAX_MANIFEST >= 65_536 && limits::MAX_MODULE >= 16 << 20);
    assert!(limits::MAX_CONFIG >= 1 << 20 && limits::MAX_METRICS >= 64 && limits::MAX_MAPS >= 16);
    assert!(limits::MAX_KEY >= 64 && limits::MAX_VALUE >= 256 && limits::MAX_NAME >= 64);
    assert!(limits::MAX_MAP_ENTRIES >= 1 << 20 && limits::MAX_AT_ONCE >= 1024);
    assert!(limits::MAX_FRAME >= 9216 && limits::DEFAULT_SNAP == 2048 && limits::ALIGNMENT == 16);
};
