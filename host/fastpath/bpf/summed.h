// SPDX-License-Identifier: Apache-2.0
//
// What the kernel holds of a packet's checksum. Programs are not told; some kernels let them look
// at the kernel's own packet (Linux 6.2).

#ifndef SUMMED_H
#define SUMMED_H

#include <bpf/bpf_core_read.h>
#include "maps.h"

// The kernel's own packet, as far as it matters here: where the field is, its loader finds out.
struct sk_buff {
	__u8 ip_summed : 2;
} __attribute__((preserve_access_index));

// What that field says (include/linux/skbuff.h).
enum {
	CHECKSUM_NONE, // nothing: the packet is complete
	CHECKSUM_UNNECESSARY, // the packet is complete, and was checked
	CHECKSUM_COMPLETE, // the packet is complete, and its whole sum is kept beside it
	CHECKSUM_PARTIAL, // TCP's or UDP's field has the pseudo header's sum alone, not inverted
};

#define TEXT_OF(number) #number
#define AS_TEXT(number) TEXT_OF(number)

// Where nobody may look, the answer is the one with which kernel helpers are to do everything.
static __always_inline __u32 summed(struct __sk_buff *skb)
{
	struct sk_buff *whole;

	if (!direct_checksums)
		return CHECKSUM_COMPLETE;
	// user space puts the call of bpf_cast_to_kern_ctx here, whose number each kernel has its own
	asm volatile("r1 = %[skb]\n"
		     "r0 = " AS_TEXT(CAST_PLACE) "\n"
		     "%[whole] = r0"
		     : [whole] "=r"(whole)
		     : [skb] "r"(skb)
		     : "r0", "r1", "r2", "r3", "r4", "r5");
	return BPF_CORE_READ_BITFIELD(whole, ip_summed);
}

#endif
