// SPDX-License-Identifier: Apache-2.0
//
// The way to user space: through the punt pair, under a VLAN tag that says which port a packet came
// in by, on the queue of this CPU.

#ifndef PUNT_H
#define PUNT_H

#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include "fate.h"

// Whether user space takes one more miss of this port. Two CPUs at once may pass with one's due.
static __always_inline int affords(__u32 port, __u64 now)
{
	struct limit *limit = bpf_map_lookup_elem(&limits, &port);

	if (!limit || !limit->interval)
		return 1;
	__u64 spent = limit->spent > now ? limit->spent : now;

	if (spent + limit->interval > now + limit->credit) {
		__sync_fetch_and_add(&limit->refused, 1);
		return 0;
	}
	limit->spent = spent + limit->interval;
	return 1;
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
	if (why != MISS_PUNT && why != MISS_WAITING && !affords(port, now))
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
