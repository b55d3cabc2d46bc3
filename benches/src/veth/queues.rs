//! Sockets on all queues of an interface, for those that are compared with the dataplane.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use millrace_netns::{Link, LinkKind, Namespace};
use millrace_xsk::{Program, Umem, Xsk, XskSettings};

/// An interface, held by sockets.
pub struct Queues {
    /// The interface.
    pub link: Link,
    /// A socket for each receive queue.
    pub sockets: Vec<Xsk>,
    /// Closed until whoever has the sockets has given them frames to receive into.
    pub door: Door,
}

/// What lets frames come in. They stop when it is dropped.
pub struct Door {
    program: Program,
    sockets: Vec<(u32, OwnedFd)>,
}

impl Queues {
    /// Opens every queue of an interface of the calling thread's namespace. No frame comes yet.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn open(umem: &Umem, interface: &str) -> Result<Self> {
        let here = Namespace::current()?;
        let link = here.netlink()?.link(interface)?;
        let channels = here.ethtool(interface).and_then(|tool| tool.channels());
        let queues = match channels.map(|channels| channels.rx + channels.combined) {
            Ok(queues) if queues > 0 => queues,
            _ => link.rx_queues.max(1),
        };
        let program = Program::attach(link.index, interface)?;
        // as the dataplane's are
        let settings = XskSettings { zero_copy: false, ..XskSettings::default() };
        let (mut sockets, mut handles) = (Vec::new(), Vec::new());
        for queue in 0..queues {
            let socket = Xsk::open(umem, interface, queue, settings)?;
            let handle = socket.as_fd().try_clone_to_owned().context("sharing a socket")?;
            handles.push((queue, handle));
            sockets.push(socket);
        }
        Ok(Self { link, sockets, door: Door { program, sockets: handles } })
    }

    /// Whether frames may come in with checksums that nobody has completed.
    pub fn completes_checksums(&self) -> bool {
        self.link.kind == LinkKind::Veth
    }
}

impl Door {
    /// Lets frames come in.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn open(&mut self) -> Result<()> {
        for (queue, socket) in self.sockets.drain(..) {
            self.program.connect(queue, &socket)?;
        }
        Ok(())
    }
}
