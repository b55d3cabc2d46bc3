// SPDX-License-Identifier: Apache-2.0
//
// Packets between nodes, in a tunnel (VXLAN, RFC 7348). One link has all tunnels: it is told of each
// packet where it goes, and tells of each where it comes from.

#ifndef TUNNEL_H
#define TUNNEL_H

#include "parse.h"

// Linux 6.0 has made it longer.
#define TUNNEL_KEY_SIZE offsetof(struct bpf_tunnel_key, local_ipv4)

// Says where a packet goes. Returns the link to send it by, or 0 if there is none any more.
static __always_inline __u32 enter_tunnel(struct __sk_buff *skb, __u32 port)
{
	struct egress *egress = bpf_map_lookup_elem(&egresses, &port);
	struct bpf_tunnel_key key = {};
	// IPv6 has no other sum that covers the ports
	__u64 flags = BPF_F_ZERO_CSUM_TX;

	if (!egress || !(egress->flags & TO_TUNNEL))
		return 0;
	key.tunnel_id = egress->vni;
	key.remote_ipv4 = egress->remote[0];
	if (egress->family == 6) {
		flags = BPF_F_TUNINFO_IPV6;
		__builtin_memcpy(key.remote_ipv6, egress->remote, 16);
	}
	if (bpf_skb_set_tunnel_key(skb, &key, TUNNEL_KEY_SIZE, flags))
		return 0;
	return egress->ifindex;
}

// Whom a packet is from, or nothing that can be told.
static __always_inline int source_of(struct __sk_buff *skb, struct prefix *source)
{
	void *data;

	source->length = 128;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		data = reach(skb, ETH_HLEN + sizeof(struct iphdr));
		if (!data)
			return 0;
		struct iphdr *ip = data + ETH_HLEN;

		source->address[2] = bpf_htonl(0xffff);
		source->address[3] = ip->saddr;
		return 1;
	}
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		data = reach(skb, ETH_HLEN + sizeof(struct ipv6hdr));
		if (!data)
			return 0;
		struct ipv6hdr *ip = data + ETH_HLEN;

		__builtin_memcpy(source->address, &ip->saddr, 16);
		return 1;
	}
	return 0;
}

// The port of the node that a packet comes from, or 0: its source is to belong to that node.
static __always_inline __u32 leave_tunnel(struct __sk_buff *skb)
{
	struct prefix source = {};
	struct bpf_tunnel_key key = {};

	if (!source_of(skb, &source))
		return 0;
	__u32 *port = bpf_map_lookup_elem(&owners, &source);

	if (!port)
		return 0;
	__u32 number = *port & (EITHER_WAY - 1);
	struct egress *egress = bpf_map_lookup_elem(&egresses, &number);

	if (!egress || !(egress->flags & TO_TUNNEL))
		return 0;
	__u64 flags = egress->family == 6 ? BPF_F_TUNINFO_IPV6 : 0;

	if (bpf_skb_get_tunnel_key(skb, &key, TUNNEL_KEY_SIZE, flags))
		return 0;
	__u32 different = (key.tunnel_id ^ egress->vni) | (key.remote_ipv6[0] ^ egress->remote[0]);

	if (egress->family == 6)
		different |= (key.remote_ipv6[1] ^ egress->remote[1]) |
			     (key.remote_ipv6[2] ^ egress->remote[2]) |
			     (key.remote_ipv6[3] ^ egress->remote[3]);
	return different ? 0 : number;
}

#endif
