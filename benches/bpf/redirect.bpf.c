// SPDX-License-Identifier: Apache-2.0
//
// Sends every frame out of another interface: the least that XDP can do between two.

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} out SEC(".maps");

SEC("xdp")
int redirect(struct xdp_md *ctx)
{
	return bpf_redirect_map(&out, 0, XDP_DROP);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
