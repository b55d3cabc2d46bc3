// SPDX-License-Identifier: Apache-2.0
//
// What the flow cache's program and user space share; the other half is src/layout.rs, and both
// sides assert the same numbers. Addresses and ports of packets are in network byte order.

#ifndef FLOW_CACHE_H
#define FLOW_CACHE_H

#include <stddef.h>
#include <linux/types.h>

// One direction of a flow. `from` is the id of the port its packets come in by; or UNDERLAY, for
// those of other nodes, whichever way they come.
struct key4 {
	__u32 source, destination;
	__u16 source_port, destination_port;
	__u16 from;
	__u8 protocol, zero;
};

struct key6 {
	__u32 source[4], destination[4];
	__u16 source_port, destination_port;
	__u16 from;
	__u8 protocol, zero;
};

#define UNDERLAY 0

enum kind {
	FORWARD = 1,
	PUNT, // user space wants every packet; `egress` is the queue of the worker that has the flow
	DROP, // `egress` is the number of who has its packets dropped, by which they are counted
};

enum flags {
	TO_PEER = 1, // `egress` is a veth; its other end, in another namespace, receives
	TO_HOST = 2, // `egress` itself receives, as if by its wire
	TTL = 4,     // one hop: the TTL or hop limit goes down by one
	TRANSLATE = 8, // addresses and ports become others
	TO_TUNNEL = 16, // `egress` is the id of the port of another node, behind a tunnel
	TO_NEIGHBOUR = 32, // `egress` sends, to the neighbour that the host's routes name
};

// What was seen of a TCP direction. Written by the program alone.
enum seen {
	SEEN_MORE = 1, // anything but a bare SYN
	SEEN_FIN = 2,
	SEEN_RST = 4,
};

// What an entry of either family begins with: what decides, then what is written per packet.
struct entry {
	__u32 version;    // the same as `sealed` of the whole, unless it is being written; never 0
	__u32 generation; // of this insertion, never 0
	__u32 egress;     // an ifindex, or what the flags say
	__u16 mtu;        // largest IP packet that may take this entry
	__u8 kind, flags;
	__u8 destination_mac[6], source_mac[6];
	__u16 source_port, destination_port; // TRANSLATE: the new ones
	__u32 difference; // TRANSLATE: what the new addresses change in a checksum
	__u32 slot;       // 0, or the entry waits for the packets of its flow that were punted
	__u32 seen;
	__u32 zero;
	__u64 last_seen; // nanoseconds of CLOCK_MONOTONIC_COARSE
	__u64 packets;   // as on the wire: a super-packet counts as its segments
	__u64 bytes;
};

// `own` is the key again: the map may give the element to another flow while it is read.
struct entry4 {
	struct entry entry;
	struct key4 own;
	__u32 source, destination; // TRANSLATE: the new ones
	__u32 sealed, zero;
};

struct entry6 {
	struct entry entry;
	struct key6 own;
	__u32 source[4], destination[4]; // TRANSLATE: the new ones
	__u32 sealed, zero;
};

// Where misses go: the near end of the punt pair, and how many queues that has.
struct punt {
	__u32 ifindex, queues;
	__u64 until; // nanoseconds of CLOCK_MONOTONIC; later, nobody is there to take them
};

// How many misses of a port user space takes.
struct limit {
	__u64 interval; // nanoseconds that one is worth; 0: there is no limit
	__u64 credit;   // nanoseconds that may be spent ahead of time
	__u64 spent;    // up to when; written by the program
	__u64 refused;  // misses that were too many; written by the program
};

// Sources of one hash share what one of them has.
#define SOURCE_BITS 12

// How many of them each source has, if many send by that port.
struct share {
	__u64 interval; // as above
	__u64 credit;
};

// Where packets for a port leave, when user space sends them.
struct egress {
	__u32 ifindex; // 0: there is no such port
	__u32 flags;   // TO_PEER, TO_HOST, TO_TUNNEL, TO_NEIGHBOUR
	// TO_TUNNEL: the other end, as the kernel's helpers have it: IPv4 in host byte order
	__u32 vni, family; // 4 or 6
	__u32 remote[4];
};

