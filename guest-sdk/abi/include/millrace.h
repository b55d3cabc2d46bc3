/* SPDX-License-Identifier: Apache-2.0
 *
 * The contract between the millrace host and its filters, for guests in C.
 * Written by `cargo run -p millrace-abi --example c_header`; see ABI.md.
 */
#ifndef MILLRACE_H
#define MILLRACE_H

#include <stddef.h>
#include <stdint.h>

#define MILLRACE_ABI_VERSION 1
#define MILLRACE_MAX_BATCH 0x100
#define MILLRACE_MAX_TAGS 8
#define MILLRACE_HISTOGRAM_BUCKETS 32
#define MILLRACE_CONTROL_CONTINUE 0
#define MILLRACE_CONTROL_DROP 1
#define MILLRACE_CONTROL_REJECT 2
#define MILLRACE_FIELD_EGRESS 1
#define MILLRACE_FIELD_FLOOD 2
#define MILLRACE_FIELD_TO 4
#define MILLRACE_FIELD_AS 8
#define MILLRACE_FIELD_MASQUERADE 16
#define MILLRACE_FIELD_NEXT_HOP 32
#define MILLRACE_FIELD_DECREMENT_TTL 64
#define MILLRACE_FIELD_INSPECT 128
#define MILLRACE_FIELD_IDLE 0x100
#define MILLRACE_FIELD_REVALIDATE 0x200
#define MILLRACE_FIELD_ONCE 0x400
#define MILLRACE_FIELD_PICK_AGAIN 0x800
#define MILLRACE_PACKET_PASS 0
#define MILLRACE_PACKET_DROP 1
#define MILLRACE_PACKET_ANSWER 2
#define MILLRACE_PACKET_FLAG_REWRITTEN 1
#define MILLRACE_PACKET_FLAG_RELEASE 2
#define MILLRACE_ORIGIN_NEW 0
#define MILLRACE_ORIGIN_REDECIDE 1
#define MILLRACE_ORIGIN_SHADOW 2
#define MILLRACE_CLASS_FLOW 0
#define MILLRACE_CLASS_ARP 1
#define MILLRACE_CLASS_ND 2
#define MILLRACE_CLASS_ICMP 3
#define MILLRACE_CLASS_FRAGMENT 4
#define MILLRACE_CLASS_OTHER_IP 5
#define MILLRACE_CLASS_NON_IP 6
#define MILLRACE_PORT_WIRE 0
#define MILLRACE_PORT_POD 1
#define MILLRACE_PORT_HOST 2
#define MILLRACE_PORT_UPLINK 3
#define MILLRACE_PORT_REMOTE 4
#define MILLRACE_SLOT_TAGGED 1
#define MILLRACE_SLOT_FIRST_FRAGMENT 2
#define MILLRACE_SLOT_LATER_FRAGMENT 4
#define MILLRACE_SLOT_OPTIONS 8
#define MILLRACE_SLOT_ICMP_ERROR 16
#define MILLRACE_TAG_SERVICE 0x10000000
#define MILLRACE_TAG_POLICY_SET 0x20000000
#define MILLRACE_TAG_IDENTITY 0x30000000
#define MILLRACE_TAG_PREFIX 0x40000000
#define MILLRACE_TAG_PORT 0x50000000
#define MILLRACE_LOG_ERROR 1
#define MILLRACE_LOG_WARN 2
#define MILLRACE_LOG_INFO 3
#define MILLRACE_LOG_DEBUG 4
#define MILLRACE_METRIC_COUNTER 1
#define MILLRACE_METRIC_GAUGE 2
#define MILLRACE_METRIC_HISTOGRAM 3
#define MILLRACE_MAP_SHARED 1
#define MILLRACE_MAP_TOUCH 2
#define MILLRACE_MAP_CONNECTIONS 4
#define MILLRACE_REASON_TRUNCATED_ETHERNET 1
#define MILLRACE_REASON_BAD_VLAN 2
#define MILLRACE_REASON_BAD_ARP 3
#define MILLRACE_REASON_TRUNCATED_IPV4 4
#define MILLRACE_REASON_BAD_IPV4_HEADER 5
#define MILLRACE_REASON_BAD_IPV4_LENGTH 6
#define MILLRACE_REASON_BAD_IPV4_CHECKSUM 7
#define MILLRACE_REASON_TRUNCATED_IPV6 8
#define MILLRACE_REASON_BAD_IPV6_HEADER 9
#define MILLRACE_REASON_BAD_IPV6_LENGTH 10
#define MILLRACE_REASON_BAD_EXTENSION_HEADERS 11
#define MILLRACE_REASON_TRUNCATED_TRANSPORT 12
#define MILLRACE_REASON_BAD_TRANSPORT 13
#define MILLRACE_REASON_BAD_ND 14
#define MILLRACE_REASON_MARTIAN 15
#define MILLRACE_REASON_MULTICAST_SOURCE 16
#define MILLRACE_REASON_TRUNCATED_FRAME 17
#define MILLRACE_REASON_BAD_FRAGMENT 18
#define MILLRACE_REASON_DENIED 32
#define MILLRACE_REASON_RATE_LIMITED 33
#define MILLRACE_REASON_SPOOFED_MAC 34
#define MILLRACE_REASON_SPOOFED_ADDRESS 35
#define MILLRACE_REASON_NO_ROUTE 36
#define MILLRACE_REASON_BLACKHOLE 37
#define MILLRACE_REASON_PROHIBITED 38
#define MILLRACE_REASON_NO_BACKEND 39
#define MILLRACE_REASON_NO_LOCAL_BACKEND 40
#define MILLRACE_REASON_NO_SERVICE 41
#define MILLRACE_REASON_SOURCE_RANGE 42
#define MILLRACE_REASON_STATION_LIMIT 43
#define MILLRACE_REASON_SAME_PORT 44
#define MILLRACE_REASON_LINK_LOCAL 45
#define MILLRACE_REASON_ISOLATED 46
#define MILLRACE_REASON_INVALID_STATE 47
#define MILLRACE_REASON_NO_DECISION 64
#define MILLRACE_REASON_FILTER_FAULT 65
#define MILLRACE_REASON_FILTER_ABSENT 66
#define MILLRACE_REASON_BAD_ANSWER 67
#define MILLRACE_REASON_NO_SUCH_PORT 68
#define MILLRACE_REASON_PORT_DOWN 69
#define MILLRACE_REASON_RING_FULL 70
#define MILLRACE_REASON_NO_FRAME 71
#define MILLRACE_REASON_TOO_BIG 72
#define MILLRACE_REASON_TTL_EXCEEDED 73
#define MILLRACE_REASON_NOTHING_TO_FLOOD 74
#define MILLRACE_REASON_UNSUPPORTED 75
#define MILLRACE_REASON_KERNEL_REFUSED 76
#define MILLRACE_REASON_VLAN_NOT_ALLOWED 77
#define MILLRACE_REASON_AGENT_DOWN 96
#define MILLRACE_REASON_NEW_FLOW_LIMIT 97
#define MILLRACE_REASON_REFUSED_FLOW 98
#define MILLRACE_REASON_PUNT_FULL 99
#define MILLRACE_REASON_CONNECTION_LIMIT 78
#define MILLRACE_REASON_CONNECTION_TABLE_FULL 79
#define MILLRACE_REASON_NO_NAT_PORT 80
#define MILLRACE_REASON_FRAGMENT_ALONE 81
#define MILLRACE_REASON_FRAGMENT_OVERLAP 82
#define MILLRACE_MAP_OK (1)
#define MILLRACE_MAP_ABSENT (0)
#define MILLRACE_MAP_FULL (-1)
#define MILLRACE_MAP_REFUSED (-2)
#define MILLRACE_EMIT_OK (1)
#define MILLRACE_EMIT_REFUSED (-2)

