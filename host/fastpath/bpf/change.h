// SPDX-License-Identifier: Apache-2.0
//
// Writes entries anew where they are, so that what was counted and seen of their flows stays. User
// space runs this on a packet that holds the new entries, since each run costs more than what it
// writes; the kernel's own update would put other elements in the old ones' places. Each is held up
// whole first, for packets that meet it half written. One writer at a time.

#ifndef CHANGE_H
#define CHANGE_H

#include "fate.h"

// Holds up an entry as it will be; `size` is up to its seal.
static __always_inline void hold_up(struct entry *held, __u32 *seal, const struct entry *new,
				    __u32 size)
{
	*(volatile __u32 *)&held->version = new->version;
	barrier();
	__builtin_memcpy(&held->generation, &new->generation,
			 size - offsetof(struct entry, generation));
	barrier();
	*(volatile __u32 *)seal = new->version;
	barrier();
}

// Copies what decides; `rest` is the new addresses.
static __always_inline void change(struct entry *old, void *old_rest, __u32 *old_seal,
				   const struct entry *new, const void *new_rest, __u32 rest_size,
				   void *punted, const void *key)
{
	// what waits no longer, and is not counted any more, begins anew
	int counted = old->slot || old->kind == PUNT;
	int counts = new->slot || new->kind == PUNT;

	*(volatile __u32 *)&old->version = new->version;
	barrier();
	__builtin_memcpy(&old->egress, &new->egress,
			 offsetof(struct entry, seen) - offsetof(struct entry, egress));
	__builtin_memcpy(old_rest, new_rest, rest_size);
	barrier();
	*(volatile __u32 *)old_seal = new->version;
	if (counted && !counts)
		bpf_map_delete_elem(punted, key);
}

// Says whether the entry is there, and of this insertion.
static __always_inline int change4(const struct entry4 *new)
{
	struct key4 key = new->own;
	struct entry4 *old = bpf_map_lookup_elem(&flows4, &key);
	__u32 zero = 0;
	struct entry4 *held = bpf_map_lookup_elem(&changing4, &zero);

	if (!old || !held || old->entry.generation != new->entry.generation)
		return 0;
	hold_up(&held->entry, &held->sealed, &new->entry, offsetof(struct entry4, sealed));
	change(&old->entry, &old->source, &old->sealed, &new->entry, &new->source, 8, &punted4,
	       &key);
	return 1;
}

static __always_inline int change6(const struct entry6 *new)
{
	struct key6 key = new->own;
	struct entry6 *old = bpf_map_lookup_elem(&flows6, &key);
	__u32 zero = 0;
	struct entry6 *held = bpf_map_lookup_elem(&changing6, &zero);

	if (!old || !held || old->entry.generation != new->entry.generation)
		return 0;
	hold_up(&held->entry, &held->sealed, &new->entry, offsetof(struct entry6, sealed));
	change(&old->entry, old->source, &old->sealed, &new->entry, new->source, 32, &punted6,
	       &key);
	return 1;
}

// Returns a bit for each entry, in order: whether it was there, and is changed.
SEC("classifier")
int change_entries(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	const struct changes *changes = data;
	const struct entry4 *four = data + sizeof(*changes);
	const struct entry6 *six = data + sizeof(*changes);
	__u32 changed = 0;

	if (data + sizeof(*changes) > end)
		return 0;
	if (changes->family == 4) {
		for (int at = 0; at < MOST_CHANGES && (void *)(four + at + 1) <= end; at++)
			changed |= change4(four + at) << at;
	} else {
		for (int at = 0; at < MOST_CHANGES && (void *)(six + at + 1) <= end; at++)
			changed |= change6(six + at) << at;
	}
	return changed;
}

#endif
