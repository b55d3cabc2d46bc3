// SPDX-License-Identifier: Apache-2.0
//
// Carries out what an entry says.

#ifndef CARRY_H
#define CARRY_H

#include "leave.h"
#include "parse.h"
#include "punt.h"

// Tells user space, once for each of FIN and RST: a flood of them would be a flood of events.
static __always_inline void report(struct entry *entry, const void *key, __u32 key_size,
				   __u8 family, __u8 seen)
{
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
	__builtin_memcpy(event->key, key, key_size);
	event->generation = entry->generation;
	event->family = family;
	event->seen = seen;
	bpf_ringbuf_submit(event, 0);
}

// Whether the connection's state lets this TCP packet take the entry; notes what it changes.
static __always_inline int follow(struct entry *entry, struct packet *packet, const void *key,
				  __u32 key_size, __u8 family)
{
	if (packet->syn && (packet->fin || packet->rst))
		return 0;
	if (packet->syn && !packet->ack)
		return !(entry->seen & SEEN_MORE);
	if (!(entry->seen & SEEN_MORE))
		entry->seen |= SEEN_MORE;
	if (packet->rst)
		report(entry, key, key_size, family, SEEN_RST);
	else if (packet->fin)
		report(entry, key, key_size, family, SEEN_FIN);
	else if (entry->seen & SEEN_RST)
		entry->seen &= ~SEEN_RST; // a blind reset kills nothing
	return 1;
}

// Carries out the entry that was found. The element may be reused for another flow at any moment:
// what decides is copied first, and taken only if it was of one insertion throughout.
static __always_inline int carry(struct __sk_buff *skb, __u32 port, struct entry *entry,
				 struct packet *packet, const void *key, __u32 key_size,
				 __u8 family)
{
	struct entry now;

	__builtin_memcpy(&now, entry, offsetof(struct entry, seen));
	barrier();
	if (*(volatile __u32 *)&entry->generation != now.generation)
		return punt(skb, port, MISS_CHANGED);

	__u64 clock = bpf_ktime_get_coarse_ns();

	if (entry->last_seen != clock)
		entry->last_seen = clock;
	if (now.kind == PUNT)
		return punt_to(skb, port, MISS_PUNT, now.egress);
	if (now.kind != FORWARD) {
		entry->packets += skb->gso_segs ?: 1;
		entry->bytes += skb->len;
		return drop(DROP_ENTRY);
	}

	__u32 gso = skb->gso_size;
	__u32 largest = gso ? gso + packet->headers : skb->len;

	if (largest > (__u32)now.mtu + ETH_HLEN)
		return punt(skb, port, MISS_MTU);
	if ((now.flags & TTL) && packet->ttl <= 1)
		return punt(skb, port, MISS_TTL);
	if (packet->tcp && !follow(entry, packet, key, key_size, family))
		return punt(skb, port, MISS_SYN);

	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *ethernet = data;

	if (data + ETH_HLEN + sizeof(struct iphdr) > end)
		return drop(DROP_FAILED);
	__builtin_memcpy(ethernet->h_dest, now.destination_mac, ETH_ALEN);
	__builtin_memcpy(ethernet->h_source, now.source_mac, ETH_ALEN);
	if (now.flags & TTL) {
		if (family == 4) {
			struct iphdr *ip = data + ETH_HLEN;
			// the TTL is the upper half of a word of the sum (RFC 1624)
			__u32 sum = ip->check + bpf_htons(0x0100);

			ip->ttl--;
			ip->check = sum + (sum >= 0xffff);
		} else {
			struct ipv6hdr *ip = data + ETH_HLEN;

			ip->hop_limit--;
		}
	}

	entry->packets += skb->gso_segs ?: 1;
	entry->bytes += skb->len;
	count(HIT);
	return leave(skb, now.egress, now.flags);
}

#endif
