// SPDX-License-Identifier: Apache-2.0
//
// The flow cache: runs at tc ingress of every port's link. A packet of a known flow is rewritten,
// counted and sent on. Any other goes to user space through the punt pair, under a VLAN tag that
// says which port it came in by, on the queue of this CPU. No packet ever goes on into the host's
// stack, which would be a way around policy; but by an uplink, what is not for pods.

#include "carry.h"
#include "change.h"
#include "from_user.h"
#include "stand_in.h"
#include "uplink.h"

static __always_inline int ipv4(struct __sk_buff *skb, __u32 port, __u16 from)
{
	struct key4 key = { .from = from };
	struct packet packet = {};
	__u32 why = parse4(skb, &key, &packet);

	if (why == MISS_FRAGMENT)
		return punt_apart(skb, port, why, &key.source, 2);
	if (why != HIT)
		return punt(skb, port, why);
	struct entry4 *entry = bpf_map_lookup_elem(&flows4, &key);

	if (!entry && opens(&packet))
		return punt(skb, port, MISS_UNKNOWN);
	if (!entry)
		return punt_noted(skb, port, MISS_UNKNOWN, bpf_get_smp_processor_id(), &punted4,
				  &key);
	struct found found = {
		.whole = PARTS(entry),
		.key = &key,
		.punted = &punted4,
		.key_size = sizeof(key),
		.family = 4,
	};

	return carry(skb, port, &found, &packet);
}

static __always_inline int ipv6(struct __sk_buff *skb, __u32 port, __u16 from)
{
	struct key6 key = { .from = from };
	struct packet packet = {};
	__u32 why = parse6(skb, &key, &packet);

	// behind other extension headers there may be a fragment's
	if (why == MISS_FRAGMENT || why == MISS_OPTIONS)
		return punt_apart(skb, port, why, key.source, 8);
	if (why != HIT)
		return punt(skb, port, why);
	struct entry6 *entry = bpf_map_lookup_elem(&flows6, &key);

	if (!entry && opens(&packet))
		return punt(skb, port, MISS_UNKNOWN);
	if (!entry)
		return punt_noted(skb, port, MISS_UNKNOWN, bpf_get_smp_processor_id(), &punted6,
				  &key);
	struct found found = {
		.whole = PARTS(entry),
		.key = &key,
		.punted = &punted6,
		.key_size = sizeof(key),
		.family = 6,
	};

	return carry(skb, port, &found, &packet);
}

// Whether a packet has a VLAN tag: one of its sender's own would forge the punt tag.
static __always_inline int is_tagged(struct __sk_buff *skb)
{
	return skb->vlan_present || skb->protocol == bpf_htons(ETH_P_8021Q) ||
	       skb->protocol == bpf_htons(ETH_P_8021AD);
}

// On the link of a pod, or of the host.
SEC("classifier")
int flow_cache(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	__u32 *port = bpf_map_lookup_elem(&ports, &ifindex);

	if (!port)
		return drop(DROP_NO_PORT);
	if (is_tagged(skb))
		return drop(DROP_TAGGED);
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return ipv4(skb, *port, *port);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return ipv6(skb, *port, *port);
	return punt(skb, *port, MISS_PROTOCOL);
}

// On the link of all tunnels.
SEC("classifier")
int from_tunnel(struct __sk_buff *skb)
{
	if (is_tagged(skb))
		return drop(DROP_TAGGED);
	__u32 port = leave_tunnel(skb);

	if (!port)
		return drop(DROP_FORGED);
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return ipv4(skb, port, UNDERLAY);
	return ipv6(skb, port, UNDERLAY);
}

// On an uplink, which is the host's.
SEC("classifier")
int from_uplink(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	struct uplink *uplink = bpf_map_lookup_elem(&uplinks, &ifindex);
	int is_ipv4 = skb->protocol == bpf_htons(ETH_P_IP);

	if (!uplink || is_tagged(skb) || skb->pkt_type == PACKET_OTHERHOST)
		return TC_ACT_UNSPEC;
	if (!is_ipv4 && skb->protocol != bpf_htons(ETH_P_IPV6))
		return TC_ACT_UNSPEC;
	int claim = is_ipv4 ? claim4(skb, uplink) : claim6(skb, uplink);

	if (claim == TUNNELS)
		return TC_ACT_UNSPEC;
	if (is_forged(skb, uplink))
		return drop(DROP_FORGED);
	if (claim != PODS)
		return TC_ACT_UNSPEC;

	// from gateway to gateway, as in tunnels
	struct ethhdr *ethernet = reach(skb, ETH_HLEN);

	if (!ethernet)
		return drop(DROP_FAILED);
	__builtin_memcpy(ethernet->h_dest, uplink->gateway_mac, ETH_ALEN);
	__builtin_memcpy(ethernet->h_source, uplink->gateway_mac, ETH_ALEN);
	if (is_ipv4)
		return ipv4(skb, uplink->port, UNDERLAY);
	return ipv6(skb, uplink->port, UNDERLAY);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