// What of an uplink's packets is for pods; the rest is the host's.
struct uplink {
	__u32 port; // its id
	__u8 gateway_mac[6];
	__u16 tunnel_port;       // UDP; the tunnels between nodes are the host's
	__u32 own4;              // the node's address
	__u32 pods4, mask4;      // the first of its pods' addresses, and which bits of it count
	__u32 own6[4];
	__u32 pods6[4], mask6[4];
};

// Whose echoes are a pod's: it asked from the node's address.
struct echo {
	__u32 peer[4];
	__u16 identifier, zero;
};

// A port of an address that a Service is reached by; IPv4 as IPv4-mapped IPv6.
struct frontend {
	__u32 address[4];
	__u16 port;
	__u8 protocol, zero;
};

// What the fragments of a datagram share (RFC 791 section 3.2, RFC 8200 section 4.5); IPv4 as
// IPv4-mapped IPv6.
struct datagram {
	__u32 source[4], destination[4];
	__u32 id;
	__u8 protocol, zero[3]; // IPv4's
};

// IPv4 as IPv4-mapped IPv6.
struct address {
	__u32 words[4];
};

// Of a prefix's owner: its packets come without a tunnel, too.
#define EITHER_WAY 0x10000

// Addresses that begin alike; IPv4 as IPv4-mapped IPv6.
struct prefix {
	__u32 length; // in bits
	__u32 address[4];
};

// User space's alone: a tc filter that outlives the process, where there are no links to pin.
struct filter {
	__u32 handle;
	__u16 priority, zero;
};

// Numbers of who has packets dropped; 0 is nobody that is counted apart.
#define MOST_REFUSERS 4096

// User space's alone: who that is.
struct refuser {
	__u64 era;
	__u8 name[72];
};

// User space's alone: what it has to know of a connection to go on with it in another process.
struct name {
	__u8 bytes[40];
};

struct record {
	__u8 bytes[256];
};

// What user space and the program tell each other about an entry that waits.
struct slot {
	__u32 generation; // of the entry it is for; 0: it is nobody's
	__u32 left;       // punted packets of the flow that have left user space again
	__u32 force;      // not 0: wait no longer
	__u32 over;       // not 0: the entry carries packets. Written by the program alone
};

// What was punted of a flow since it last had an entry that carries.
struct punted {
	__u32 packets;
	__u32 queue; // of all of them
};

// A TCP direction begins to close.
struct event {
	__u8 key[40]; // a key4 or a key6
	__u32 generation;
	__u8 family; // 4 or 6
	__u8 seen;   // SEEN_FIN or SEEN_RST
	__u16 zero;
};

// What the packet begins with that changes entries, which follow.
struct changes {
	__u8 ethernet[14]; // a test run asks for it
	__u8 family;       // 4 or 6, of all of them
	__u8 zero;
};

// Entries in such a packet, at most: a test run takes no more than a page.
#define MOST_CHANGES 16

// What is loaded into r0 where a call of the kernel's may take its place.
#define CAST_PLACE 0x63617374

// What became of a packet: each is counted under exactly one of these, up to FORCED.
enum counter {
	HIT,
	MISS_UNKNOWN,
	MISS_CHANGED,  // the entry was changed while it was read
	MISS_PUNT,     // the entry says so
	MISS_WAITING,  // earlier packets of the flow are in user space
	MISS_SYN,      // a new connection over an old one's entry
	MISS_MTU,
	MISS_TTL,
	MISS_FRAGMENT,
	MISS_OPTIONS,  // IP options, extension headers
	MISS_PROTOCOL, // neither TCP nor UDP over IP
	MISS_MALFORMED,
	DROP_ENTRY,    // the entry says so
	DROP_TAGGED,   // a VLAN tag of the pod's own
	DROP_NO_PORT,  // the interface is no port (any more)
	DROP_NO_PUNT,  // a miss, and nobody to ask
	DROP_DOWN,     // a miss, and user space does not live
	DROP_LIMIT,    // a miss too many of this port
	DROP_FAILED,   // the kernel refused a change to the packet
	DROP_FORGED,   // its source belongs to no node that sends from there, or to a pod here
	RETURNED,      // user space sent it to a port
	DROP_UNTAGGED, // user space sent it without saying where
	DROP_GONE,     // it was for what is no port (any more)
	FORCED,        // beside the packet's own: a flow's packets may have changed places
	LOST_EVENTS,   // beside the packet's own: the ring buffer was full
	COUNTERS,
};