/* What a filter is told about a packet, or about the packet that opened a flow.
 *
 * Integers are in host (little endian) order, addresses in network order. */
struct millrace_slot {
    /* Source address; IPv4 as IPv4-mapped IPv6 (RFC 4291 section 2.5.5.2). Zero if not IP. */
    uint8_t src_addr[16];
    /* Destination address as the packet carries it, in the same form. */
    uint8_t dst_addr[16];
    /* Source port of TCP, UDP or SCTP; identifier of an ICMP echo; else 0. */
    uint16_t src_port;
    /* Destination port of TCP, UDP or SCTP; else 0. */
    uint16_t dst_port;
    /* 4 or 6; 0 if not IP. */
    uint8_t ip_version;
    /* Upper-layer protocol number, behind any IPv6 extension headers. */
    uint8_t protocol;
    /* IPv4 time to live or IPv6 hop limit. */
    uint8_t ttl;
    /* IPv4 type of service or IPv6 traffic class: DSCP and ECN. */
    uint8_t traffic_class;
    /* Ethernet source address. */
    uint8_t src_mac[6];
    /* Ethernet destination address. */
    uint8_t dst_mac[6];
    /* EtherType behind any VLAN tag. */
    uint16_t ethertype;
    /* The VLAN the frame belongs to, 1 to 4094: its tag's or, where it has none, the port's;
     * 0 if neither. */
    uint16_t vlan;
    /* The port the packet came in by. */
    uint16_t ingress;
    /* What kind of port that is: MILLRACE_PORT_*. */
    uint8_t ingress_kind;
    /* Why the filter is asked: MILLRACE_ORIGIN_*. */
    uint8_t origin;
    /* The packet's class: MILLRACE_CLASS_*. */
    uint8_t class;
    /* TCP flags, as in octet 13 of the header. */
    uint8_t tcp_flags;
    /* ICMP or ICMPv6 type. */
    uint8_t icmp_type;
    /* ICMP or ICMPv6 code. */
    uint8_t icmp_code;
    /* MILLRACE_SLOT_* bits. */
    uint16_t flags;
    /* Zero. */
    uint16_t reserved;
    /* A hash of the flow, the same for both of its directions. */
    uint32_t hash;
    /* When the batch was received: nanoseconds of a clock that never goes back. */
    uint64_t now_ns;
    /* Where the packet is going after the translations decided so far (or, of a
     * live flow, in force); dst_addr if there are none. */
    uint8_t to_addr[16];
    /* The source it will carry, where a stage has stated one; else zero. */
    uint8_t as_addr[16];
    /* Destination port to go with to_addr. */
    uint16_t to_port;
    /* Source port to go with as_addr. */
    uint16_t as_port;
    /* The egress port decided so far; 0 if none. */
    uint16_t egress;
    /* Which fields earlier stages have decided: MILLRACE_FIELD_* bits. */
    uint16_t decided;
    /* Length of the frame in bytes, without its checksum. */
    uint32_t len;
    /* Zero. */
    uint32_t reserved2;
};
_Static_assert(offsetof(struct millrace_slot, src_addr) == 0, "src_addr");
_Static_assert(offsetof(struct millrace_slot, dst_addr) == 16, "dst_addr");
_Static_assert(offsetof(struct millrace_slot, src_port) == 32, "src_port");
_Static_assert(offsetof(struct millrace_slot, dst_port) == 34, "dst_port");
_Static_assert(offsetof(struct millrace_slot, ip_version) == 36, "ip_version");
_Static_assert(offsetof(struct millrace_slot, protocol) == 37, "protocol");
_Static_assert(offsetof(struct millrace_slot, ttl) == 38, "ttl");
_Static_assert(offsetof(struct millrace_slot, traffic_class) == 39, "traffic_class");
_Static_assert(offsetof(struct millrace_slot, src_mac) == 40, "src_mac");
_Static_assert(offsetof(struct millrace_slot, dst_mac) == 46, "dst_mac");
_Static_assert(offsetof(struct millrace_slot, ethertype) == 52, "ethertype");
_Static_assert(offsetof(struct millrace_slot, vlan) == 54, "vlan");
_Static_assert(offsetof(struct millrace_slot, ingress) == 56, "ingress");
_Static_assert(offsetof(struct millrace_slot, ingress_kind) == 58, "ingress_kind");
_Static_assert(offsetof(struct millrace_slot, origin) == 59, "origin");
_Static_assert(offsetof(struct millrace_slot, class) == 60, "class");
_Static_assert(offsetof(struct millrace_slot, tcp_flags) == 61, "tcp_flags");
_Static_assert(offsetof(struct millrace_slot, icmp_type) == 62, "icmp_type");
_Static_assert(offsetof(struct millrace_slot, icmp_code) == 63, "icmp_code");
_Static_assert(offsetof(struct millrace_slot, flags) == 64, "flags");
_Static_assert(offsetof(struct millrace_slot, reserved) == 66, "reserved");
_Static_assert(offsetof(struct millrace_slot, hash) == 68, "hash");
_Static_assert(offsetof(struct millrace_slot, now_ns) == 72, "now_ns");
_Static_assert(offsetof(struct millrace_slot, to_addr) == 80, "to_addr");
_Static_assert(offsetof(struct millrace_slot, as_addr) == 96, "as_addr");
_Static_assert(offsetof(struct millrace_slot, to_port) == 112, "to_port");
_Static_assert(offsetof(struct millrace_slot, as_port) == 114, "as_port");
_Static_assert(offsetof(struct millrace_slot, egress) == 116, "egress");
_Static_assert(offsetof(struct millrace_slot, decided) == 118, "decided");
_Static_assert(offsetof(struct millrace_slot, len) == 120, "len");
_Static_assert(offsetof(struct millrace_slot, reserved2) == 124, "reserved2");
_Static_assert(sizeof(struct millrace_slot) == 128, "size");

