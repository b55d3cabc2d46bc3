//! Which frames the kernel has from one socket: a bit for each frame.
//!
//! The kernel is trusted to keep to the rings' protocol; this is what lets a
//! closed socket give everything back, and what keeps a token unique even if a
//! ring should name a frame twice.

/// A set of frame numbers.
#[derive(Debug)]
pub(crate) struct Lent {
    words: Vec<u64>,
}

impl Lent {
    /// The empty set of numbers below `frames`.
    pub(crate) fn none(frames: u32) -> Self {
        Self { words: vec![0; frames.div_ceil(u64::BITS) as usize] }
    }

    /// Adds `index`; false if it was in the set.
    #[inline]
    pub(crate) fn add(&mut self, index: usize) -> bool {
        let (word, bit) = (index / 64, 1 << (index % 64));
        let fresh = self.words[word] & bit == 0;
        self.words[word] |= bit;
        fresh
    }

    /// Removes `index`; false if it was not in the set.
    #[inline]
    pub(crate) fn remove(&mut self, index: usize) -> bool {
        let (word, bit) = (index / 64, 1 << (index % 64));
        let present = self.words[word] & bit != 0;
        self.words[word] &= !bit;
        present
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Every number, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> {
        self.words.iter().enumerate().flat_map(|(at, &word)| {
            (0..64).filter(move |bit| word & (1 << bit) != 0).map(move |bit| at * 64 + bit)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_lent_once_and_taken_back_once() {
        let mut lent = Lent::none(130);
        for index in [0, 63, 64, 129] {
            assert!(lent.add(index));
            assert!(!lent.add(index));
        }
        assert_eq!(lent.iter().collect::<Vec<_>>(), [0, 63, 64, 129]);
        assert!(lent.remove(64));
        assert!(!lent.remove(64));
        assert_eq!(lent.len(), 3);
    }
}
