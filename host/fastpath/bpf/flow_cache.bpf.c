// SPDX-License-Identifier: Apache-2.0
//
// The flow cache: runs at tc ingress of every pod port. A packet of a known flow is rewritten,
// counted and sent on. Any other goes to user space through the punt pair, under a VLAN tag that
// says which port it came in by, on the queue of this CPU. No packet ever goes on into the host's
// stack: that would be a way around policy.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "flow_cache.h"

#define inline static __always_inline

// How many of each there are is set when they are loaded.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct key4);
	__type(value, struct entry);
} flows4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct key6);
	__type(value, struct entry);
} flows6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32); // ifindex
	__type(value, __u32); // port id
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct punt);
} punt_target SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

// Below 6.15 redirect_peer leaves a packet marked as somebody else's, and the pod ignores it.
const volatile __u8 set_packet_type = 1;

// What the headers say, in either family.
struct packet {
	__u16 headers; // from the Ethernet header to the end of TCP's or UDP's
	__u8 ttl;
	__u8 fin, syn, rst, ack;
	__u8 tcp;
};

inline void count(__u32 what)
{
	__u64 *counter = bpf_map_lookup_elem(&counters, &what);

	if (counter)
		(*counter)++;
}

inline int drop(__u32 why)
{
	count(why);
	return TC_ACT_SHOT;
}

// Hands a packet to user space; `queue` is a hint.
inline int punt_to(struct __sk_buff *skb, __u32 port, __u32 why, __u32 queue)
{
	__u32 zero = 0;
	struct punt *target = bpf_map_lookup_elem(&punt_target, &zero);

	if (!target || !target->ifindex || !target->queues)
		return drop(DROP_NO_PUNT);
	if (bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), port))
		return drop(DROP_FAILED);
	skb->queue_mapping = queue % target->queues + 1;
	count(why);
	return bpf_redirect(target->ifindex, 0);
}

inline int punt(struct __sk_buff *skb, __u32 port, __u32 why)
{
	return punt_to(skb, port, why, bpf_get_smp_processor_id());
}

// The first `length` bytes, or nothing if the packet has fewer.
inline void *reach(struct __sk_buff *skb, __u32 length)
{
	void *data = (void *)(long)skb->data;

	if (data + length <= (void *)(long)skb->data_end)
		return data;
	if (bpf_skb_pull_data(skb, length))
		return 0;
	data = (void *)(long)skb->data;
	return data + length <= (void *)(long)skb->data_end ? data : 0;
}

// Reads TCP's or UDP's header, behind `offset` bytes of others. Returns MISS_… where it cannot,
// else HIT.
inline __u32 transport(struct __sk_buff *skb, __u32 offset, __u8 protocol, __u16 *from, __u16 *to,
		       struct packet *packet)
{
	if (protocol == IPPROTO_UDP) {
		void *data = reach(skb, offset + 8);

		if (!data)
			return MISS_MALFORMED;
		__u16 *udp = data + offset;

		*from = udp[0];
		*to = udp[1];
		packet->headers = offset + 8;
		return HIT;
	}
	if (protocol == IPPROTO_TCP) {
		void *data = reach(skb, offset + sizeof(struct tcphdr));

		if (!data)
			return MISS_MALFORMED;
		struct tcphdr *tcp = data + offset;

		if (tcp->doff < 5)
			return MISS_MALFORMED;
		*from = tcp->source;
		*to = tcp->dest;
		packet->headers = offset + tcp->doff * 4;
		packet->fin = tcp->fin;
		packet->syn = tcp->syn;
		packet->rst = tcp->rst;
		packet->ack = tcp->ack;
		packet->tcp = 1;
		return HIT;
	}
	return MISS_PROTOCOL;
}