/* What a filter decides about a flow.
 *
 * Before the call the host zeroes `control`, `tag_count`, `fields`, `reason` and `rule`,
 * which is "go on, nothing to say". What else is in it counts only where `fields` or
 * `tag_count` says so, and is what was there before. */
struct millrace_decision {
    /* Whether the flow goes on: MILLRACE_CONTROL_*. */
    uint8_t control;
    /* How many of `tags` are used, at most 8. */
    uint8_t tag_count;
    /* Which fields are stated: MILLRACE_FIELD_* bits. */
    uint16_t fields;
    /* Why, for DROP and REJECT: a MILLRACE_REASON_* that filters may state; 0 is DENIED. */
    uint16_t reason;
    /* EGRESS: the port to leave by. */
    uint16_t egress;
    /* Which of the filter's own rules decided; 0 if none. The manifest names them. */
    uint32_t rule;
    /* INSPECT: after how many packets of the flow the packet hook has seen enough; 0xffff is
     * never. */
    uint16_t inspect;
    /* TO: the new destination port; 0 keeps the packet's. */
    uint16_t to_port;
    /* AS: the new source port; 0 keeps the packet's. */
    uint16_t as_port;
    /* Zero. */
    uint16_t reserved;
    /* IDLE: milliseconds without a packet after which the flow is forgotten; the host's own
     * limit stays. */
    uint32_t idle_ms;
    /* REVALIDATE: milliseconds after which the next packet asks the chain again. */
    uint32_t revalidate_ms;
    /* Zero. */
    uint32_t reserved2;
    /* What the decision depends on; see MILLRACE_TAG_*. */
    uint32_t tags[8];
    /* TO: the new destination address, in the form of the slot's. */
    uint8_t to_addr[16];
    /* AS: the new source address. */
    uint8_t as_addr[16];
    /* NEXT_HOP: the address whose link-layer address the frame is sent to. */
    uint8_t next_hop[16];
    /* Zero. */
    uint8_t reserved3[16];
};
_Static_assert(offsetof(struct millrace_decision, control) == 0, "control");
_Static_assert(offsetof(struct millrace_decision, tag_count) == 1, "tag_count");
_Static_assert(offsetof(struct millrace_decision, fields) == 2, "fields");
_Static_assert(offsetof(struct millrace_decision, reason) == 4, "reason");
_Static_assert(offsetof(struct millrace_decision, egress) == 6, "egress");
_Static_assert(offsetof(struct millrace_decision, rule) == 8, "rule");
_Static_assert(offsetof(struct millrace_decision, inspect) == 12, "inspect");
_Static_assert(offsetof(struct millrace_decision, to_port) == 14, "to_port");
_Static_assert(offsetof(struct millrace_decision, as_port) == 16, "as_port");
_Static_assert(offsetof(struct millrace_decision, reserved) == 18, "reserved");
_Static_assert(offsetof(struct millrace_decision, idle_ms) == 20, "idle_ms");
_Static_assert(offsetof(struct millrace_decision, revalidate_ms) == 24, "revalidate_ms");
_Static_assert(offsetof(struct millrace_decision, reserved2) == 28, "reserved2");
_Static_assert(offsetof(struct millrace_decision, tags) == 32, "tags");
_Static_assert(offsetof(struct millrace_decision, to_addr) == 64, "to_addr");
_Static_assert(offsetof(struct millrace_decision, as_addr) == 80, "as_addr");
_Static_assert(offsetof(struct millrace_decision, next_hop) == 96, "next_hop");
_Static_assert(offsetof(struct millrace_decision, reserved3) == 112, "reserved3");
_Static_assert(sizeof(struct millrace_decision) == 128, "size");

