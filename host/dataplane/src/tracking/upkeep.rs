//! What is done about connections when no packet comes: those that the kernel saw end, and those
//! that are silent for too long.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use millrace_fastpath::{self as fastpath, FlowCache, MapFault};
use parking_lot::Mutex;

use super::{HandOver, kernel};
use crate::connections::{Closing, Connections, Direction, Due, Endpoint, Key, Usage, Zone};

/// Keeps connections and what the kernel has of them in step.
pub(crate) struct Upkeep {
    connections: Arc<Connections>,
    cache: Arc<Mutex<FlowCache>>,
    hand_over: Arc<HandOver>,
}

impl Upkeep {
    pub(crate) fn new(
        connections: Arc<Connections>,
        cache: Arc<Mutex<FlowCache>>,
        hand_over: Arc<HandOver>,
    ) -> Self {
        Self { connections, cache, hand_over }
    }

    /// Does what is to be done now, and says how soon there is more.
    pub(crate) fn round(&self, now_ns: u64) -> Result<Duration, MapFault> {
        self.hear(now_ns);
        let waits = self.hand_over.tend(now_ns);
        loop {
            let due = self.connections.due(now_ns, AT_ONCE);
            for due in &due {
                self.settle(due, now_ns)?;
            }
            if due.len() < AT_ONCE {
                return Ok(if waits { SOON } else { LATER });
            }
        }
    }

    /// Lets go all that leads to a port or comes from it.
    pub(crate) fn forget_port(&self, number: u16, now_ns: u64) -> Result<(), MapFault> {
        let gone = self.connections.remove_port(number, now_ns);
        gone.iter().try_for_each(|due| self.settle(due, now_ns))
    }

    /// Learns which connections begin to close.
    fn hear(&self, now_ns: u64) {
        // never while the cache is locked: workers wait for that
        loop {
            let Some(event) = self.cache.lock().next_event() else { return };
            let how = match event.closing {
                fastpath::Closing::Fin => Closing::Fin,
                fastpath::Closing::Reset => Closing::Reset,
            };
            if let Some(generation) = NonZeroU32::new(event.generation.number()) {
                self.connections.closing(&key(&event.key), generation, how, now_ns);
            }
        }
    }

    /// Takes back from the kernel a connection that has been silent for too long, as far as user
    /// space knows; and lets it go, unless the kernel knew better.
    fn settle(&self, due: &Due, now_ns: u64) -> Result<(), MapFault> {
        for direction in Direction::BOTH {
            let side = direction as usize;
            let Some(key) = kernel::key(&due.keys[side]) else { continue };
            self.hand_over.forget(&key);
            let usage = self.cache.lock().retire(&key)?;
            if let Some(usage) = usage
                && let Some(generation) = NonZeroU32::new(usage.generation.number())
            {
                self.connections.absorb(&due.keys[side], generation, &told(&usage));
            }
        }
        self.connections.retire(due.id, now_ns);
        Ok(())
    }
}

fn told(usage: &fastpath::Usage) -> Usage {
    Usage {
        last_seen_ns: kernel::nanos(usage.last_seen),
        packets: usage.packets,
        bytes: usage.bytes,
        beyond_syn: usage.packets > 0,
    }
}

/// A kernel's key, as connections have it.
fn key(key: &fastpath::Key) -> Key {
    let end = |address: std::net::SocketAddr| {
        let ip = match address.ip() {
            std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            std::net::IpAddr::V6(v6) => v6,
        };
        Endpoint { address: ip.octets(), port: address.port() }
    };
    Key {
        source: end(key.source()),
        destination: end(key.destination()),
        zone: Zone::port(key.from().number()),
        protocol: match key.protocol() {
            fastpath::Protocol::Tcp => 6,
            fastpath::Protocol::Udp => 17,
        },
    }
}

/// How soon there is something to be done while flows wait for their turn.
const SOON: Duration = Duration::from_millis(10);
/// How soon otherwise.
const LATER: Duration = Duration::from_millis(100);
/// Connections that are looked at together.
const AT_ONCE: usize = 1024;
