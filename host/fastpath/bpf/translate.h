// SPDX-License-Identifier: Apache-2.0
//
// New addresses and ports, and checksums that fit them. Super-packets and checksums that are still
// to be completed stay so. Where it is known what the checksum field holds, it is changed where it
// stands; the kernel's helper always knows.

#ifndef TRANSLATE_H
#define TRANSLATE_H

#include "parse.h"
#include "summed.h"

// The sum of an IPv4 header, whose words changed by `difference` altogether (RFC 1624, eqn. 3).
static __always_inline __u16 adjust(__u16 sum, __u32 difference)
{
	difference += (__u16)~sum;
	difference = (difference & 0xffff) + (difference >> 16);
	difference = (difference & 0xffff) + (difference >> 16);
	return ~difference;
}

// As `adjust_transport`, of a packet whose whole sum nobody keeps.
static __always_inline long adjust_in_place(struct __sk_buff *skb, const struct packet *packet,
					    const struct entry *now, __u32 field, __u32 summed)
{
	__u16 *sum = (void *)(long)skb->data + field;
	__u32 difference = now->difference;

	if ((void *)(sum + 1) > (void *)(long)skb->data_end)
		return -1;
	if (!packet->tcp && !*sum)
		return 0;
	if (summed == CHECKSUM_PARTIAL) {
		// ports are no part of the pseudo header
		*sum = ~adjust(~*sum, difference);
	} else {
		difference += (__u16)~packet->ports + (__u16)~(packet->ports >> 16);
		difference += now->source_port + now->destination_port;
		*sum = adjust(*sum, difference);
	}
	if (!packet->tcp && !*sum)
		*sum = 0xffff;
	return 0;
}

// Makes TCP's or UDP's checksum that of the new addresses and ports. The packet's place in memory
// may change.
static __always_inline long adjust_transport(struct __sk_buff *skb, const struct packet *packet,
					     const struct entry *now, __u32 offset, __u8 family,
					     __u32 summed)
{
	__u32 new_ports = now->source_port | (__u32)now->destination_port << 16;
	// a UDP checksum of 0 is none, and stays none
	__u64 flags = packet->tcp ? 0 : BPF_F_MARK_MANGLED_0;
	__u32 field = offset + (packet->tcp ? offsetof(struct tcphdr, check) : 6);

	if (summed != CHECKSUM_COMPLETE)
		return adjust_in_place(skb, packet, now, field, summed);
	long failed = bpf_l4_csum_replace(skb, field, 0, now->difference,
					  flags | BPF_F_PSEUDO_HDR);

	if (packet->ports != new_ports)
		failed |= bpf_l4_csum_replace(skb, field, packet->ports, new_ports, flags | 4);
	// IPv6 has no sum of its own in the header, so that the whole packet's stays what it was;
	// the helper took it for IPv4. Nothing to do, and no failure, if the device gave no sum.
	if (family == 6)
		bpf_csum_update(skb, now->difference);
	return failed;
}

#endif