/* One packet, and what the packet hook does with it.
 *
 * The host fills it and zeroes the answer; a zero answer passes the packet on. */
struct millrace_packet {
    /* Where the packet's bytes lie in guest memory, from the Ethernet header on. */
    uint32_t data;
    /* How many bytes lie there: the packet, or as much of its start as there is capacity for. */
    uint32_t len;
    /* Length of the packet in bytes. */
    uint32_t wire_len;
    /* How many bytes may be used at `data`, for packets that grow: the manifest's snap length,
     * rounded up to a multiple of 16. */
    uint32_t capacity;
    /* Which slot of the batch describes the packet. */
    uint32_t slot;
    /* Answer: MILLRACE_PACKET_*. */
    uint8_t verdict;
    /* Answer: MILLRACE_PACKET_FLAG_* bits. */
    uint8_t flags;
    /* Answer: why, for DROP; 0 is DENIED. */
    uint16_t reason;
    /* Answer: which of the filter's own rules decided; 0 if none. */
    uint32_t rule;
    /* Answer: the length of what is at `data` now, for ANSWER and REWRITTEN; 0 is `len`. */
    uint32_t new_len;
};
_Static_assert(offsetof(struct millrace_packet, data) == 0, "data");
_Static_assert(offsetof(struct millrace_packet, len) == 4, "len");
_Static_assert(offsetof(struct millrace_packet, wire_len) == 8, "wire_len");
_Static_assert(offsetof(struct millrace_packet, capacity) == 12, "capacity");
_Static_assert(offsetof(struct millrace_packet, slot) == 16, "slot");
_Static_assert(offsetof(struct millrace_packet, verdict) == 20, "verdict");
_Static_assert(offsetof(struct millrace_packet, flags) == 21, "flags");
_Static_assert(offsetof(struct millrace_packet, reason) == 22, "reason");
_Static_assert(offsetof(struct millrace_packet, rule) == 24, "rule");
_Static_assert(offsetof(struct millrace_packet, new_len) == 28, "new_len");
_Static_assert(sizeof(struct millrace_packet) == 32, "size");

