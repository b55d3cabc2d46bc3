//! How many connections each endpoint has, in a map that filters read.
//!
//! An endpoint has those that are translated to it, from when packets find them until both sides
//! are done with them or packets find them no more: also those that the kernel carries.

use std::sync::Arc;

use millrace_sandbox::maps::{HostMap, Served};
use millrace_wire::IpProtocol;

use super::connection::{Connection, Phase};
use super::marks::Mark;
use super::shard::Shard;
use super::{Connections, Cursor, Direction};

impl Connections {
    /// Counts connections by endpoint from now on, and those at the next `places` places from
    /// `from` on that are there already; says where to go on, and nothing at the end. Until then
    /// counts lack some.
    pub fn count(&self, loads: &Arc<HostMap>, from: Cursor, places: usize) -> Option<Cursor> {
        for shard in &self.shards {
            shard.lock().loads.get_or_insert_with(|| Arc::clone(loads));
        }
        self.walk(from, places, Shard::weigh)
    }
}

impl Shard {
    /// Has a connection counted if it counts, and not if it does not any more.
    #[inline]
    pub(super) fn weigh(&mut self, at: u32) {
        let Some(loads) = &self.loads else { return };
        let connection = self.slab.present(at);
        let counts = connection.phase == Phase::Live && !connection.state.is_over();
        if counts == connection.marks.has(Mark::Counted) {
            return;
        }
        let Some(served) = connection.served() else { return };
        if counts {
            connection.marks.set(Mark::Counted, loads.raise(&served));
        } else {
            connection.marks.set(Mark::Counted, false);
            loads.lower(&served);
        }
    }
}

impl Connection {
    /// Whom its packets are translated to, if they are.
    fn served(&self) -> Option<Served> {
        let [there, back] = Direction::BOTH.map(|direction| self.key(direction));
        let is_translated = there.destination != back.source;
        (is_translated && IpProtocol(there.protocol).has_ports()).then_some(Served {
            address: back.source.address,
            port: back.source.port,
            protocol: back.protocol,
        })
    }
}
