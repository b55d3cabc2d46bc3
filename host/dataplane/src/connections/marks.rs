//! What happened to a connection so far, beside its state: yes or no, a bit for each.

use super::Direction;

/// All of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks(u16);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Mark {
    /// The opener had packets that are not bare SYNs.
    OriginalSpoke,
    /// Who answers had such packets.
    ReplySpoke,
    /// Both sides take part, so it is nobody's flood: it is not evicted any more.
    Settled,
    /// The kernel may have carried packets that user space never saw.
    Cached,
    /// It has to make room, unless the kernel saw it settle.
    Evicted,
    /// It is among those that its endpoint is said to have.
    Counted,
    /// It is among those of its owner that the kernel is said to carry.
    Carried,
    /// It is to leave the kernel to make room there.
    Crowded,
    /// The opener's FIN was seen.
    OriginalEnded,
    /// The FIN of who answers was seen.
    ReplyEnded,
}

impl Marks {
    #[inline]
    pub(super) fn has(self, mark: Mark) -> bool {
        self.0 & mark.bit() != 0
    }

    #[inline]
    pub(super) fn set(&mut self, mark: Mark, is: bool) {
        match is {
            true => self.0 |= mark.bit(),
            false => self.0 &= !mark.bit(),
        }
    }

    /// Marks it if `is`; it stays as it is otherwise.
    #[inline]
    pub(super) fn add(&mut self, mark: Mark, is: bool) {
        self.set(mark, is || self.has(mark));
    }
}

impl Mark {
    /// That packets which are not bare SYNs took this direction.
    pub(super) const fn spoke(direction: Direction) -> Self {
        match direction {
            Direction::Original => Self::OriginalSpoke,
            Direction::Reply => Self::ReplySpoke,
        }
    }

    /// That a FIN took this direction.
    pub(super) const fn ended(direction: Direction) -> Self {
        match direction {
            Direction::Original => Self::OriginalEnded,
            Direction::Reply => Self::ReplyEnded,
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_there_until_it_is_taken_away_and_the_others_stay() {
        let mut marks = Marks::default();
        marks.set(Mark::Settled, true);
        marks.add(Mark::Counted, true);
        marks.add(Mark::Counted, false);
        marks.add(Mark::spoke(Direction::Reply), false);
        let all = [
            (Mark::OriginalSpoke, false),
            (Mark::ReplySpoke, false),
            (Mark::Settled, true),
            (Mark::Cached, false),
            (Mark::Evicted, false),
            (Mark::Counted, true),
        ];
        assert_eq!(all.map(|(mark, _)| (mark, marks.has(mark))), all);
        marks.set(Mark::Settled, false);
        assert_eq!((marks.has(Mark::Settled), marks.has(Mark::Counted)), (false, true));
    }
}
