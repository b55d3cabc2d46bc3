//! Whom connections to Services may come from.

use alloc::vec::Vec;

use crate::Range;
use crate::octets::Reader;

/// The number of a set of prefixes that sources may have. Services with the same prefixes share a
/// set, and a set never changes: other prefixes have another number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceSet(pub u32);

/// A prefix of a set: the key of [`Table::Sources`](crate::Table::Sources).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The set.
    pub set: SourceSet,
    /// The prefix.
    pub range: Range,
}

impl SourceSet {
    /// No set: everybody may connect.
    pub const NONE: Self = Self(0);
}

impl Source {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.set.0.to_le_bytes());
        self.range.encode(out);
    }

    pub(crate) fn decode(octets: &[u8]) -> Option<Self> {
        let mut from = Reader(octets);
        let set = SourceSet(from.u32()?);
        let range = Range::decode(from.0)?;
        (set != SourceSet::NONE).then_some(Self { set, range })
    }
}
