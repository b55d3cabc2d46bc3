//! Connections that some stage looks into: all their packets come to one worker, which the
//! kernel's entries name, until the last stage has seen enough. Then the kernel carries them, in
//! order.

use std::num::NonZeroU32;

use millrace_fastpath::{self as fastpath, Generation};

use super::{Tracking, kernel};
use crate::connections::{ConnectionId, Direction, Key, Showing, Side};
use crate::port::PortTable;

impl Tracking {
    /// Has the kernel bring all packets of a direction to this worker.
    pub(super) fn keep(&self, id: ConnectionId, direction: Direction, key: &Key, revision: u32) {
        let Some(key) = kernel::key(key) else { return };
        let kept = self.put(id, &key, |cache| self.hand_over.keep(cache, &key, self.queue));
        self.note(id, direction, &key, kept, revision);
    }

    /// Whether a packet of the connection is shown to the stage at `position`. After the last one
    /// that anybody wants the kernel gets the connection.
    pub(crate) fn shows(&self, id: ConnectionId, position: usize, ports: &PortTable) -> bool {
        let showing = self.connections.shows(id, position);
        if showing == Showing::Last {
            self.release(id, ports);
        }
        showing != Showing::No
    }

    /// The stage at `position` wants to see no more of the connection.
    pub(crate) fn released(&self, id: ConnectionId, position: usize, ports: &PortTable) {
        if self.connections.released(id, position) {
            self.release(id, ports);
        }
    }

    fn release(&self, id: ConnectionId, ports: &PortTable) {
        let Some(sides) = self.connections.sides(id) else { return };
        for (direction, side) in Direction::BOTH.into_iter().zip(&sides) {
            let Some(kept) = side.generation else { continue };
            if !self.let_go(side, kept, ports) {
                // the next packet will bring it to the kernel, or find that this cannot be
                self.connections.cached(id, direction, None, side.revision);
            }
        }
    }

    /// Has the kernel carry a direction, once what is here has left. Whether it does.
    fn let_go(&self, side: &Side, kept: NonZeroU32, ports: &PortTable) -> bool {
        let Some(flow) = kernel::flow(&side.key, &side.way, &side.translation, ports) else {
            return false;
        };
        let mut cache = self.cache.lock();
        let generation = Generation::from(kept);
        match self.hand_over.change(&mut cache, &flow.key, generation, flow.forward) {
            Ok(carried) => carried,
            Err(error) => {
                tracing::error!(%error, "the kernel does not take a flow that filters released");
                false
            }
        }
    }

    /// Where an inspected packet's leaving is to be noted.
    pub(super) fn kept_slot(&self, key: &Key) -> Option<std::sync::Arc<fastpath::Slot>> {
        self.hand_over.slot(&kernel::key(key)?, None)
    }
}
