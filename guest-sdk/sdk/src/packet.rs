//! One packet, as the packet hook has it.

use crate::Reason;
use crate::abi::PacketRecord;

/// A packet, and what becomes of it: it passes, unless it is dropped or answered.
#[derive(Debug)]
pub struct Packet<'a> {
    record: &'a mut PacketRecord,
    /// All the room there is; the packet is at its start.
    room: &'a mut [u8],
    len: usize,
}

impl<'a> Packet<'a> {
    /// The packet in the first bytes of `room` that `record` speaks of.
    ///
    /// # Panics
    /// If the record's `len` is more than there is room.
    pub(crate) fn new(record: &'a mut PacketRecord, room: &'a mut [u8]) -> Self {
        let len = record.len as usize;
        assert!(len <= room.len(), "a packet has room");
        Self { record, room, len }
    }

    /// The packet's bytes from the Ethernet header on: all, or the first ones up to the snap
    /// length.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.room[..self.len]
    }

    /// Length of the whole packet.
    #[inline]
    pub fn wire_len(&self) -> usize {
        self.record.wire_len as usize
    }

    /// Whether [`Packet::bytes`] is the whole packet.
    #[inline]
    pub fn is_whole(&self) -> bool {
        self.len == self.wire_len()
    }

    /// The packet's bytes, to be changed: what is there when the hook returns replaces them.
    /// Needs the capability `rewrite`.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.record.rewritten(self.len as u32);
        &mut self.room[..self.len]
    }

    /// Gives the packet another length, of at most [`Packet::capacity`]; bytes that come in are
    /// whatever was there. Only a whole packet can change its length. Needs the capability
    /// `rewrite`.
    ///
    /// # Panics
    /// If it is more than there is room, or the packet is not whole.
    pub fn resize(&mut self, len: usize) {
        assert!(self.is_whole(), "only a whole packet can change its length");
        assert!(len <= self.capacity(), "a packet fits into its room");
        self.len = len;
        self.record.rewritten(len as u32);
    }

    /// How long the packet may become.
    pub fn capacity(&self) -> usize {
        self.room.len()
    }

    /// Discards the packet.
    #[inline]
    pub fn drop(&mut self, reason: Reason) {
        self.record.drop(reason);
    }

    /// Names the rule, of those in the manifest, that decided.
    #[inline]
    pub fn by_rule(&mut self, rule: u32) {
        self.record.rule = rule;
    }

    /// Sends what `write` leaves in the room, whose length it returns, back out of the port the
    /// packet came by; the packet itself ends here. The room begins with the packet. Needs the
    /// capability `emit`.
    ///
    /// # Panics
    /// If the length is more than there is room.
    pub fn answer(&mut self, write: impl FnOnce(&mut [u8]) -> usize) {
        let len = write(self.room);
        assert!(len <= self.capacity(), "an answer fits into its room");
        self.record.answer(len as u32);
    }

    /// Asks for no more packets of this flow.
    #[inline]
    pub fn release(&mut self) {
        self.record.release();
    }
}
