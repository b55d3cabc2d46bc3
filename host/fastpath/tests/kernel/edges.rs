//! What stands at the edges of the flow cache, as BPF programs: who gets the punted packets.

use std::time::{Duration, Instant};

use aya::maps::{MapData, RingBuf};
use aya::programs::tc::{SchedClassifier, TcAttachType};
use aya::programs::{Xdp, XdpMode};
use aya::{Ebpf, include_bytes_aligned};

/// The far end of the punt pair: takes every frame and shows it.
pub(crate) struct PuntEnd {
    arrivals: RingBuf<MapData>,
    _ebpf: Ebpf,
}

/// A frame as it came, tag and all.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) queue: u32,
    pub(crate) length: u32,
    pub(crate) bytes: Vec<u8>,
}

impl PuntEnd {
    pub(crate) fn attach(link: &str) -> Self {
        let mut ebpf = Ebpf::load(OBJECT).unwrap();
        let program: &mut Xdp = ebpf.program_mut("punt_end").unwrap().try_into().unwrap();
        program.load().unwrap();
        program.attach(link, XdpMode::Driver).unwrap();
        let arrivals = RingBuf::try_from(ebpf.take_map("arrivals").unwrap()).unwrap();
        Self { arrivals, _ebpf: ebpf }
    }

    /// The next frame that `is_it`; the pods' own chatter is passed over.
    pub(crate) fn await_frame(&mut self, is_it: impl Fn(&Arrival) -> bool) -> Arrival {
        let give_up = Instant::now() + Duration::from_secs(10);
        loop {
            assert!(Instant::now() < give_up, "the frame was not punted");
            match self.next() {
                Some(frame) if is_it(&frame) => return frame,
                Some(_) => {}
                None => std::thread::yield_now(),
            }
        }
    }

    fn next(&mut self) -> Option<Arrival> {
        let item = self.arrivals.next()?;
        let number = |at: usize| u32::from_ne_bytes(*item[at..].first_chunk().unwrap());
        Some(Arrival { queue: number(0), length: number(4), bytes: item[8..].to_vec() })
    }
}

impl Arrival {
    /// The number in its 802.1Q tag.
    pub(crate) fn vlan(&self) -> Option<u16> {
        (self.word(12) == 0x8100).then(|| self.word(14) & 0xfff)
    }

    /// The EtherType behind the tag.
    pub(crate) fn ethertype(&self) -> u16 {
        self.word(16)
    }

    /// IPv4's protocol.
    pub(crate) fn protocol(&self) -> u8 {
        self.bytes[18 + 9]
    }

    /// The first word behind an IPv4 header without options: a source port.
    pub(crate) fn source_port(&self) -> u16 {
        self.word(18 + 20)
    }

    /// Two bytes of the network's.
    pub(crate) fn word(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]])
    }
}

/// Has whatever the link sends be tagged, while it is held.
pub(crate) fn tag(link: &str) -> Ebpf {
    let mut ebpf = Ebpf::load(OBJECT).unwrap();
    let program: &mut SchedClassifier = ebpf.program_mut("tagging").unwrap().try_into().unwrap();
    program.load().unwrap();
    // works on kernels with and without tcx
    let _ = aya::programs::tc::qdisc_add_clsact(link);
    program.attach(link, TcAttachType::Egress).unwrap();
    ebpf
}

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/edges.bpf.o"));
