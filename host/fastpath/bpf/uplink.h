// SPDX-License-Identifier: Apache-2.0
//
// What of an uplink's packets is for pods: those for their addresses, and where Services are reached;
// answers, errors and echoes to those who sent from the node's own address; and errors to Services.
// Later fragments do not say whose they are: they follow the first one of their datagram. All else is
// the host's, and goes on untouched.

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

struct fragment_header {
	__u8 next, reserved;
	__u16 place; // the offset, in the upper 13 bits; and whether more follow
	__u32 id;
};

// Has later fragments of a datagram follow the first one. Its name may have been another's before.
static __always_inline void lead(const struct datagram *datagram, int claim)
{
	__u32 one = 1;

	if (claim == PODS)
		bpf_map_update_elem(&datagrams, datagram, &one, BPF_ANY);
	else
		bpf_map_delete_elem(&datagrams, datagram);
}

static __always_inline int follow_first(const struct datagram *datagram)
{
	return bpf_map_lookup_elem(&datagrams, datagram) ? PODS : HOSTS;
}

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

static __always_inline int is_frontend(const __u32 *address, __u16 port, __u8 protocol)
{
	struct frontend frontend = { .port = port, .protocol = protocol };

	__builtin_memcpy(frontend.address, address, 16);
	return bpf_map_lookup_elem(&frontends, &frontend) != 0;
}

static __always_inline int has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

// Whose ports a packet is from, or for: `address` may be the node's own.
static __always_inline int claim_port(const __u32 *address, __u16 port, __u8 protocol, int is_own)
{
	if (is_own && protocol != IPPROTO_SCTP && is_reserved(port))
		return PODS;
	return is_frontend(address, port, protocol) ? PODS : HOSTS;
}

// Whose the packet is that an ICMP error quotes, which `address` sent to `peer`.
static __always_inline int claim_quoted(struct __sk_buff *skb, __u32 at, __u8 protocol,
					const __u32 *address, int is_own, const __u32 *peer,
					__u8 echo_protocol)
{
	struct opening quoted;

	if (bpf_skb_load_bytes(skb, at, &quoted, sizeof(quoted)))
		return HOSTS;
	if (has_ports(protocol))
		return claim_port(address, quoted.source, protocol, is_own);
	if (is_own && protocol == echo_protocol)
		return is_asked(peer, quoted.identifier) ? PODS : HOSTS;
	return HOSTS;
}

// Whose a packet is that no other one has to say it for.
static __always_inline int claim_first4(struct __sk_buff *skb, const struct uplink *uplink,
					const struct iphdr *ip)
{
	__u32 address[4] = { 0, 0, bpf_htonl(0xffff), ip->daddr };
	__u32 peer[4] = { 0, 0, bpf_htonl(0xffff), ip->saddr };
	__u32 at = ETH_HLEN + ip->ihl * 4;
	int is_own = ip->daddr == uplink->own4;
	struct opening opening;
	struct iphdr quoted;

	if (bpf_skb_load_bytes(skb, at, &opening, sizeof(opening)))
		return HOSTS;
	if (is_own && ip->protocol == IPPROTO_UDP && opening.destination == uplink->tunnel_port)
		return TUNNELS;
	if (has_ports(ip->protocol))
		return claim_port(address, opening.destination, ip->protocol, is_own);
	if (ip->protocol != IPPROTO_ICMP)
		return HOSTS;
	switch (*(__u8 *)&opening) {
	case 0: // echo reply
		return is_own && is_asked(peer, opening.identifier) ? PODS : HOSTS;
	case 3:  // destination unreachable
	case 11: // time exceeded
	case 12: // parameter problem
		at += sizeof(opening);
		if (bpf_skb_load_bytes(skb, at, &quoted, sizeof(quoted)) ||
		    quoted.saddr != ip->daddr || quoted.frag_off & bpf_htons(0x1fff))
			return HOSTS;
		peer[3] = quoted.daddr;
		return claim_quoted(skb, at + quoted.ihl * 4, quoted.protocol, address, is_own,
				    peer, IPPROTO_ICMP);
	}
	return HOSTS;
}

static __always_inline int claim4(struct __sk_buff *skb, const struct uplink *uplink)
{
	struct datagram datagram = {};
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
		return HOSTS;
	if ((ip.daddr & uplink->mask4) == uplink->pods4)
		return PODS;
	if (!(ip.frag_off & bpf_htons(0x3fff)))
		return claim_first4(skb, uplink, &ip);
	datagram.source[2] = datagram.destination[2] = bpf_htonl(0xffff);
	datagram.source[3] = ip.saddr;
	datagram.destination[3] = ip.daddr;
	datagram.id = ip.id;
	datagram.protocol = ip.protocol;
	if (ip.frag_off & bpf_htons(0x1fff))
		return follow_first(&datagram);
	int claim = claim_first4(skb, uplink, &ip);

	lead(&datagram, claim);
	return claim;
}

