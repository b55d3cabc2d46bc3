// SPDX-License-Identifier: Apache-2.0
//
// Writes an entry anew where it is, so that what was counted and seen of the flow stays. User space
// runs this on a packet that holds the new entry; the kernel's own update would put another element
// in the old one's place. One writer at a time.

#ifndef CHANGE_H
#define CHANGE_H

#include "fate.h"

// Copies what decides; `rest` is the new addresses.
static __always_inline int change(struct entry *old, void *old_rest, __u32 *old_seal,
				  const struct entry *new, const void *new_rest, __u32 rest_size,
				  void *punted, const void *key)
{
	if (old->generation != new->generation)
		return NOT_THERE;

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
	return CHANGED;
}

static __always_inline int change4(const struct entry4 *new)
{
	struct key4 key = new->own;
	struct entry4 *old = bpf_map_lookup_elem(&flows4, &key);

	if (!old)
		return NOT_THERE;
	return change(&old->entry, &old->source, &old->sealed, &new->entry, &new->source, 8,
		      &punted4, &key);
}

static __always_inline int change6(const struct entry6 *new)
{
	struct key6 key = new->own;
	struct entry6 *old = bpf_map_lookup_elem(&flows6, &key);

	if (!old)
		return NOT_THERE;
	return change(&old->entry, old->source, &old->sealed, &new->entry, new->source, 32,
		      &punted6, &key);
}

SEC("classifier")
int change_entry(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data + BEFORE_ENTRY, *end = (void *)(long)skb->data_end;

	if (data + sizeof(struct entry6) <= end)
		return change6(data);
	if (data + sizeof(struct entry4) <= end)
		return change4(data);
	return NO_ENTRY;
}

#endif
