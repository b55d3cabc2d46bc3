//! A station on a wire: frames as they are, no stack that says anything by itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use millrace_dataplane::io::Io;
use millrace_dataplane::port::PortId;
use millrace_dataplane::xsk_io::XskIo;
use millrace_netns::Namespace;
use millrace_xsk::{AttachMode, Program, UmemSettings, Xsk, XskSettings};

use crate::bed::{PATIENCE, wire};

/// A namespace whose one interface a test has, frame by frame.
pub(crate) struct Station {
    io: XskIo,
    heard: VecDeque<Vec<u8>>,
    _program: Program,
    _namespace: Namespace,
}

impl Station {
    /// A station wired to the interface `port` of a host.
    pub(crate) fn new(host: &Namespace, port: &str) -> Self {
        let mac = [2, 0, 0, 0, 0, 0xff];
        let namespace = Namespace::create_unique("packet-bare").expect("needs root");
        wire(host, port, &namespace, mac, 1);
        namespace.set_sysctl("net.ipv6.conf.eth0.disable_ipv6", "1").expect("it is there");
        let net = namespace.netlink().expect("netlink works");
        net.set_up("eth0").expect("it comes up");
        let index = net.link("eth0").expect("it is there").index;

        let settings = UmemSettings { frames: 512, fill_ring: 256, completion_ring: 256 };
        let mut io = XskIo::new(settings, false).expect("there is memory");
        let rings = XskSettings { rx_ring: 256, tx_ring: 256, zero_copy: false };
        let umem = io.umem().clone();
        let open = || {
            let program = Program::attach_in(index, "eth0", AttachMode::Native);
            (program.expect("it attaches"), Xsk::open(&umem, "eth0", 0, rings))
        };
        let (mut program, xsk) = namespace.run(open).expect("the namespace can be entered");
        let xsk = xsk.expect("it opens");
        program.connect(0, &xsk).expect("it connects");
        io.add_port(WIRE, vec![xsk], Arc::default());
        Self { io, heard: VecDeque::new(), _program: program, _namespace: namespace }
    }

    /// Sends a frame.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let mut frame = self.io.take().expect("there are more frames than the rings have room");
        self.io.buffer(&mut frame)[..bytes.len()].copy_from_slice(bytes);
        self.io.set_len(&mut frame, bytes.len());
        self.io.transmit(WIRE, frame).expect("one at a time fits the ring");
        self.io.commit();
    }

    /// The next frame that comes.
    pub(crate) fn receive(&mut self) -> Vec<u8> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some(frame) = self.heard.pop_front() {
                return frame;
            }
            let left = give_up.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "a frame comes");
            self.io.wait(left);
            self.listen();
        }
    }

    /// The next frame that comes and is as wanted; others are passed over.
    pub(crate) fn receive_where(&mut self, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        loop {
            let frame = self.receive();
            if wanted(&frame) {
                return frame;
            }
        }
    }

    /// What has come so far.
    pub(crate) fn heard(&mut self) -> Vec<Vec<u8>> {
        self.listen();
        self.heard.drain(..).collect()
    }

    fn listen(&mut self) {
        let mut frames = Vec::new();
        self.io.receive(WIRE, &mut frames, 256);
        for frame in frames {
            self.heard.push_back(self.io.bytes(&frame).to_vec());
            self.io.put(frame);
        }
        self.io.commit();
    }
}

/// The number of the one port it has.
const WIRE: PortId = PortId::new(1).expect("1 is a port's number");
