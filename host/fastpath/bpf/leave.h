// SPDX-License-Identifier: Apache-2.0
//
// How packets leave: to a pod, to the host, to another node, by an uplink,
// or by a link.

#ifndef LEAVE_H
#define LEAVE_H

#include "tunnel.h"

// Sends a packet, which is counted under `what`.
static __always_inline int leave(struct __sk_buff *skb, __u32 egress, __u32 flags, __u32 what)
{
	if (flags & TO_TUNNEL) {
		egress = enter_tunnel(skb, egress);
		if (!egress)
			return drop(DROP_GONE);
	}
	count(what);
	if (flags & TO_NEIGHBOUR)
		return bpf_redirect_neigh(egress, 0, 0, 0);
	if (flags & TO_HOST)
		return bpf_redirect(egress, BPF_F_INGRESS);
	if (!(flags & TO_PEER))
		return bpf_redirect(egress, 0);
	if (set_packet_type)
		bpf_skb_change_type(skb, 0 /* PACKET_HOST */);
	return bpf_redirect_peer(egress, 0);
}

#endif
