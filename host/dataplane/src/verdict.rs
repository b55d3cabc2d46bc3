//! What becomes of a packet: the host's own record of what filters decided.
//!
//! Filters state; the host checks, and writes down here. Nothing in a verdict is a
//! guest's unchecked word.

use millrace_abi::{Control, FieldSet, NO_PORT, Reason, ReasonGroup, Tag, limits};

/// What becomes of a packet, as far as carrying it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it goes on.
    pub control: Control,
    /// Who decided: the stage that dropped it, or the last one that said where it goes.
    pub by: Decider,
    /// Why it was dropped or rejected.
    pub reason: Option<Reason>,
    /// Which fields are decided.
    pub fields: FieldSet,
    /// The port it leaves by, if `fields` has it.
    pub egress: u16,
    /// The decider's own rule; 0 if it named none.
    pub rule: u32,
    /// Stages that want to see the packets: a bit for each position in the chain.
    pub inspect: u16,
    /// Whether the frame is a stage's answer, rather than the packet.
    pub answered: bool,
}

/// The terms on which a verdict is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Milliseconds without a packet after which it is forgotten.
    pub idle_ms: u32,
    /// Milliseconds after which the chain is asked again; 0 for never.
    pub revalidate_ms: u32,
    /// What it depends on.
    pub tags: Tags,
    /// How many more packets each stage wants to see; [`millrace_abi::INSPECT_ALL`] for all.
    pub inspect_left: [u16; MAX_STAGES],
}

/// Who decided about a packet: the host, or a stage by a number that stays with it wherever it
/// is in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Decider(u8);

/// What a verdict depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    len: u8,
    tags: [u32; limits::MAX_TAGS],
}

/// Stages of a chain, at most.
pub const MAX_STAGES: usize = 16;

impl Verdict {
    /// Nothing decided yet.
    pub const OPEN: Self = Self {
        control: Control::Continue,
        by: Decider::HOST,
        reason: None,
        fields: FieldSet::EMPTY,
        egress: NO_PORT,
        rule: 0,
        inspect: 0,
        answered: false,
    };

    /// Dropped by the host.
    pub const fn dropped(reason: Reason) -> Self {
        Self { control: Control::Drop, reason: Some(reason), ..Self::OPEN }
    }

    /// Whether the packet goes on.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.control == Control::Continue
    }

    /// Whether it says what a filter said, rather than what the host made of a filter's failure.
    pub fn is_a_filters(&self) -> bool {
        self.reason.is_none_or(|reason| reason.group() == ReasonGroup::Filter)
    }

    /// Drops it, on behalf of `by`.
    pub fn drop_by(&mut self, by: Decider, reason: Reason) {
        self.control = Control::Drop;
        self.by = by;
        self.reason = Some(reason);
        self.rule = 0;
    }
}

impl Terms {
    /// What holds where no stage says otherwise.
    pub const DEFAULT: Self = Self {
        idle_ms: 30_000,
        revalidate_ms: 0,
        tags: Tags { len: 0, tags: [0; limits::MAX_TAGS] },
        inspect_left: [0; MAX_STAGES],
    };
}

impl Decider {
    /// The host itself.
    pub const HOST: Self = Self(0);

    /// A stage.
    ///
    /// # Panics
    /// If the number is 0, which is the host's.
    pub const fn stage(number: u8) -> Self {
        assert!(number != 0, "0 is the host");
        Self(number)
    }

    /// Its number; 0 for the host.
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl Tags {
    /// Adds a tag; false if there is no room.
    pub fn add(&mut self, tag: Tag) -> bool {
        if self.iter().any(|present| present == tag) {
            return true;
        }
        match self.tags.get_mut(usize::from(self.len)) {
            Some(free) => {
                *free = tag.bits();
                self.len += 1;
                true
            }
            None => false,
        }
    }

    /// The tags, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = Tag> {
        self.tags[..usize::from(self.len)].iter().map(|&bits| Tag::from_bits(bits))
    }
}
