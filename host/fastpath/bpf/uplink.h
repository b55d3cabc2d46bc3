// SPDX-License-Identifier: Apache-2.0
//
// What of an uplink's packets is for pods: those for their addresses; and answers, errors and echoes
// to those who sent from the node's own address. All else is the host's, and goes on untouched.

#ifndef UPLINK_H
#define UPLINK_H

#include <linux/if_packet.h>
#include "tunnel.h"

enum claim {
	HOSTS,
	PODS,
	TUNNELS, // the host's too: whom it is from is seen once it is unwrapped
};

// The beginning of a transport header, and of an ICMP message.
struct opening {
	__u16 source, destination; // ICMP: type and code, checksum
	__u16 identifier, sequence; // ICMP's
};

static __always_inline int is_reserved(__u16 port)
{
	__u16 number = bpf_ntohs(port);
	__u32 word = number / 32, *bits = bpf_map_lookup_elem(&reserved, &word);

	return bits && *bits & (1u << (number % 32));
}

// Whether a pod has asked `peer` for an echo with this identifier.
static __always_inline int is_asked(const __u32 *peer, __u16 identifier)
{
	struct echo echo = { .identifier = identifier };

	__builtin_memcpy(echo.peer, peer, 16);
	return bpf_map_lookup_elem(&echoes, &echo) != 0;
}

// Whose the packet is that an ICMP error quotes, which the node sent to `peer`.
static __always_inline int claim_quoted(struct __sk_buff *skb, __u32 at, __u8 protocol,
					const __u32 *peer, __u8 echo_protocol)
{
	struct opening quoted;

	if (bpf_skb_load_bytes(skb, at, &quoted, sizeof(quoted)))
		return HOSTS;
	if (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP)
		return is_reserved(quoted.source) ? PODS : HOSTS;
	if (protocol == echo_protocol)
		return is_asked(peer, quoted.identifier) ? PODS : HOSTS;
	return HOSTS;
}

// Whose a packet is that is for the node's own address.
static __always_inline int claim_ports(const struct opening *opening, __u8 protocol,
				       const struct uplink *uplink)
{
	if (protocol == IPPROTO_UDP && opening->destination == uplink->tunnel_port)
		return TUNNELS;
	return is_reserved(opening->destination) ? PODS : HOSTS;
}

static __always_inline int claim4(struct __sk_buff *skb, const struct uplink *uplink)
{
	__u32 peer[4] = { 0, 0, bpf_htonl(0xffff), 0 };
	struct iphdr ip, quoted;
	struct opening opening;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
		return HOSTS;
	if ((ip.daddr & uplink->mask4) == uplink->pods4)
		return PODS;
	// later fragments do not say whose they are
	if (ip.daddr != uplink->own4 || ip.frag_off & bpf_htons(0x1fff))
		return HOSTS;
	__u32 at = ETH_HLEN + ip.ihl * 4;

	if (bpf_skb_load_bytes(skb, at, &opening, sizeof(opening)))
		return HOSTS;
	if (ip.protocol == IPPROTO_TCP || ip.protocol == IPPROTO_UDP)
		return claim_ports(&opening, ip.protocol, uplink);
	if (ip.protocol != IPPROTO_ICMP)
		return HOSTS;
	switch (*(__u8 *)&opening) {
	case 0: // echo reply
		peer[3] = ip.saddr;
		return is_asked(peer, opening.identifier) ? PODS : HOSTS;
	case 3:  // destination unreachable
	case 11: // time exceeded
	case 12: // parameter problem
		at += sizeof(opening);
		if (bpf_skb_load_bytes(skb, at, &quoted, sizeof(quoted)) ||
		    quoted.saddr != uplink->own4 || quoted.frag_off & bpf_htons(0x1fff))
			return HOSTS;
		peer[3] = quoted.daddr;
		return claim_quoted(skb, at + quoted.ihl * 4, quoted.protocol, peer, IPPROTO_ICMP);
	}
	return HOSTS;
}

static __always_inline int is_own6(const struct in6_addr *address, const struct uplink *uplink)
{
	const __u32 *words = address->in6_u.u6_addr32;

	return !((words[0] ^ uplink->own6[0]) | (words[1] ^ uplink->own6[1]) |
		 (words[2] ^ uplink->own6[2]) | (words[3] ^ uplink->own6[3]));
}

static __always_inline int is_pod6(const struct in6_addr *address, const struct uplink *uplink)
{
	const __u32 *words = address->in6_u.u6_addr32, *mask = uplink->mask6;

	return !(((words[0] & mask[0]) ^ uplink->pods6[0]) |
		 ((words[1] & mask[1]) ^ uplink->pods6[1]) |
		 ((words[2] & mask[2]) ^ uplink->pods6[2]) |
		 ((words[3] & mask[3]) ^ uplink->pods6[3]));
}

static __always_inline int claim6(struct __sk_buff *skb, const struct uplink *uplink)
{
	__u32 at = ETH_HLEN + sizeof(struct ipv6hdr);
	struct ipv6hdr ip, quoted;
	struct opening opening;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
		return HOSTS;
	if (is_pod6(&ip.daddr, uplink))
		return PODS;
	if (!is_own6(&ip.daddr, uplink) || bpf_skb_load_bytes(skb, at, &opening, sizeof(opening)))
		return HOSTS;
	if (ip.nexthdr == IPPROTO_TCP || ip.nexthdr == IPPROTO_UDP)
		return claim_ports(&opening, ip.nexthdr, uplink);
	if (ip.nexthdr != IPPROTO_ICMPV6)
		return HOSTS;
	switch (*(__u8 *)&opening) {
	case 129: // echo reply
		return is_asked(ip.saddr.in6_u.u6_addr32, opening.identifier) ? PODS : HOSTS;
	case 1: // destination unreachable
	case 2: // packet too big
	case 3: // time exceeded
	case 4: // parameter problem
		at += sizeof(opening);
		if (bpf_skb_load_bytes(skb, at, &quoted, sizeof(quoted)) ||
		    !is_own6(&quoted.saddr, uplink))
			return HOSTS;
		return claim_quoted(skb, at + sizeof(quoted), quoted.nexthdr,
				    quoted.daddr.in6_u.u6_addr32, IPPROTO_ICMPV6);
	}
	return HOSTS;
}

// Whether the source is a pod's that sends from here, or from behind a tunnel.
static __always_inline int is_forged(struct __sk_buff *skb, const struct uplink *uplink)
{
	struct prefix source = {};

	if (!source_of(skb, &source))
		return 0;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if ((source.address[3] & uplink->mask4) == uplink->pods4)
			return 1;
	} else if (is_pod6((void *)source.address, uplink)) {
		return 1;
	}
	__u32 *owner = bpf_map_lookup_elem(&owners, &source);

	return owner && !(*owner & EITHER_WAY);
}

#endif