static __always_inline int is_same6(const struct in6_addr *address, const __u32 *other)
{
	const __u32 *words = address->in6_u.u6_addr32;

	return !((words[0] ^ other[0]) | (words[1] ^ other[1]) | (words[2] ^ other[2]) |
		 (words[3] ^ other[3]));
}

static __always_inline int is_own6(const struct in6_addr *address, const struct uplink *uplink)
{
	return is_same6(address, uplink->own6);
}

static __always_inline int is_pod6(const struct in6_addr *address, const struct uplink *uplink)
{
	const __u32 *words = address->in6_u.u6_addr32, *mask = uplink->mask6;

	return !(((words[0] & mask[0]) ^ uplink->pods6[0]) |
		 ((words[1] & mask[1]) ^ uplink->pods6[1]) |
		 ((words[2] & mask[2]) ^ uplink->pods6[2]) |
		 ((words[3] & mask[3]) ^ uplink->pods6[3]));
}

// Steps over the fragment header of a packet, if that is what is next: says whether it is the packet
// itself, or the first one of a datagram, that is at `at` then.
static __always_inline int step_over(struct __sk_buff *skb, __u32 *at, __u8 *protocol,
				     struct fragment_header *fragment)
{
	if (*protocol != IPPROTO_FRAGMENT)
		return 1;
	if (bpf_skb_load_bytes(skb, *at, fragment, sizeof(*fragment)))
		return 0;
	*at += sizeof(*fragment);
	*protocol = fragment->next;
	return !(fragment->place & bpf_htons(0xfff8));
}

static __always_inline int claim_first6(struct __sk_buff *skb, const struct uplink *uplink,
					const struct ipv6hdr *ip, __u32 at, __u8 protocol)
{
	const __u32 *address = ip->daddr.in6_u.u6_addr32;
	int is_own = is_own6(&ip->daddr, uplink);
	struct fragment_header fragment;
	struct opening opening;
	struct ipv6hdr quoted;

	if (bpf_skb_load_bytes(skb, at, &opening, sizeof(opening)))
		return HOSTS;
	if (is_own && protocol == IPPROTO_UDP && opening.destination == uplink->tunnel_port)
		return TUNNELS;
	if (has_ports(protocol))
		return claim_port(address, opening.destination, protocol, is_own);
	if (protocol != IPPROTO_ICMPV6)
		return HOSTS;
	switch (*(__u8 *)&opening) {
	case 129: // echo reply
		if (!is_own)
			return HOSTS;
		return is_asked(ip->saddr.in6_u.u6_addr32, opening.identifier) ? PODS : HOSTS;
	case 1: // destination unreachable
	case 2: // packet too big
	case 3: // time exceeded
	case 4: // parameter problem
		at += sizeof(opening);
		if (bpf_skb_load_bytes(skb, at, &quoted, sizeof(quoted)) ||
		    !is_same6(&quoted.saddr, address))
			return HOSTS;
		at += sizeof(quoted);
		if (!step_over(skb, &at, &quoted.nexthdr, &fragment))
			return HOSTS;
		return claim_quoted(skb, at, quoted.nexthdr, address, is_own,
				    quoted.daddr.in6_u.u6_addr32, IPPROTO_ICMPV6);
	}
	return HOSTS;
}

static __always_inline int claim6(struct __sk_buff *skb, const struct uplink *uplink)
{
	__u32 at = ETH_HLEN + sizeof(struct ipv6hdr);
	struct fragment_header fragment = {};
	struct datagram datagram = {};
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
		return HOSTS;
	if (is_pod6(&ip.daddr, uplink))
		return PODS;
	int is_first = step_over(skb, &at, &ip.nexthdr, &fragment);

	// more follow, or this is not the first one
	if (!fragment.place)
		return is_first ? claim_first6(skb, uplink, &ip, at, ip.nexthdr) : HOSTS;
	__builtin_memcpy(datagram.source, &ip.saddr, 16);
	__builtin_memcpy(datagram.destination, &ip.daddr, 16);
	datagram.id = fragment.id;
	if (!is_first)
		return follow_first(&datagram);
	int claim = claim_first6(skb, uplink, &ip, at, ip.nexthdr);

	lead(&datagram, claim);
	return claim;
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
