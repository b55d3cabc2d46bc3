//! Entries that are changed where they are, and what was counted of them stays.
//!
//! The kernel's own update puts another element in the old one's place, so a program writes the
//! entry; it is run on a packet that holds it.

use aya::programs::{ProgramError, TestRun, TestRunOptions};

use crate::cache::{MapFault, ON_CHANGE, program};
use crate::kernel::bytes;
use crate::key::Raw;
use crate::layout::{BEFORE_ENTRY, CHANGED, NOT_THERE, RawHead};
use crate::translation::entry;
use crate::{FlowCache, Forward, Generation, Key, Slot, Verdict};

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
        self.write(key, generation, verdict, 0)
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
        self.write(key, generation, &Verdict::Forward(forward), slot)
    }

    fn write(
        &mut self,
        key: &Key,
        generation: Generation,
        verdict: &Verdict,
        slot: u32,
    ) -> Result<bool, ChangeError> {
        let version = self.numbers.take()?.0;
        let head = RawHead { version, slot, ..verdict.head(generation, Self::now()) };
        let translation = verdict.translation();
        let mut packet = vec![0; BEFORE_ENTRY];
        match key.0 {
            Raw::V4(key) => {
                let entry = entry(key, head, translation).ok_or(ChangeError::Families)?;
                packet.extend(bytes(&entry));
            }
            Raw::V6(key) => {
                let entry = entry(key, head, translation).ok_or(ChangeError::Families)?;
                packet.extend(bytes(&entry));
            }
        }
        let options = TestRunOptions { data_in: Some(&packet), ..TestRunOptions::default() };
        match program(&mut self.ebpf, ON_CHANGE).test_run(options)?.return_value {
            CHANGED => Ok(true),
            NOT_THERE => Ok(false),
            other => Err(ChangeError::Unheard(other)),
        }
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
    #[error("an entry cannot be changed: {0}")]
    Refused(#[from] ProgramError),
    /// The program does not take what it was given.
    #[error("the program that changes entries answers {0}")]
    Unheard(u32),
}
