//! What stands at the edges of the flow cache, as BPF programs: who gets the punted packets.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use aya::maps::{Array, MapData, RingBuf};
use aya::programs::tc::{SchedClassifier, TcAttachType};
use aya::programs::{Xdp, XdpMode};
use aya::{Ebpf, include_bytes_aligned};
use millrace_fastpath::PortId;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, bind, send, socket};

/// The far end of the punt pair: takes every frame and shows it.
pub(crate) struct PuntEnd {
    arrivals: RingBuf<MapData>,
    _ebpf: Ebpf,
}

/// The way in at the far end of the punt pair: sends frames, as a worker does.
pub(crate) struct Wire(OwnedFd);

/// A frame as it came, tag and all; no more than its first 512 bytes.
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

    pub(crate) fn next(&mut self) -> Option<Arrival> {
        let item = self.arrivals.next()?;
        let number = |at: usize| u32::from_ne_bytes(*item[at..].first_chunk().unwrap());
        let (queue, length) = (number(0), number(4));
        let shown = item[8..].iter().copied().take(length as usize).collect();
        Some(Arrival { queue, length, bytes: shown })
    }
}

impl Wire {
    /// Sends by the link with this name in this thread's namespace.
    pub(crate) fn open(link: &str) -> Self {
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None).unwrap();
        let mut links = getifaddrs().unwrap().filter(|entry| entry.interface_name == link);
        let address = links.find_map(|entry| entry.address?.as_link_addr().copied()).unwrap();
        bind(socket.as_raw_fd(), &address).unwrap();
        Self(socket)
    }

    /// Returns when the frame has passed.
    pub(crate) fn send(&self, frame: &[u8]) {
        let sent = send(self.0.as_raw_fd(), frame, MsgFlags::empty()).unwrap();
        assert_eq!(sent, frame.len());
    }
}

impl Arrival {
    /// The frame for a port, with other addresses.
    pub(crate) fn to(&self, port: PortId, destination: [u8; 6], source: [u8; 6]) -> Vec<u8> {
        assert_eq!(self.length as usize, self.bytes.len(), "the frame is here as a whole");
        let tag = [[0x81, 0], port.number().to_be_bytes()].concat();
        [&destination[..], &source, &tag, &self.bytes[16..]].concat()
    }

    /// The number in its 802.1Q tag.
    pub(crate) fn vlan(&self) -> Option<u16> {
        (self.word(12) == 0x8100).then(|| self.word(14) & 0xfff)
    }

    /// The EtherType behind the tag.
    pub(crate) fn ethertype(&self) -> u16 {
        self.word(16)
    }

    /// What IP says comes next, in either family.
    pub(crate) fn transport(&self) -> Option<u8> {
        match self.ethertype() {
            0x0800 => Some(self.bytes[18 + 9]),
            0x86dd => Some(self.bytes[18 + 6]),
            _ => None,
        }
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

/// Looks at what the kernel holds of packets' checksums, while it is held.
pub(crate) struct WholeSums {
    sums: Array<MapData, u32>,
    _ebpf: Ebpf,
}

impl WholeSums {
    pub(crate) fn attach(link: &str, side: TcAttachType) -> Self {
        let mut ebpf = Ebpf::load(OBJECT).unwrap();
        let program: &mut SchedClassifier =
            ebpf.program_mut("whole_sum").unwrap().try_into().unwrap();
        program.load().unwrap();
        // works on kernels with and without tcx
        let _ = aya::programs::tc::qdisc_add_clsact(link);
        program.attach(link, side).unwrap();
        Self { sums: ebpf.take_map("sums").unwrap().try_into().unwrap(), _ebpf: ebpf }
    }

    /// How many packets had no sum, a right one, a wrong one, and none since they were checked.
    pub(crate) fn counts(&self) -> [u32; 4] {
        [0, 1, 2, 3].map(|at| self.sums.get(&at, 0).unwrap())
    }
}

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/edges.bpf.o"));
