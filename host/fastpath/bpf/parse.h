// SPDX-License-Identifier: Apache-2.0
//
// Reads headers, as far as the cache has to know them.

#ifndef PARSE_H
#define PARSE_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include "fate.h"

// What the headers say, in either family.
struct packet {
	__u32 ports;   // source and destination, as they stand
	__u16 headers; // from the Ethernet header to the end of TCP's or UDP's
	__u8 ttl;
	__u8 fin, syn, rst, ack;
	__u8 tcp;
};

// Whether nothing can come before this packet: a TCP connection begins.
static __always_inline int opens(const struct packet *packet)
{
	return packet->syn && !packet->ack;
}

// The first `length` bytes, or nothing if the packet has fewer.
static __always_inline void *reach(struct __sk_buff *skb, __u32 length)
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
static __always_inline __u32 transport(struct __sk_buff *skb, __u32 offset, __u8 protocol,
				       __u16 *from, __u16 *to, struct packet *packet)
{
	if (protocol == IPPROTO_UDP) {
		void *data = reach(skb, offset + 8);

		if (!data)
			return MISS_MALFORMED;
		__u16 *udp = data + offset;

		*from = udp[0];
		*to = udp[1];
		packet->ports = udp[0] | (__u32)udp[1] << 16;
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
		packet->ports = tcp->source | (__u32)tcp->dest << 16;
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

static __always_inline __u32 parse4(struct __sk_buff *skb, struct key4 *key, struct packet *packet)
{
	void *data = reach(skb, ETH_HLEN + sizeof(struct iphdr));

	if (!data)
		return MISS_MALFORMED;
	struct iphdr *ip = data + ETH_HLEN;

	if (ip->version != 4 || ip->ihl < 5)
		return MISS_MALFORMED;
	key->source = ip->saddr;
	key->destination = ip->daddr;
	if (ip->frag_off & bpf_htons(0x3fff))
		return MISS_FRAGMENT;
	if (ip->ihl > 5)
		return MISS_OPTIONS;
	key->protocol = ip->protocol;
	packet->ttl = ip->ttl;
	return transport(skb, ETH_HLEN + sizeof(*ip), key->protocol, &key->source_port,
			 &key->destination_port, packet);
}

static __always_inline __u32 parse6(struct __sk_buff *skb, struct key6 *key, struct packet *packet)
{
	void *data = reach(skb, ETH_HLEN + sizeof(struct ipv6hdr));

	if (!data)
		return MISS_MALFORMED;
	struct ipv6hdr *ip = data + ETH_HLEN;

	if (ip->version != 6)
		return MISS_MALFORMED;
	__builtin_memcpy(key->source, &ip->saddr, 16);
	__builtin_memcpy(key->destination, &ip->daddr, 16);
	switch (ip->nexthdr) {
	case IPPROTO_FRAGMENT:
		return MISS_FRAGMENT;
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_DSTOPTS:
		return MISS_OPTIONS;
	}
	key->protocol = ip->nexthdr;
	packet->ttl = ip->hop_limit;
	return transport(skb, ETH_HLEN + sizeof(*ip), key->protocol, &key->source_port,
			 &key->destination_port, packet);
}

#endif
