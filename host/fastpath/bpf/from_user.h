// SPDX-License-Identifier: Apache-2.0
//
// The way back from user space: runs at tc ingress of the punt pair's near end. A frame's VLAN tag
// says which port it is for. Nothing that comes this way is looked up or punted: it would go round
// for ever.

#ifndef FROM_USER_H
#define FROM_USER_H

#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include "leave.h"

SEC("classifier")
int from_user(struct __sk_buff *skb)
{
	if (!skb->vlan_present || skb->vlan_proto != bpf_htons(ETH_P_8021Q))
		return drop(DROP_UNTAGGED);
	__u32 port = skb->vlan_tci & 0xfff;
	struct egress *egress = bpf_map_lookup_elem(&egresses, &port);

	if (!egress || !egress->ifindex)
		return drop(DROP_GONE);
	if (bpf_skb_vlan_pop(skb))
		return drop(DROP_FAILED);
	// behind a tunnel, the port itself says where to
	return leave(skb, egress->flags & TO_TUNNEL ? port : egress->ifindex, egress->flags, RETURNED);
}

#endif
