// SPDX-License-Identifier: Apache-2.0
//
// Carries out what an entry says.

#ifndef CARRY_H
#define CARRY_H

#include "capture.h"
#include "hand_over.h"
#include "leave.h"
#include "translate.h"

// How often an entry is read that is written anew again and again meanwhile.
#define MOST_READS 4

// An entry of either family, by its parts.
struct whole {
	struct entry *entry;
	const void *own;
	const __u32 *addresses; // the new source, then the new destination
	const __u32 *sealed;
};

#define PARTS(of)                                                                                  \
	{                                                                                          \
		.entry = &(of)->entry, .own = &(of)->own,                                          \
		.addresses = (const void *)&(of)->source, .sealed = &(of)->sealed                  \
	}

// A packet's key, and the entry that has it.
struct found {
	struct whole whole;
	const void *key;
	void *punted;
	__u32 key_size;
	__u8 family;
};

// Tells user space, once for each of FIN and RST: a flood of them would be a flood of events.
static __always_inline void report(const struct found *found, __u8 seen)
{
	struct entry *entry = found->whole.entry;
	struct event *event;

	if (entry->seen & seen)
		return;
	entry->seen |= seen;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		count(LOST_EVENTS);
		return;
	}
	__builtin_memset(event, 0, sizeof(*event));
	__builtin_memcpy(event->key, found->key, found->key_size);
	event->generation = entry->generation;
	event->family = found->family;
	event->seen = seen;
	bpf_ringbuf_submit(event, 0);
}

// Whether the connection's state lets this TCP packet take the entry; notes what it changes.
static __always_inline int follow(const struct found *found, const struct packet *packet)
{
	struct entry *entry = found->whole.entry;

	if (packet->syn && (packet->fin || packet->rst))
		return 0;
	if (packet->syn && !packet->ack)
		return !(entry->seen & SEEN_MORE);
	if (!(entry->seen & SEEN_MORE))
		entry->seen |= SEEN_MORE;
	if (packet->rst)
		report(found, SEEN_RST);
	else if (packet->fin)
		report(found, SEEN_FIN);
	else if (entry->seen & SEEN_RST)
		entry->seen &= ~SEEN_RST; // a blind reset kills nothing
	return 1;
}

// Copies what decides. The element may be given to another flow, or written anew, at any moment:
// the writer begins with the version and ends with the seal, so that who reads them the other way
// round, and finds them alike, has read one whole entry; and its key says whose.
static __always_inline int read(const struct found *found, const struct whole *from,
				struct entry *now, __u32 *addresses)
{
	__u32 sealed = *(volatile __u32 *)from->sealed;
	__u32 different = 0;

	barrier();
	__builtin_memcpy(now, from->entry, offsetof(struct entry, seen));
#pragma unroll
	for (int i = 0; i < 10; i++)
		if (i < found->key_size / 4)
			different |= ((__u32 *)from->own)[i] ^ ((__u32 *)found->key)[i];
	if (now->flags & TRANSLATE)
		__builtin_memcpy(addresses, from->addresses, found->family == 4 ? 8 : 32);
	barrier();
	return !different && *(volatile __u32 *)&from->entry->version == sealed;
}

// The same of an entry that is being written anew: it is whole in its writer's hand meanwhile. What
// that holds of an entry that has gone since is of another insertion than the element is now.
static __always_inline int read_changing(const struct found *found, struct entry *now,
					 __u32 *addresses)
{
	__u32 zero = 0;

	if (found->family == 4) {
		struct entry4 *held = bpf_map_lookup_elem(&changing4, &zero);

		if (!held)
			return 0;
		struct whole whole = PARTS(held);

		if (!read(found, &whole, now, addresses))
			return 0;
	} else {
		struct entry6 *held = bpf_map_lookup_elem(&changing6, &zero);

		if (!held)
			return 0;
		struct whole whole = PARTS(held);

		if (!read(found, &whole, now, addresses))
			return 0;
	}
	return now->generation == *(volatile __u32 *)&found->whole.entry->generation;
}

