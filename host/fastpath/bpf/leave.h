// SPDX-License-Identifier: Apache-2.0
//
// How packets leave: to a pod, to the host, or by a link.

#ifndef LEAVE_H
#define LEAVE_H

#include "fate.h"

static __always_inline int leave(struct __sk_buff *skb, __u32 ifindex, __u32 flags)
{
	if (flags & TO_HOST)
		return bpf_redirect(ifindex, BPF_F_INGRESS);
	if (!(flags & TO_PEER))
		return bpf_redirect(ifindex, 0);
	if (set_packet_type)
		bpf_skb_change_type(skb, 0 /* PACKET_HOST */);
	return bpf_redirect_peer(ifindex, 0);
}

#endif