inline __u32 parse4(struct __sk_buff *skb, struct key4 *key, struct packet *packet)
{
	void *data = reach(skb, ETH_HLEN + sizeof(struct iphdr));

	if (!data)
		return MISS_MALFORMED;
	struct iphdr *ip = data + ETH_HLEN;

	if (ip->version != 4 || ip->ihl < 5)
		return MISS_MALFORMED;
	if (ip->ihl > 5)
		return MISS_OPTIONS;
	if (ip->frag_off & bpf_htons(0x3fff))
		return MISS_FRAGMENT;
	key->source = ip->saddr;
	key->destination = ip->daddr;
	key->protocol = ip->protocol;
	packet->ttl = ip->ttl;
	return transport(skb, ETH_HLEN + sizeof(*ip), key->protocol, &key->source_port,
			 &key->destination_port, packet);
}

inline __u32 parse6(struct __sk_buff *skb, struct key6 *key, struct packet *packet)
{
	void *data = reach(skb, ETH_HLEN + sizeof(struct ipv6hdr));

	if (!data)
		return MISS_MALFORMED;
	struct ipv6hdr *ip = data + ETH_HLEN;

	if (ip->version != 6)
		return MISS_MALFORMED;
	switch (ip->nexthdr) {
	case IPPROTO_FRAGMENT:
		return MISS_FRAGMENT;
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_DSTOPTS:
		return MISS_OPTIONS;
	}
	__builtin_memcpy(key->source, &ip->saddr, 16);
	__builtin_memcpy(key->destination, &ip->daddr, 16);
	key->protocol = ip->nexthdr;
	packet->ttl = ip->hop_limit;
	return transport(skb, ETH_HLEN + sizeof(*ip), key->protocol, &key->source_port,
			 &key->destination_port, packet);
}

// Tells user space, once for each of FIN and RST: a flood of them would be a flood of events.
inline void report(struct entry *entry, const void *key, __u32 key_size, __u8 family, __u8 seen)
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
inline int follow(struct entry *entry, struct packet *packet, const void *key, __u32 key_size,
		  __u8 family)
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
inline int carry(struct __sk_buff *skb, __u32 port, struct entry *entry, struct packet *packet,
		 const void *key, __u32 key_size, __u8 family)
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
	if (!(now.flags & TO_PEER))
		return bpf_redirect(now.egress, 0);
	if (set_packet_type)
		bpf_skb_change_type(skb, 0 /* PACKET_HOST */);
	return bpf_redirect_peer(now.egress, 0);
}

inline int ipv4(struct __sk_buff *skb, __u32 port)
{
	struct key4 key = { .from = port };
	struct packet packet = {};
	__u32 why = parse4(skb, &key, &packet);

	if (why != HIT)
		return punt(skb, port, why);
	struct entry *entry = bpf_map_lookup_elem(&flows4, &key);

	if (!entry)
		return punt(skb, port, MISS_UNKNOWN);
	return carry(skb, port, entry, &packet, &key, sizeof(key), 4);
}

inline int ipv6(struct __sk_buff *skb, __u32 port)
{
	struct key6 key = { .from = port };
	struct packet packet = {};
	__u32 why = parse6(skb, &key, &packet);

	if (why != HIT)
		return punt(skb, port, why);
	struct entry *entry = bpf_map_lookup_elem(&flows6, &key);

	if (!entry)
		return punt(skb, port, MISS_UNKNOWN);
	return carry(skb, port, entry, &packet, &key, sizeof(key), 6);
}

SEC("classifier")
int flow_cache(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	__u32 *port = bpf_map_lookup_elem(&ports, &ifindex);

	if (!port)
		return drop(DROP_NO_PORT);
	// a tag of the pod's own would forge the punt tag
	if (skb->vlan_present || skb->protocol == bpf_htons(ETH_P_8021Q) ||
	    skb->protocol == bpf_htons(ETH_P_8021AD))
		return drop(DROP_TAGGED);
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return ipv4(skb, *port);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return ipv6(skb, *port);
	return punt(skb, *port, MISS_PROTOCOL);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
