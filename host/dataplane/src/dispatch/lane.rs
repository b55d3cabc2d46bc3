//! Packets in a row that leave by one port just as they came: nearly all that direct ports carry.
//!
//! Where they go is worked out once for the row, and they are counted together when it ends. It
//! never touches a packet: whatever has to be rewritten, tagged, cut, copied or refused is left to
//! the long way, and so is a packet that does not fit.

use millrace_abi::{Field, Slot};
use millrace_parse::Layers;

use super::fits;
use crate::counters::{Counters, Fate, Key};
use crate::io::Io;
use crate::port::{HeldPort, Hold, PortId, PortTable, Tagging, add};
use crate::verdict::Verdict;

/// The way of a row of packets.
pub(super) struct Lane<'p> {
    /// The port they came in by.
    ingress: PortId,
    vlan: u16,
    verdict: Verdict,
    egress: &'p HeldPort,
    /// Sent, and not counted yet.
    packets: u64,
    bytes: u64,
}

impl<'p> Lane<'p> {
    /// The way of a packet that came in by a direct port, if it may leave as it is.
    pub(super) fn of(slot: &Slot, verdict: &Verdict, ports: &'p PortTable) -> Option<Self> {
        let is_plain = verdict.is_open()
            && verdict.reason.is_none()
            && !verdict.answered
            && !CHANGES.iter().any(|&field| verdict.fields.contains(field));
        let ingress = PortId::new(slot.ingress)?;
        let egress = ports.get(PortId::new(verdict.egress)?)?;
        let port = &egress.port;
        let is_as_it_came = port.up
            && port.hold == Hold::Direct
            && slot.vlan == 0
            && port.vlans.tagging(0) == Some(Tagging::Untagged);
        let verdict = *verdict;
        (is_plain && is_as_it_came).then_some(Self {
            ingress,
            vlan: slot.vlan,
            verdict,
            egress,
            packets: 0,
            bytes: 0,
        })
    }

    /// Whether this is the way of another packet, too.
    #[inline]
    pub(super) fn is_of(&self, slot: &Slot, verdict: &Verdict) -> bool {
        slot.ingress == self.ingress.number() && slot.vlan == self.vlan && *verdict == self.verdict
    }

    /// Whether the port carries a packet of this length.
    #[inline]
    pub(super) fn fits(&self, frame: &[u8], layers: Layers) -> bool {
        fits(frame, layers, &self.egress.port)
    }

    /// Sends a packet of `bytes` bytes.
    ///
    /// # Errors
    /// Hands the frame back if the port's queue is full.
    #[inline]
    pub(super) fn send<I: Io>(
        &mut self,
        io: &mut I,
        frame: I::Frame,
        bytes: usize,
    ) -> Result<(), I::Frame> {
        io.transmit(self.egress.port.id, frame)?;
        self.packets += 1;
        self.bytes += bytes as u64;
        Ok(())
    }

    /// Counts what was sent.
    pub(super) fn settle(self, counters: &Counters) {
        if self.packets > 0 {
            add(&self.egress.counters.tx_packets, self.packets);
            add(&self.egress.counters.tx_bytes, self.bytes);
            let Self { ingress: port, verdict, packets, .. } = self;
            counters.count(Key { port, by: verdict.by, fate: Fate::Forwarded }, packets);
        }
    }
}

/// Fields that ask for more than one port.
const CHANGES: [Field; 6] =
    [Field::Flood, Field::To, Field::As, Field::Masquerade, Field::NextHop, Field::DecrementTtl];