/* The shape of a host map. Every opening of one map must state the same. */
struct millrace_map_shape {
    /* Bytes of a key, 1 to 64. */
    uint32_t key_len;
    /* Bytes of a value, 1 to 256. */
    uint32_t value_len;
    /* Entries at most, 1 to 1048576. */
    uint32_t capacity;
    /* Milliseconds an entry lives after it was written; 0 for ever. */
    uint32_t ttl_ms;
    /* MILLRACE_MAP_* bits. */
    uint32_t flags;
    /* Entries of one group at most, so that none crowds out the others; 0 for no such limit.
     * The group of an entry is the first two bytes of its value. */
    uint32_t quota;
    /* Zero. */
    uint64_t reserved;
};
_Static_assert(offsetof(struct millrace_map_shape, key_len) == 0, "key_len");
_Static_assert(offsetof(struct millrace_map_shape, value_len) == 4, "value_len");
_Static_assert(offsetof(struct millrace_map_shape, capacity) == 8, "capacity");
_Static_assert(offsetof(struct millrace_map_shape, ttl_ms) == 12, "ttl_ms");
_Static_assert(offsetof(struct millrace_map_shape, flags) == 16, "flags");
_Static_assert(offsetof(struct millrace_map_shape, quota) == 20, "quota");
_Static_assert(offsetof(struct millrace_map_shape, reserved) == 24, "reserved");
_Static_assert(sizeof(struct millrace_map_shape) == 32, "size");

