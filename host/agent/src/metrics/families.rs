//! Every metric of the host, declared: name, kind, help. What filters count themselves is
//! called `millrace_filter_…` after the name that they gave it.
//!
//! Names follow <https://prometheus.io/docs/practices/naming/>: base units, and `_total` for what
//! only grows. Labels are names of ports and stages, and words of fixed lists.

use prometheus::proto::MetricType;

/// A metric, with all its labels.
#[derive(Debug)]
pub(crate) struct Family {
    /// Its name.
    pub(crate) name: &'static str,
    /// What happens to its value.
    pub(crate) kind: MetricType,
    /// One sentence for people.
    pub(crate) help: &'static str,
}

macro_rules! families {
    ($($constant:ident $kind:ident $name:literal $help:literal)*) => {
        $(
            #[doc = $help]
            pub(super) const $constant: &Family =
                &Family { name: $name, kind: MetricType::$kind, help: $help };
        )*

        /// Every family, in the order of the table.
        #[cfg(test)]
        pub(super) const ALL: &[&Family] = &[$($constant),*];
    };
}

families! {
    BUILD_INFO GAUGE "millrace_build_info" "The host's version, and that of the filter ABI it speaks; always 1."
    UPTIME GAUGE "millrace_uptime_seconds" "How long the host runs."
    PROCESS_MEMORY GAUGE "millrace_process_resident_memory_bytes" "Memory of the process by kind: anonymous (heap, packet buffers, filters), file (the program), shared."
    PROCESS_CPU COUNTER "millrace_process_cpu_seconds_total" "Time that the process, workers included, has spent on cores."

    PORT_UP GAUGE "millrace_port_up" "Whether packets can come and go by the port."
    PORT_MTU GAUGE "millrace_port_mtu_bytes" "The largest IP packet that the port carries; 0 while its interface is gone."
    PORT_RECEIVED_PACKETS COUNTER "millrace_port_received_packets_total" "Packets that came in by the port, whoever carried them."
    PORT_RECEIVED_BYTES COUNTER "millrace_port_received_bytes_total" "Bytes of the packets that came in by the port."
    PORT_SENT_PACKETS COUNTER "millrace_port_sent_packets_total" "Packets that left by the port, or were handed to the kernel to leave by it, whoever carried them."
    PORT_SENT_BYTES COUNTER "millrace_port_sent_bytes_total" "Bytes of the packets that left by the port, or were handed to the kernel to leave by it."
    PORT_KERNEL_RECEIVED_PACKETS COUNTER "millrace_port_kernel_received_packets_total" "Of the packets that came in by the port, those that the kernel's flow cache carried."
    PORT_KERNEL_RECEIVED_BYTES COUNTER "millrace_port_kernel_received_bytes_total" "Bytes of the packets that came in by the port and that the kernel's flow cache carried."
    PORT_KERNEL_SENT_PACKETS COUNTER "millrace_port_kernel_sent_packets_total" "Of the packets that left by the port, those that the kernel's flow cache carried."
    PORT_KERNEL_SENT_BYTES COUNTER "millrace_port_kernel_sent_bytes_total" "Bytes of the packets that left by the port and that the kernel's flow cache carried."
    PORT_EVICTED COUNTER "millrace_port_connections_evicted_total" "Connections from the port that were dropped to make room for others, before both sides took part."
    PORT_CROWDED_OUT COUNTER "millrace_port_connections_crowded_out_total" "Connections from the port that left the kernel's flow cache to make room there, and go on by way of workers."
    POD_PACKETS COUNTER "millrace_pod_packets_total" "Packets that the pod sent or received, by direction and by who carried them: kernel or worker."
    POD_BYTES COUNTER "millrace_pod_bytes_total" "Bytes of the packets that the pod sent or received, by direction and by who carried them: kernel or worker."
    PORT_SEND_REFUSED COUNTER "millrace_port_send_refused_total" "How often the kernel dropped some of what it was handed to leave by the port."
    XDP_DROPPED COUNTER "millrace_xdp_dropped_packets_total" "Packets that the kernel dropped before the host saw them: too large for a frame, without one, or for other reasons; counted anew when the interface returns."
    XDP_RING_FULL COUNTER "millrace_xdp_receive_ring_full_packets_total" "Packets that the kernel dropped, besides these, because a receive ring was full."
    XDP_NO_FRAME COUNTER "millrace_xdp_fill_ring_empty_packets_total" "Of the dropped packets, those that there was no frame to receive into: a worker was too slow, or has too few frames."
    XDP_INVALID COUNTER "millrace_xdp_invalid_descriptors_total" "Descriptors that the kernel did not take."

    WORKER_BURSTS COUNTER "millrace_worker_bursts_total" "Bursts that had packets."
    WORKER_HITS COUNTER "millrace_worker_flow_hits_total" "Packets whose decision was remembered."
    WORKER_MISSES COUNTER "millrace_worker_flow_misses_total" "Packets that the chain was asked about."
    WORKER_FLOWS GAUGE "millrace_worker_flows" "Flows that the worker remembers."
    WORKER_SLEEPS COUNTER "millrace_worker_sleeps_total" "How often the worker slept."
    WORKER_FREE_FRAMES GAUGE "millrace_worker_free_frames" "Packet buffers that nobody uses."

    WORKER_UNCOUNTED COUNTER "millrace_worker_uncounted_packets_total" "Packets that are missing in millrace_packets_total: there were more combinations of its labels than places to count them."

    CONNECTIONS GAUGE "millrace_connections" "Connections of cached ports that there are."
    CONNECTIONS_OPENED COUNTER "millrace_connections_opened_total" "Connections of cached ports that were opened."
    WITHOUT_PORT COUNTER "millrace_connections_without_port_total" "Connections that were refused since no port was left to masquerade them with; `millrace status -o json` says towards whom."
    CACHE_INSTALLED COUNTER "millrace_cache_installed_entries_total" "Entries that workers gave to the kernel's flow cache: one for each way of a connection."
    CACHE_FULL COUNTER "millrace_cache_full_total" "Entries that the kernel's flow cache had no room for."
    CACHE_REFUSED COUNTER "millrace_cache_refused_total" "Entries that the kernel refused for another reason."
    CACHE_SEND_REFUSED COUNTER "millrace_cache_send_refused_total" "Times that the kernel did not take what a worker sent to a port of the flow cache."
    REDECIDED COUNTER "millrace_connections_redecided_total" "Live connections that the chain was asked about again, by outcome: same, changed, refused (kept, dropped, reset), over (their next packets are decided afresh), unanswered (a filter failed)."
    CACHE_PACKETS COUNTER "millrace_cache_packets_total" "Packets by what became of them in the kernel: hit, or why they went to a worker or no further. `forced` and `lost-events` are no packets: hand-overs that did not wait, and ends of connections that were not heard of."

    PACKETS COUNTER "millrace_packets_total" "What became of packets, by the port they came in by, the stage that decided (none: the host itself), their fate, and the reason if they went no further."

    NODE_REFUSED GAUGE "millrace_node_refused" "1 while something of the node's network is not as it should be, since the kernel refuses it or the API server is away, by matter: nodes (links and routes to others), claims, routes, neighbours (Services as they are reached from outside, from the host, by announced addresses), outside (what pods reach there, and by which interface), pods (those that are attached, as ports), cluster (the API server, which is away since the agent started). `millrace status` says why."
    NODE_REFUSALS COUNTER "millrace_node_refusals_total" "How often the kernel refused that; it is tried again and again."

    ADDRESSES GAUGE "millrace_addresses" "Addresses of the node for pods, by prefix and state: taken, free (of a large IPv6 prefix those that are given in turn)."
    ADDRESSES_EXHAUSTED COUNTER "millrace_addresses_exhausted_total" "Pods that got no address since all of the prefix were taken."

    STAGE_INFO GAUGE "millrace_stage_info" "The filter in a stage, its version and the digest of its module; always 1."
    STAGE_STATE GAUGE "millrace_stage_state" "1 for the state that the stage is in: running, rolled-back or ejected."
    STAGE_CALLS COUNTER "millrace_stage_calls_total" "Calls of the stage's flow hook."
    STAGE_ASKED COUNTER "millrace_stage_asked_packets_total" "Packets that the stage was asked about."
    STAGE_ASKED_CANARY COUNTER "millrace_stage_canary_asked_packets_total" "Of these, packets that the version on trial was asked about."
    STAGE_DROPPED COUNTER "millrace_stage_dropped_packets_total" "Packets whose way the stage's decision ended."
    STAGE_DROPPED_CANARY COUNTER "millrace_stage_canary_dropped_packets_total" "Of these, packets that the version on trial dropped."
    STAGE_BUSY COUNTER "millrace_stage_busy_seconds_total" "Time spent in the stage's hooks."
    STAGE_SHOWN COUNTER "millrace_stage_shown_packets_total" "Packets that the stage's packet hook has seen."
    STAGE_HOOK COUNTER "millrace_stage_packet_hook_total" "What the packet hook did with packets it has seen: dropped, answered, rewritten."
    STAGE_EMITTED COUNTER "millrace_stage_emitted_frames_total" "Frames that the stage's filter sent of its own accord."
    STAGE_FAULTS COUNTER "millrace_stage_faults_total" "Faults of the stage's filter, by class."
    STAGE_ABSENT COUNTER "millrace_stage_absent_packets_total" "Packets that met no working filter in the stage."
    STAGE_SHADOW COUNTER "millrace_stage_shadow_packets_total" "What a filter in shadow mode would have made of packets: the same, or it would have been stricter or looser."
    STAGE_MEMORY GAUGE "millrace_stage_memory_bytes" "Linear memory of the stage's instances."
}
