//! An interface that was opened as a port: what makes its packets come, and what is odd about it.

use millrace_netns::Link;
use millrace_xsk::{AttachMode, FRAME_CAPACITY, Program};

/// An interface that is a port.
pub(super) struct Opened {
    pub(super) link: Link,
    pub(super) way: Way,
}

/// What makes an interface's packets come.
pub(super) enum Way {
    Sockets { program: Program, bound: &'static str, queues: u32, driver: String },
    Cache,
}

impl Opened {
    /// How its packets are taken.
    pub(super) fn attached(&self) -> &'static str {
        match &self.way {
            Way::Sockets { program, .. } => program.mode().label(),
            Way::Cache => "cache",
        }
    }

    /// How its sockets have frames.
    pub(super) fn bound(&self) -> &'static str {
        match self.way {
            Way::Sockets { bound, .. } => bound,
            Way::Cache => "-",
        }
    }

    /// Its queues that have sockets.
    pub(super) fn queues(&self) -> u32 {
        match self.way {
            Way::Sockets { queues, .. } => queues,
            Way::Cache => 0,
        }
    }

    /// What is odd, with the remedy.
    pub(super) fn notes(&self) -> Vec<String> {
        let (name, mut notes) = (&self.link.name, Vec::new());
        if let Way::Sockets { program, driver, .. } = &self.way
            && program.mode() == AttachMode::Generic
        {
            notes.push(format!(
                "the driver `{driver}` has no XDP; packets its senders leave to segmentation offload \
                 are dropped as too large: `ethtool -K {name} gro off lro off`, and `ethtool -K \
                 PEER tso off gso off` where a veth begins"
            ));
        }
        if self.link.mtu > MAX_MTU {
            notes.push(format!(
                "packets above {MAX_MTU} bytes do not fit into a frame, and are dropped: `ip link \
                 set dev {name} mtu {MAX_MTU}`"
            ));
        }
        if !self.link.up {
            notes.push(format!("the interface is down: `ip link set dev {name} up`"));
        }
        notes
    }
}

/// The largest MTU whose packets fit into a frame with an Ethernet header and two tags.
pub(super) const MAX_MTU: u32 = (FRAME_CAPACITY - 14 - 8) as u32;
