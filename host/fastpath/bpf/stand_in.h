// SPDX-License-Identifier: Apache-2.0
//
// What the node's own processes send to one of its own addresses never leaves the host's stack by a
// link, so no program there sees it. Where the port is a Service's, they are sent to an address that
// stands in for that one, and leads into the dataplane; they see the address that they meant.

#ifndef STAND_IN_H
#define STAND_IN_H

#include "uplink.h"

// The address that a process means, or is answered from; IPv4 as IPv4-mapped IPv6.
static __always_inline void meant4(const struct bpf_sock_addr *call, struct address *address)
{
	address->words[0] = address->words[1] = 0;
	address->words[2] = bpf_htonl(0xffff);
	address->words[3] = call->user_ip4;
}

static __always_inline void meant6(const struct bpf_sock_addr *call, struct address *address)
{
	address->words[0] = call->user_ip6[0];
	address->words[1] = call->user_ip6[1];
	address->words[2] = call->user_ip6[2];
	address->words[3] = call->user_ip6[3];
}

static __always_inline void answer6(struct bpf_sock_addr *call, const struct address *address)
{
	call->user_ip6[0] = address->words[0];
	call->user_ip6[1] = address->words[1];
	call->user_ip6[2] = address->words[2];
	call->user_ip6[3] = address->words[3];
}

// Pods have networks of their own, and other nodes on this machine too.
static __always_inline int is_here(struct bpf_sock_addr *call)
{
	return bpf_get_netns_cookie(call) == node_namespace;
}

// Whether a socket is bound to the loopback: with such a source nothing leaves the host, so its process
// means what is there. IPv6 sockets have an IPv4 source too, which says nothing.
static __always_inline int stays4(struct bpf_sock_addr *call)
{
	struct bpf_sock *socket = call->sk;

	return socket && bpf_ntohl(socket->src_ip4) >> 24 == 127;
}

static __always_inline int stays6(struct bpf_sock_addr *call)
{
	struct bpf_sock *socket = call->sk;

	if (!socket || socket->src_ip6[0] || socket->src_ip6[1])
		return 0;
	if (socket->src_ip6[2] == bpf_htonl(0xffff))
		return bpf_ntohl(socket->src_ip6[3]) >> 24 == 127;
	return !socket->src_ip6[2] && socket->src_ip6[3] == bpf_htonl(1);
}

// What stands in for the address that a process sends to, if anything does at this port.
static __always_inline const struct address *away(struct bpf_sock_addr *call,
						  const struct address *meant)
{
	if (!is_here(call))
		return 0;
	const struct address *there = bpf_map_lookup_elem(&stand_ins, meant);
	// the upper half is zero; narrower loads of it are refused by older kernels
	volatile __u32 port = call->user_port;

	if (!there || !is_frontend(there->words, (__u16)port, (__u8)call->protocol))
		return 0;
	return there;
}

// What an address stands in for, if it does.
static __always_inline const struct address *back(struct bpf_sock_addr *call,
						  const struct address *there)
{
	return is_here(call) ? bpf_map_lookup_elem(&stood_for, there) : 0;
}

static __always_inline int send_away4(struct bpf_sock_addr *call)
{
	struct address meant;

	meant4(call, &meant);
	const struct address *there = stays4(call) ? 0 : away(call, &meant);

	if (there)
		call->user_ip4 = there->words[3];
	return 1;
}

static __always_inline int send_away6(struct bpf_sock_addr *call)
{
	struct address meant;

	meant6(call, &meant);
	const struct address *there = stays6(call) ? 0 : away(call, &meant);

	if (there)
		answer6(call, there);
	return 1;
}

static __always_inline int tell_back4(struct bpf_sock_addr *call)
{
	struct address there;

	meant4(call, &there);
	const struct address *meant = back(call, &there);

	if (meant)
		call->user_ip4 = meant->words[3];
	return 1;
}

static __always_inline int tell_back6(struct bpf_sock_addr *call)
{
	struct address there;

	meant6(call, &there);
	const struct address *meant = back(call, &there);

	if (meant)
		answer6(call, meant);
	return 1;
}

#define ON_CALL(hook, action)						\
	SEC("cgroup/" #hook)						\
	int hook(struct bpf_sock_addr *call)				\
	{								\
		return action(call);					\
	}

ON_CALL(connect4, send_away4)
ON_CALL(connect6, send_away6)
ON_CALL(sendmsg4, send_away4)
ON_CALL(sendmsg6, send_away6)
ON_CALL(recvmsg4, tell_back4)
ON_CALL(recvmsg6, tell_back6)
ON_CALL(getpeername4, tell_back4)
ON_CALL(getpeername6, tell_back6)

#endif
