// SPDX-License-Identifier: Apache-2.0
//
// New addresses and ports, and checksums that fit them. Super-packets and checksums that are still
// to be completed stay so: the kernel's helper knows what the checksum field holds.

#ifndef TRANSLATE_H
#define TRANSLATE_H

#include "parse.h"

// The sum of an IPv4 header, whose words changed by `difference` altogether (RFC 1624, eqn. 3).
static __always_inline __u16 adjust(__u16 sum, __u32 difference)
{
	difference += (__u16)~sum;
	difference = (difference & 0xffff) + (difference >> 16);
	difference = (difference & 0xffff) + (difference >> 16);
	return ~difference;
}

// Makes TCP's or UDP's checksum that of the new addresses and ports. The packet's place in memory
// may change.
static __always_inline long adjust_transport(struct __sk_buff *skb, const struct packet *packet,
					     const struct entry *now, __u32 offset, __u8 family)
{
	__u32 new_ports = now->source_port | (__u32)now->destination_port << 16;
	// a UDP checksum of 0 is none, and stays none
	__u64 flags = packet->tcp ? 0 : BPF_F_MARK_MANGLED_0;
	__u32 field = offset + (packet->tcp ? offsetof(struct tcphdr, check) : 6);
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