#define MILLRACE_IMPORT(name) \
    __attribute__((import_module("millrace"), import_name(#name))) extern
#define MILLRACE_EXPORT(name) __attribute__((export_name(#name))) extern

/* What the host offers. */
MILLRACE_IMPORT(log) void millrace_log(uint32_t level, const char *text, uint32_t len);
MILLRACE_IMPORT(fail) void millrace_fail(const char *text, uint32_t len);
MILLRACE_IMPORT(now) uint64_t millrace_now(void);
MILLRACE_IMPORT(metric) int32_t millrace_metric(uint32_t kind, const char *name, uint32_t len, uint64_t *value);
MILLRACE_IMPORT(map_open) int32_t millrace_map_open(const char *name, uint32_t len, const struct millrace_map_shape *shape);
MILLRACE_IMPORT(map_get) int32_t millrace_map_get(int32_t map, const void *key, void *value);
MILLRACE_IMPORT(map_set) int32_t millrace_map_set(int32_t map, const void *key, const void *value);
MILLRACE_IMPORT(map_remove) int32_t millrace_map_remove(int32_t map, const void *key);
MILLRACE_IMPORT(map_add) int32_t millrace_map_add(int32_t map, const void *key, int64_t delta, uint64_t *out);
MILLRACE_IMPORT(map_exchange) int32_t millrace_map_exchange(int32_t map, const void *key, const void *expected, const void *value);
MILLRACE_IMPORT(map_get_all) int32_t millrace_map_get_all(int32_t map, uint32_t n, const void *keys, void *values, uint8_t *found);
MILLRACE_IMPORT(map_exchange_all) int32_t millrace_map_exchange_all(int32_t map, uint32_t n, const void *keys, const uint8_t *found, const void *expected, const void *values, int8_t *done);
MILLRACE_IMPORT(emit) int32_t millrace_emit(uint32_t port, const void *frame, uint32_t len);

/* What a module exports; leave out the hooks it does not have. */
MILLRACE_EXPORT(millrace_alloc) void *millrace_alloc(uint32_t len);
MILLRACE_EXPORT(millrace_configure) int32_t millrace_configure(const char *json, uint32_t len);
MILLRACE_EXPORT(millrace_update) int32_t millrace_update(const void *changes, uint32_t len);
MILLRACE_EXPORT(millrace_flow) int32_t millrace_flow(const struct millrace_slot *slots, struct millrace_decision *decisions, uint32_t n);
MILLRACE_EXPORT(millrace_packet) int32_t millrace_packet(const struct millrace_slot *slots, struct millrace_packet *packets, uint32_t n);
MILLRACE_EXPORT(millrace_tick) int32_t millrace_tick(uint64_t now_ns);

/* Puts the manifest, a string literal of JSON, where the host looks for it. In assembly:
 * older compilers put a variable among the data, whatever section it asks for. */
#define MILLRACE_MANIFEST(json) \
    __asm__(".section .custom_section.millrace,\"\",@\n.ascii " #json "\n.text\n")

#endif
