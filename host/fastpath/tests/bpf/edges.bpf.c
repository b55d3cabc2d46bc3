// SPDX-License-Identifier: Apache-2.0
//
// What the tests put at the edges of the flow cache: an end of the punt pair, and a pod that tags.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 * 1024 * 1024);
} arrivals SEC(".maps");

struct arrival {
	__u32 queue, length;
	__u8 bytes[512];
};

// Takes every frame, and shows its beginning, its length and its queue.
SEC("xdp")
int punt_end(struct xdp_md *ctx)
{
	__u64 length = bpf_xdp_get_buff_len(ctx);
	struct arrival *arrival = bpf_ringbuf_reserve(&arrivals, sizeof(*arrival), 0);

	if (!arrival)
		return XDP_DROP;
	__builtin_memset(arrival, 0, sizeof(*arrival));
	arrival->queue = ctx->rx_queue_index;
	arrival->length = length;
	if (length > sizeof(arrival->bytes))
		length = sizeof(arrival->bytes);
	barrier_var(length);
	if (length - 1 < sizeof(arrival->bytes))
		bpf_xdp_load_bytes(ctx, 0, arrival->bytes, length);
	bpf_ringbuf_submit(arrival, 0);
	return XDP_DROP;
}

// Tags what a pod sends, as the pod itself may.
SEC("classifier")
int tagging(struct __sk_buff *skb)
{
	bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), 7);
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