// Reads an entry, before or after a change of it. A packet that went to user space instead would be
// overtaken by those after it. If neither is whole, the writer was between the two: it has other
// entries to write by now, or none.
static __always_inline int read_either(const struct found *found, struct entry *now,
				       __u32 *addresses)
{
	for (int i = 0; i < MOST_READS; i++)
		if (read(found, &found->whole, now, addresses) ||
		    read_changing(found, now, addresses))
			return 1;
	return 0;
}

// Writes the headers anew, as the entry says.
static __always_inline long rewrite(struct __sk_buff *skb, const struct packet *packet,
				    const struct entry *now, const __u32 *addresses, __u8 family)
{
	__u32 ip_size = family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	__u32 difference = 0, kept = summed(skb);

	if ((now->flags & TRANSLATE) &&
	    adjust_transport(skb, packet, now, ETH_HLEN + ip_size, family, kept))
		return -1;

	void *data = (void *)(long)skb->data;
	struct ethhdr *ethernet = data;
	struct iphdr *ip4 = data + ETH_HLEN;
	struct ipv6hdr *ip6 = data + ETH_HLEN;
	__u16 *ports = data + ETH_HLEN + ip_size;

	if ((void *)(ports + 2) > (void *)(long)skb->data_end)
		return -1;
	__builtin_memcpy(ethernet->h_dest, now->destination_mac, ETH_ALEN);
	__builtin_memcpy(ethernet->h_source, now->source_mac, ETH_ALEN);
	if (now->flags & TRANSLATE) {
		ports[0] = now->source_port;
		ports[1] = now->destination_port;
		// the destination follows the source
		if (family == 4)
			__builtin_memcpy(&ip4->saddr, addresses, 8);
		else
			__builtin_memcpy(&ip6->saddr, addresses, 32);
		difference += now->difference;
	}
	if (now->flags & TTL) {
		if (family == 4) {
			ip4->ttl--;
			// the TTL is the upper half of its word
			difference += (__u16)~bpf_htons(0x0100);
		} else {
			ip6->hop_limit--;
			// nothing in the header makes up for it
			if (kept == CHECKSUM_COMPLETE)
				bpf_csum_update(skb, (__u16)~bpf_htons(1));
		}
	}
	if (family == 4 && difference)
		ip4->check = adjust(ip4->check, difference);
	return 0;
}

// Carries out the entry that was found.
static __always_inline int carry(struct __sk_buff *skb, __u32 port, const struct found *found,
				 const struct packet *packet)
{
	struct entry now, *entry = found->whole.entry;
	__u32 addresses[8];

	if (!read_either(found, &now, addresses))
		return punt(skb, port, MISS_CHANGED);

	__u64 clock = bpf_ktime_get_coarse_ns();

	if (entry->last_seen != clock)
		entry->last_seen = clock;
	if (now.kind == PUNT)
		return punt_noted(skb, port, MISS_PUNT, now.egress, found->punted, found->key);
	if (now.kind != FORWARD) {
		entry->packets += skb->gso_segs ?: 1;
		entry->bytes += skb->len;
		return refuse(now.egress);
	}
	if (now.slot && !go_over(entry, now.slot, now.generation, found->punted, found->key))
		return punt_noted(skb, port, MISS_WAITING, bpf_get_smp_processor_id(),
				  found->punted, found->key);

	__u32 gso = skb->gso_size;
	__u32 largest = gso ? gso + packet->headers : skb->len;

	if (largest > (__u32)now.mtu + ETH_HLEN)
		return punt(skb, port, MISS_MTU);
	if ((now.flags & TTL) && packet->ttl <= 1)
		return punt(skb, port, MISS_TTL);
	if (packet->tcp && !follow(found, packet))
		return punt(skb, port, MISS_SYN);
	capture(skb, port, found->key, now.generation, found->family);
	if (rewrite(skb, packet, &now, addresses, found->family))
		return drop(DROP_FAILED);

	entry->packets += skb->gso_segs ?: 1;
	entry->bytes += skb->len;
	return leave(skb, now.egress, now.flags, HIT);
}

#endif
