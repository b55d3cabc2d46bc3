//! Round robin: endpoints take turns, one with a weight of 3 three times as often as one with 1, and
//! not thrice in a row if it can be helped.

/// Whose turn it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns {
    /// What each endpoint is owed, in parts of a turn: whoever is owed most is next. It is nothing
    /// together.
    owed: Box<[i64]>,
}

impl Turns {
    /// The index of the endpoint whose turn it is, of so many, with these weights; all are 1 if there
    /// is none.
    pub(crate) fn next(&mut self, count: usize, weights: &[u16]) -> usize {
        // other endpoints take other turns
        if self.owed.len() != count {
            self.owed = vec![0; count].into();
        }
        let weight = |index: usize| weights.get(index).map_or(1, |weight| i64::from(*weight));
        let (mut all, mut next, mut most) = (0, 0, i64::MIN);
        for (index, owed) in self.owed.iter_mut().enumerate() {
            *owed += weight(index);
            all += weight(index);
            if *owed > most {
                (next, most) = (index, *owed);
            }
        }
        if let Some(owed) = self.owed.get_mut(next) {
            *owed -= all;
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn whoever_is_heavier_is_asked_more_often_and_others_in_between() {
        let mut turns = Turns::default();
        let asked: Vec<usize> = (0..7).map(|_| turns.next(3, &[5, 1, 1])).collect();
        assert_eq!(asked, [0, 0, 1, 0, 2, 0, 0]);
        let mut turns = Turns::default();
        let asked: Vec<usize> = (0..6).map(|_| turns.next(3, &[])).collect();
        assert_eq!(asked, [0, 1, 2, 0, 1, 2]);
    }

    proptest! {
        #[test]
        fn a_round_has_as_many_turns_of_each_as_it_weighs(
            weights in prop::collection::vec(1..=20u16, 1..12)
        ) {
            let all: u16 = weights.iter().sum();
            let mut turns = Turns::default();
            for _ in 0..3 {
                let mut had = vec![0u16; weights.len()];
                (0..all).for_each(|_| had[turns.next(weights.len(), &weights)] += 1);
                prop_assert_eq!(&had, &weights);
            }
        }
    }
}
