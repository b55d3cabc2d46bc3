// SPDX-License-Identifier: Apache-2.0
//
// Copies of packets that take an entry, for those who look on: as they came in, before they are
// rewritten. A packet is copied once, whoever wants to see it. When nobody does, this is one look at
// an array.

#ifndef CAPTURE_H
#define CAPTURE_H

#include "parse.h"

// Those who look on at a time, at most.
#define MOST_TAPS 8

// What one of them wants to see.
struct tap {
	__u32 snap; // bytes of each packet; 0: it is nobody's
	__u16 l4_port; // network byte order; 0: any
	__u8 protocol; // 0: any
	__u8 family; // of `net`: 4 or 6; 0: any address
	__u32 net[4], mask[4];
	__u64 lost; // packets that there was no room for; written by the program alone
};

struct copy {
	__u64 time; // nanoseconds of CLOCK_MONOTONIC
	__u32 length; // of the packet
	__u32 copied; // bytes of it that follow
	__u32 generation; // of the entry
	__u32 port; // it came in by
	struct key6 key; // an IPv4 address is the first word
	__u8 family; // 4 or 6
	__u8 wanted; // whose it is: a bit for each tap
	__u8 zero[6];
	__u8 bytes[];
};

_Static_assert(sizeof(struct tap) == 48, "captured.rs: RawTap");
_Static_assert(offsetof(struct tap, net) == 8, "captured.rs: RawTap");
_Static_assert(offsetof(struct tap, lost) == 40, "captured.rs: RawTap");
_Static_assert(sizeof(struct copy) == 72, "captured.rs: copy");
_Static_assert(offsetof(struct copy, key) == 24, "captured.rs: copy");
_Static_assert(offsetof(struct copy, family) == 64, "captured.rs: copy");
_Static_assert(offsetof(struct copy, wanted) == 65, "captured.rs: copy");
_Static_assert(MOST_TAPS <= 8, "a copy has 8 bits for them");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MOST_TAPS);
	__type(key, __u32);
	__type(value, struct tap);
} taps SEC(".maps");

// How many of them are in use.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} tapped SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 2 * 1024 * 1024);
} copies SEC(".maps");

// Room for a packet's bytes: records are of one of two sizes.
#define SHORT 128
#define LONG 2048

// A packet, as far as it tells whether somebody wants to see it.
struct sight {
	struct key6 key; // an IPv4 address is the first word
	__u32 port; // it came in by
	__u32 generation; // of its entry
	__u32 family; // 4 or 6
};

static __always_inline int within(const struct tap *tap, const __u32 *address, __u32 words)
{
	__u32 different = 0;

#pragma unroll
	for (int i = 0; i < 4; i++)
		if (i < words)
			different |= (address[i] & tap->mask[i]) ^ tap->net[i];
	return !different;
}

// These are functions of their own, which the verifier looks at once, and not for each way that
// leads here.
__noinline int is_wanted(const struct tap *tap, const struct sight *sight)
{
	if (!tap || !sight)
		return 0;
	const struct key6 *key = &sight->key;
	__u32 words = sight->family == 4 ? 1 : 4;

	if (tap->protocol && tap->protocol != key->protocol)
		return 0;
	if (tap->l4_port && tap->l4_port != key->source_port &&
	    tap->l4_port != key->destination_port)
		return 0;
	if (!tap->family)
		return 1;
	if (tap->family != sight->family)
		return 0;
	return within(tap, key->source, words) || within(tap, key->destination, words);
}

// Counts a packet that there was no room for.
__noinline int count_lost(__u32 wanted)
{
	for (__u32 i = 0; i < MOST_TAPS; i++) {
		__u32 number = i;
		struct tap *tap;

		if (!(wanted & 1 << i))
			continue;
		tap = bpf_map_lookup_elem(&taps, &number);
		if (tap)
			__sync_fetch_and_add(&tap->lost, 1);
	}
	return 0;
}

static __always_inline void copy_packet(struct __sk_buff *skb, const struct sight *sight,
					__u32 wanted, __u32 snap, const __u32 room)
{
	struct copy *copy = bpf_ringbuf_reserve(&copies, sizeof(*copy) + room, 0);
	__u64 length = skb->len; // as wide as a register, so that one test is about all of it

	if (!copy) {
		count_lost(wanted);
		return;
	}
	if (length > snap)
		length = snap;
	if (length > room)
		length = room;
	__builtin_memset(copy, 0, sizeof(*copy));
	copy->time = bpf_ktime_get_ns();
	copy->length = skb->len;
	copy->copied = length;
	copy->generation = sight->generation;
	copy->port = sight->port;
	copy->family = sight->family;
	copy->wanted = wanted;
	copy->key = sight->key;
	// one less first: from a test for 0 the verifier of Linux 6.1 learns nothing
	length--;
	barrier_var(length);
	if (length >= room)
		goto discard;
	asm volatile("%0 += 1" : "+r"(length));
	if (bpf_skb_load_bytes(skb, 0, copy->bytes, length))
		goto discard;
	bpf_ringbuf_submit(copy, 0);
	return;
discard:
	bpf_ringbuf_discard(copy, 0);
}

// Copies a packet if somebody wants to see it: as much of it as who wants the most.
__noinline int show(struct __sk_buff *skb, const struct sight *sight)
{
	__u32 wanted = 0, snap = 0;

	if (!sight)
		return 0;
	for (__u32 i = 0; i < MOST_TAPS; i++) {
		__u32 number = i;
		struct tap *tap = bpf_map_lookup_elem(&taps, &number);

		// nobody has one that copies no byte
		if (!tap || !tap->snap || !is_wanted(tap, sight))
			continue;
		wanted |= 1 << i;
		if (tap->snap > snap)
			snap = tap->snap;
	}
	if (!wanted)
		return 0;
	if (snap > SHORT)
		copy_packet(skb, sight, wanted, snap, LONG);
	else
		copy_packet(skb, sight, wanted, snap, SHORT);
	return 0;
}

// Shows a packet that takes an entry to whoever looks on.
static __always_inline void capture(struct __sk_buff *skb, __u32 port, const void *key,
				    __u32 generation, __u8 family)
{
	__u32 zero = 0;
	__u32 *onlookers = bpf_map_lookup_elem(&tapped, &zero);

	if (!onlookers || !*onlookers)
		return;
	struct sight sight = { .port = port, .generation = generation, .family = family };

	if (family == 4) {
		const struct key4 *four = key;

		sight.key = (struct key6){
			.source = { four->source },
			.destination = { four->destination },
			.source_port = four->source_port,
			.destination_port = four->destination_port,
			.from = four->from,
			.protocol = four->protocol,
		};
	} else {
		sight.key = *(const struct key6 *)key;
	}
	show(skb, &sight);
}

#endif
