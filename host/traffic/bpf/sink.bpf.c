// SPDX-License-Identifier: Apache-2.0
//
// Counts UDP datagrams to one port over IPv4, and drops them; everything else goes on.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct count {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct count);
} counts SEC(".maps");

const volatile __u16 port; // set by sink.rs

SEC("classifier")
int sink(struct __sk_buff *skb)
{
	struct headers {
		struct ethhdr ethernet;
		struct iphdr ip;
		struct udphdr udp;
	} __attribute__((packed)) *headers = (void *)(long)skb->data;
	__u32 key = 0;
	struct count *count;

	if ((void *)(headers + 1) > (void *)(long)skb->data_end)
		return TC_ACT_OK;
	if (headers->ethernet.h_proto != bpf_htons(ETH_P_IP) || headers->ip.ihl != 5 ||
	    headers->ip.protocol != IPPROTO_UDP || headers->udp.dest != bpf_htons(port))
		return TC_ACT_OK;

	count = bpf_map_lookup_elem(&counts, &key);
	if (!count)
		return TC_ACT_OK;
	// a datagram each, if the sender left cutting them to the device
	count->packets += skb->gso_segs > 1 ? skb->gso_segs : 1;
	count->bytes += skb->len;
	return TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
