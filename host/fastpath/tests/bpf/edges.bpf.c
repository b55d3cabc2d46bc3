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
	// one less first: from a test for 0 the verifier of Linux 6.1 learns nothing
	length--;
	barrier_var(length);
	if (length < sizeof(arrival->bytes)) {
		asm volatile("%0 += 1" : "+r"(length));
		bpf_xdp_load_bytes(ctx, 0, arrival->bytes, length);
	}
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

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} sums SEC(".maps");

// Whether the device's sum of the whole packet, if it gave one, is right: for packets of 40 or 60
// bytes. And whether the packet counts as checked.
SEC("classifier")
int whole_sum(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data + ETH_HLEN, *end = (void *)(long)skb->data_end;
	__s64 given = bpf_csum_update(skb, 0), sum;
	__u32 outcome = 0, *count;

	if (bpf_csum_level(skb, BPF_CSUM_LEVEL_QUERY) >= 0)
		outcome = 3;
	else if (skb->len == ETH_HLEN + 40 && data + 40 <= end)
		sum = bpf_csum_diff(0, 0, data, 40, 0);
	else if (skb->len == ETH_HLEN + 60 && data + 60 <= end)
		sum = bpf_csum_diff(0, 0, data, 60, 0);
	else
		return TC_ACT_OK;
	if (!outcome && given >= 0) {
		// as ones' complement numbers they are the same modulo 0xffff
		outcome = (__u32)given % 0xffff == (__u32)sum % 0xffff ? 1 : 2;
	}
	count = bpf_map_lookup_elem(&sums, &outcome);
	if (count)
		(*count)++;
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
