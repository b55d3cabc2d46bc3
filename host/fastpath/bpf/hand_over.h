// SPDX-License-Identifier: Apache-2.0
//
// A flow goes over from user space to the cache, and no packet overtakes another: what is punted of
// the flow is counted here, what has left user space again is counted there, and the entry carries
// packets once both agree. Until then it waits, and packets go the old way: all to the queue of the
// first, whichever CPU their sender is on by now, since the worker of another queue may be quicker.

#ifndef HAND_OVER_H
#define HAND_OVER_H

#include "punt.h"

// Punts a packet that is to be in order with later ones of its flow; `queue` is for the first.
static __always_inline int punt_noted(struct __sk_buff *skb, __u32 port, __u32 why, __u32 queue,
				      void *punted, const void *key)
{
	struct punted first = { .packets = 1, .queue = queue };
	struct punted *known = bpf_map_lookup_elem(punted, key);
	int verdict = punt_to(skb, port, why, known ? known->queue : queue);

	if (verdict != TC_ACT_REDIRECT)
		return verdict;
	if (!known && bpf_map_update_elem(punted, key, &first, BPF_NOEXIST))
		known = bpf_map_lookup_elem(punted, key); // another CPU was first
	if (known)
		__sync_fetch_and_add(&known->packets, 1);
	return verdict;
}

// Whether an entry that waits for `number` carries packets from this one on. If it is unknown how
// many were punted, user space has to force it.
static __always_inline int go_over(struct entry *entry, __u32 number, __u32 generation,
				   void *punted, const void *key)
{
	struct slot *slot = bpf_map_lookup_elem(&slots, &number);
	struct punted *known = bpf_map_lookup_elem(punted, key);

	if (!slot || slot->generation != generation)
		return 0;
	if (!known || known->packets != *(volatile __u32 *)&slot->left) {
		if (!*(volatile __u32 *)&slot->force)
			return slot->over; // another CPU may just have been here
		count(FORCED);
	}
	entry->slot = 0;
	slot->over = 1;
	bpf_map_delete_elem(punted, key);
	return 1;
}

#endif
