// SPDX-License-Identifier: Apache-2.0
//
// Copies of packets that take an entry, for who looks on: as they came in, before they are
// rewritten. When nobody does, this is one look at an array.

#ifndef CAPTURE_H
#define CAPTURE_H

#include "parse.h"

// What user space wants to see.
struct tap {
	__u32 snap; // bytes of each packet; 0: nobody looks on
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
	__u8 key[40]; // a key4 or a key6
	__u8 family; // 4 or 6
	__u8 zero[7];
	__u8 bytes[];
};

_Static_assert(sizeof(struct tap) == 48, "captured.rs: RawTap");
_Static_assert(offsetof(struct tap, net) == 8, "captured.rs: RawTap");
_Static_assert(offsetof(struct tap, lost) == 40, "captured.rs: RawTap");
_Static_assert(sizeof(struct copy) == 72, "captured.rs: copy");
_Static_assert(offsetof(struct copy, key) == 24, "captured.rs: copy");
_Static_assert(offsetof(struct copy, family) == 64, "captured.rs: copy");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tap);
} taps SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 2 * 1024 * 1024);
} copies SEC(".maps");

// Room for a packet's bytes: records are of one of two sizes.
#define SHORT 128
#define LONG 2048

static __always_inline int within(const struct tap *tap, const __u32 *address, __u32 words)
{
	__u32 different = 0;

#pragma unroll
	for (int i = 0; i < 4; i++)
		if (i < words)
			different |= (address[i] & tap->mask[i]) ^ tap->net[i];
	return !different;
}

static __always_inline int is_wanted(const struct tap *tap, const void *key, __u8 family)
{
	const struct key4 *four = key;
	const struct key6 *six = key;
	__u8 protocol = family == 4 ? four->protocol : six->protocol;
	__u16 from = family == 4 ? four->source_port : six->source_port;
	__u16 to = family == 4 ? four->destination_port : six->destination_port;

	if (tap->protocol && tap->protocol != protocol)
		return 0;
	if (tap->l4_port && tap->l4_port != from && tap->l4_port != to)
		return 0;
	if (!tap->family)
		return 1;
	if (tap->family != family)
		return 0;
	if (family == 4)
		return within(tap, &four->source, 1) || within(tap, &four->destination, 1);
	return within(tap, six->source, 4) || within(tap, six->destination, 4);
}

static __always_inline void copy_packet(struct __sk_buff *skb, __u32 port, struct tap *tap,
					const void *key, __u32 generation, __u8 family,
					const __u32 room)
{
	struct copy *copy = bpf_ringbuf_reserve(&copies, sizeof(*copy) + room, 0);
	__u64 length = skb->len; // as wide as a register, so that one test is about all of it

	if (!copy) {
		__sync_fetch_and_add(&tap->lost, 1);
		return;
	}
	if (length > tap->snap)
		length = tap->snap;
	if (length > room)
		length = room;
	__builtin_memset(copy, 0, sizeof(*copy));
	copy->time = bpf_ktime_get_ns();
	copy->length = skb->len;
	copy->copied = length;
	copy->generation = generation;
	copy->port = port;
	copy->family = family;
	if (family == 4)
		__builtin_memcpy(copy->key, key, sizeof(struct key4));
	else
		__builtin_memcpy(copy->key, key, sizeof(struct key6));
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

// Copies a packet that takes an entry, if somebody wants to see it.
static __always_inline void capture(struct __sk_buff *skb, __u32 port, const void *key,
				    __u32 generation, __u8 family)
{
	__u32 zero = 0;
	struct tap *tap = bpf_map_lookup_elem(&taps, &zero);

	if (!tap || !tap->snap || !is_wanted(tap, key, family))
		return;
	if (tap->snap > SHORT)
		copy_packet(skb, port, tap, key, generation, family, LONG);
	else
		copy_packet(skb, port, tap, key, generation, family, SHORT);
}

#endif
