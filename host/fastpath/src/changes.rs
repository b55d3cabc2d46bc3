//! Entries that are changed where they are, and what was counted of them stays.
//!
//! The kernel's own update puts another element in the old one's place, so a program writes the
//! entries; it is run on a packet that holds some.

use aya::programs::{ProgramError, TestRun, TestRunOptions};

use crate::cache::{MapFault, ON_CHANGE, program};
use crate::kernel::bytes;
use crate::key::Raw;
use crate::layout::{BEFORE_CHANGES, CHANGES_FAMILY, MOST_CHANGES, RawHead};
use crate::translation::entry;
use crate::{FlowCache, Forward, Generation, Key, Slot, Verdict};

/// What is to become of an entry.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Which.
    pub key: Key,
    /// Of which insertion.
    pub generation: Generation,
    /// What becomes of its packets.
    pub verdict: Verdict,
}

impl FlowCache {
    /// Changes what becomes of the packets of an entry; says whether it was there, and still of
    /// this insertion. A packet finds the old entry or the new one, whole.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn change(
        &mut self,
        key: &Key,
        generation: Generation,
        verdict: &Verdict,
    ) -> Result<bool, ChangeError> {
        let changed = self.change_all(&[Change { key: *key, generation, verdict: *verdict }])?;
        Ok(changed == [true])
    }

    /// [Changes](Self::change) many entries, which costs far less than one by one; says of each
    /// whether it was there.
    ///
    /// # Errors
    /// If the kernel refuses; some may be changed.
    pub fn change_all(&mut self, changes: &[Change]) -> Result<Vec<bool>, ChangeError> {
        let mut changed = vec![false; changes.len()];
        let mut packets = [Packet::new(4), Packet::new(6)];
        for (at, Change { key, generation, verdict }) in changes.iter().enumerate() {
            let packet = &mut packets[usize::from(matches!(key.0, Raw::V6(_)))];
            packet.add(at, &self.entry(key, *generation, verdict, 0)?);
            if packet.places.len() == MOST_CHANGES {
                self.write(packet, &mut changed)?;
            }
        }
        for packet in &mut packets {
            self.write(packet, &mut changed)?;
        }
        Ok(changed)
    }

    /// Changes an entry to one that forwards, and waits: for the packets that were punted since it
    /// was inserted or changed to punt them, as [`insert_waiting`](Self::insert_waiting) does.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn change_waiting(
        &mut self,
        key: &Key,
        generation: Generation,
        forward: Forward,
        slot: &Slot,
    ) -> Result<bool, ChangeError> {
        let slot = slot.bind(generation);
        let mut packet = Packet::new(if matches!(key.0, Raw::V4(_)) { 4 } else { 6 });
        packet.add(0, &self.entry(key, generation, &Verdict::Forward(forward), slot)?);
        let mut changed = [false];
        self.write(&mut packet, &mut changed)?;
        Ok(changed[0])
    }

    /// The bytes of an entry.
    fn entry(
        &mut self,
        key: &Key,
        generation: Generation,
        verdict: &Verdict,
        slot: u32,
    ) -> Result<Vec<u8>, ChangeError> {
        let version = self.numbers.take()?.0;
        let head = RawHead { version, slot, ..verdict.head(generation, Self::now()) };
        let translation = verdict.translation();
        match key.0 {
            Raw::V4(key) => entry(key, head, translation).map(|entry| bytes(&entry).to_vec()),
            Raw::V6(key) => entry(key, head, translation).map(|entry| bytes(&entry).to_vec()),
        }
        .ok_or(ChangeError::Families)
    }

    /// Has the program write what the packet holds, and says what was there. It is empty then.
    fn write(&mut self, packet: &mut Packet, changed: &mut [bool]) -> Result<(), ChangeError> {
        if packet.places.is_empty() {
            return Ok(());
        }
        let options = TestRunOptions { data_in: Some(&packet.bytes), ..Default::default() };
        let done = program(&mut self.ebpf, ON_CHANGE).test_run(options)?.return_value;
        for (bit, place) in packet.places.drain(..).enumerate() {
            changed[place] = done & 1 << bit != 0;
        }
        packet.bytes.truncate(BEFORE_CHANGES);
        Ok(())
    }
}

/// A packet for the program that changes entries.
struct Packet {
    bytes: Vec<u8>,
    /// Which change each of its entries is.
    places: Vec<usize>,
}

impl Packet {
    fn new(family: u8) -> Self {
        let mut bytes = vec![0; BEFORE_CHANGES];
        bytes[CHANGES_FAMILY] = family;
        Self { bytes, places: Vec::new() }
    }

    fn add(&mut self, place: usize, entry: &[u8]) {
        self.bytes.extend(entry);
        self.places.push(place);
    }
}

/// Why an entry is not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It is to be translated to addresses of the other family.
    #[error("the flow and its translation are of different families")]
    Families,
    /// A map refuses.
    #[error(transparent)]
    Map(#[from] MapFault),
    /// The kernel does not run the program.
    #[error("entries cannot be changed: {0}")]
    Refused(#[from] ProgramError),
}
