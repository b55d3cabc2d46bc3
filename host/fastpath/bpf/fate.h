// SPDX-License-Identifier: Apache-2.0
//
// What becomes of a packet is counted, once.

#ifndef FATE_H
#define FATE_H

#include <linux/pkt_cls.h>
#include "maps.h"

static __always_inline void count(__u32 what)
{
	__u64 *counter = bpf_map_lookup_elem(&counters, &what);

	if (counter)
		(*counter)++;
}

static __always_inline int drop(__u32 why)
{
	count(why);
	return TC_ACT_SHOT;
}

// Drops a packet that an entry refuses, for who has that number.
static __always_inline int refuse(__u32 number)
{
	__u64 *counter = bpf_map_lookup_elem(&refused, &number);

	if (counter)
		(*counter)++;
	return drop(DROP_ENTRY);
}

#endif