_Static_assert(sizeof(struct key4) == 16, "layout.rs: Key4");
_Static_assert(offsetof(struct key4, from) == 12, "layout.rs: Key4");
_Static_assert(sizeof(struct key6) == 40, "layout.rs: Key6");
_Static_assert(offsetof(struct key6, from) == 36, "layout.rs: Key6");
_Static_assert(sizeof(struct entry) == 72, "layout.rs: RawHead");
_Static_assert(offsetof(struct entry, mtu) == 12, "layout.rs: RawHead");
_Static_assert(offsetof(struct entry, kind) == 14, "layout.rs: RawHead");
_Static_assert(offsetof(struct entry, destination_mac) == 16, "layout.rs: RawHead");
_Static_assert(offsetof(struct entry, source_port) == 28, "layout.rs: RawHead");
_Static_assert(offsetof(struct entry, slot) == 36, "layout.rs: RawHead");
_Static_assert(offsetof(struct entry, last_seen) == 48, "layout.rs: RawHead");
_Static_assert(offsetof(struct entry, bytes) == 64, "layout.rs: RawHead");
_Static_assert(sizeof(struct entry4) == 104, "layout.rs: RawEntry<4>");
_Static_assert(offsetof(struct entry4, source) == 88, "layout.rs: RawEntry<4>");
_Static_assert(offsetof(struct entry4, sealed) == 96, "layout.rs: RawEntry<4>");
_Static_assert(sizeof(struct entry6) == 152, "layout.rs: RawEntry<16>");
_Static_assert(offsetof(struct entry6, source) == 112, "layout.rs: RawEntry<16>");
_Static_assert(offsetof(struct entry6, sealed) == 144, "layout.rs: RawEntry<16>");
_Static_assert(sizeof(struct changes) == 16, "layout.rs: BEFORE_CHANGES");
_Static_assert(offsetof(struct changes, family) == 14, "layout.rs: CHANGES_FAMILY");
_Static_assert(sizeof(struct punt) == 16, "layout.rs: RawPunt");
_Static_assert(sizeof(struct limit) == 32, "layout.rs: RawLimit");
_Static_assert(sizeof(struct share) == 16, "layout.rs: RawShare");
_Static_assert(sizeof(struct uplink) == 72, "layout.rs: RawUplink");
_Static_assert(offsetof(struct uplink, own4) == 12, "layout.rs: RawUplink");
_Static_assert(offsetof(struct uplink, own6) == 24, "layout.rs: RawUplink");
_Static_assert(sizeof(struct echo) == 20, "layout.rs: RawEcho");
_Static_assert(sizeof(struct frontend) == 20, "layout.rs: RawFrontend");
_Static_assert(sizeof(struct datagram) == 40, "pins.rs: MAPS");
_Static_assert(sizeof(struct prefix) == 20, "layout.rs: RawPrefix");
_Static_assert(sizeof(struct egress) == 32, "layout.rs: RawEgress");
_Static_assert(sizeof(struct refuser) == 80, "layout.rs: RawRefuser");
_Static_assert(sizeof(struct filter) == 8, "layout.rs: RawFilter");
_Static_assert(sizeof(struct slot) == 16, "layout.rs: RawSlot");
_Static_assert(offsetof(struct slot, over) == 12, "layout.rs: RawSlot");
_Static_assert(sizeof(struct punted) == 8, "kernel.rs: Punted");
_Static_assert(sizeof(struct event) == 48, "layout.rs: event");
_Static_assert(offsetof(struct event, generation) == 40, "layout.rs: event");
_Static_assert(offsetof(struct event, seen) == 45, "layout.rs: event");

#endif
