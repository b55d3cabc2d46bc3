// SPDX-License-Identifier: Apache-2.0
//
// The way to user space: through the punt pair, under a VLAN tag that says which port a packet came
// in by, on the queue of this CPU.

#ifndef PUNT_H
#define PUNT_H

#include <stddef.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include "fate.h"

// Spends what one miss is worth, if it is there. Two CPUs at once may pass with one's due.
static __always_inline int spend(__u64 *spent, __u64 interval, __u64 credit, __u64 now)
{
	__u64 from = *spent > now ? *spent : now;

	if (from + interval > now + credit)
		return 0;
	*spent = from + interval;
	return 1;
}

// A number of a packet's source, and of its port.
static __always_inline __u32 source(struct __sk_buff *skb, __u32 port)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u32 *ip4 = data + ETH_HLEN + offsetof(struct iphdr, saddr);
	__u32 *ip6 = data + ETH_HLEN + offsetof(struct ipv6hdr, saddr);
	__u32 hash = port * 0x85ebca6b;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if ((void *)(ip4 + 1) <= end)
			hash ^= *ip4;
	} else if ((void *)(ip6 + 4) <= end) {
		// a host has many addresses of one prefix of 64 bits
		hash ^= ip6[0] ^ ip6[1] * 0xc2b2ae35;
	}
	// the last octets are the upper bits, and change nothing below
	return hash * 0x9e3779b1 >> (32 - SOURCE_BITS);
}

// Whether user space takes one more miss of this port. Where many send by it, one of them has a
// share, so that the others' are not refused.
static __always_inline int affords(struct __sk_buff *skb, __u32 port, __u64 now)
{
	struct limit *limit = bpf_map_lookup_elem(&limits, &port);

	if (!limit || !limit->interval)
		return 1;
	struct share *share = bpf_map_lookup_elem(&shares, &port);

	if (share && share->interval) {
		__u32 from = source(skb, port);
		__u64 *of_source = bpf_map_lookup_elem(&spent, &from);

		if (of_source && !spend(of_source, share->interval, share->credit, now))
			goto refused;
	}
	if (spend(&limit->spent, limit->interval, limit->credit, now))
		return 1;
refused:
	__sync_fetch_and_add(&limit->refused, 1);
	return 0;
}

// Hands a packet to user space; `queue` is a hint.
static __always_inline int punt_to(struct __sk_buff *skb, __u32 port, __u32 why, __u32 queue)
{
	__u32 zero = 0;
	struct punt *target = bpf_map_lookup_elem(&punt_target, &zero);

	if (!target || !target->ifindex || !target->queues)
		return drop(DROP_NO_PUNT);
	__u64 now = bpf_ktime_get_ns();

	if (now > target->until)
		return drop(DROP_DOWN);
	// what user space asked for is not limited
	if (why != MISS_PUNT && why != MISS_WAITING && !affords(skb, port, now))
		return drop(DROP_LIMIT);
	if (bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), port))
		return drop(DROP_FAILED);
	skb->queue_mapping = queue % target->queues + 1;
	count(why);
	return bpf_redirect(target->ifindex, 0);
}

static __always_inline int punt(struct __sk_buff *skb, __u32 port, __u32 why)
{
	return punt_to(skb, port, why, bpf_get_smp_processor_id());
}

// Hands over a packet that may be a fragment, so that one worker gets all of its datagram, and the
// datagrams between two addresses in order: `ends` are those addresses.
static __always_inline int punt_apart(struct __sk_buff *skb, __u32 port, __u32 why,
				      const __u32 *ends, __u32 words)
{
	__u32 sum = 0;

#pragma unroll
	for (__u32 i = 0; i < words; i++)
		sum ^= ends[i];
	// the upper bits of the product depend on all of them
	return punt_to(skb, port, why, sum * 0x9e3779b1 >> 16);
}

#endif
