//! Counts the datagrams that arrive at an interface, and lets them go no further.
//!
//! A program at the interface's tc ingress does it: behind the point where every path has made the
//! packet a socket buffer of the receiving pod, and before that pod's stack, which costs as much as
//! a path and is no path's doing. An XDP program would be cheaper and not the same for all: it
//! gets frames of an XDP redirect as they are, while a socket buffer is first copied for it. A
//! socket that reads would measure the reader.

use std::net::SocketAddr;

use aya::maps::{MapData, PerCpuArray};
use aya::programs::{SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use millrace_netns::Namespace;

use crate::error::TrafficError;

/// A counting end of datagrams; they go on again when this is dropped.
pub struct Sink {
    /// Packets and bytes, as `struct count` of the program has them.
    counts: PerCpuArray<MapData, [u64; 2]>,
    _program: Ebpf,
}

/// What has arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Datagrams.
    pub packets: u64,
    /// Bytes of their frames.
    pub bytes: u64,
}

impl Sink {
    /// Counts what arrives at `interface` of `namespace` for `port`, over UDP and IPv4.
    ///
    /// # Errors
    /// If the kernel does not take the program.
    pub fn attach(namespace: &Namespace, interface: &str, port: u16) -> Result<Self, TrafficError> {
        let attached = namespace.run(|| Self::attach_here(interface, port))?;
        attached.map_err(|cause| TrafficError::Sink { interface: interface.to_owned(), cause })
    }

    /// What has arrived so far.
    ///
    /// # Panics
    /// If the kernel does not read its own map.
    pub fn count(&self) -> Count {
        let counts = self.counts.get(&0, 0).expect("an array has its first element");
        counts.iter().fold(Count::default(), |sum, [packets, bytes]| Count {
            packets: sum.packets + packets,
            bytes: sum.bytes + bytes,
        })
    }

    fn attach_here(interface: &str, port: u16) -> Result<Self, String> {
        let mut program = EbpfLoader::new()
            .override_global("port", &port, true)
            .load(OBJECT)
            .map_err(|error| explain(&error))?;
        let classifier: &mut SchedClassifier = program
            .program_mut("sink")
            .expect("the object, compiled with this crate, has the program")
            .try_into()
            .map_err(|error| explain(&error))?;
        classifier.load().map_err(|error| explain(&error))?;
        classifier.attach(interface, TcAttachType::Ingress).map_err(|error| explain(&error))?;
        let counts = program.take_map("counts").expect("the object has the map");
        let counts = PerCpuArray::try_from(counts).map_err(|error| explain(&error))?;
        Ok(Self { counts, _program: program })
    }
}

/// The port that is counted at, where any will do: discard (RFC 863).
pub const DISCARD: u16 = 9;

/// Where to send what is to be counted.
pub fn discard_at(end: crate::End<'_>) -> SocketAddr {
    SocketAddr::new(end.address, DISCARD)
}

/// An error with its causes.
fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        text = format!("{text}: {deeper}");
        cause = deeper.source();
    }
    text
}

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sink.bpf.o"));
