//! How connections are shared among Services of which each is to have its part.
//!
//! Owns that the endpoints of a part have together what it is to have, each as much as it weighs in its
//! Service, and that nobody has what a part without endpoints is to have.

use std::collections::BTreeMap;

use millrace_tables::{Backend, Endpoint};
use num_integer::Integer;

/// A part of what there is.
pub(super) struct Part {
    /// How much it is, compared with others.
    pub(super) weight: u32,
    /// Who has it, and how much of it.
    pub(super) backends: Vec<Backend>,
}

/// The endpoints of all parts, in order, and each once, with weights of their own; none if all there
/// is would be nobody's.
pub(super) fn shared(parts: &[Part]) -> Vec<Backend> {
    let parts = || parts.iter().filter(|it| it.weight > 0);
    let whole = |part: &Part| part.backends.iter().map(|it| u128::from(it.weight)).sum::<u128>();
    if parts().all(|it| it.backends.is_empty()) {
        return Vec::new();
    }
    // each endpoint's share is a whole number of such pieces, unless they would be too many
    let pieces = parts()
        .map(whole)
        .filter(|it| *it > 0)
        .fold(1, |all, whole| all.lcm(&whole).min(MOST_PIECES));
    let mut shares = BTreeMap::<Endpoint, u128>::new();
    for part in parts() {
        let (weight, whole) = (u128::from(part.weight) * pieces, whole(part));
        if whole == 0 {
            *shares.entry(Endpoint::NOBODY).or_default() += weight;
        }
        for backend in &part.backends {
            *shares.entry(backend.endpoint).or_default() +=
                (weight * u128::from(backend.weight) / whole).max(1);
        }
    }
    let divisor = shares.values().fold(0, |all: u128, share| all.gcd(share));
    let all = shares.values().sum::<u128>() / divisor;
    let least = |share: u128| match all <= FINEST {
        true => share / divisor,
        // the nearest there is, and something at least
        false => ((share / divisor * FINEST + all / 2) / all).max(1),
    };
    let backend = |(endpoint, share)| {
        let weight = u16::try_from(least(share)).expect("a share is no more than all of them");
        Backend { endpoint, weight }
    };
    shares.into_iter().map(backend).collect()
}

/// What all weights come to, at most and about: a filter has places for each, which it has to fill.
const FINEST: u128 = 4096;
/// So many that nobody notices what is lost if they do not come out even.
const MOST_PIECES: u128 = 1 << 48;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn endpoint(last: u8) -> Endpoint {
        Endpoint { address: [10, 1, 0, last].into(), port: 80 }
    }

    fn part(weight: u32, backends: &[(u8, u16)]) -> Part {
        let backend =
            |(last, weight): &(u8, u16)| Backend { endpoint: endpoint(*last), weight: *weight };
        Part { weight, backends: backends.iter().map(backend).collect() }
    }

    /// The weights, by the last octets of their addresses; 0 is nobody.
    fn weights(parts: &[Part]) -> Vec<(u8, u16)> {
        let last = |endpoint: Endpoint| match endpoint.address {
            std::net::IpAddr::V4(v4) => v4.octets()[3],
            std::net::IpAddr::V6(_) => panic!("there is none"),
        };
        shared(parts).iter().map(|it| (last(it.endpoint), it.weight)).collect()
    }

    #[test]
    fn one_part_is_as_its_service_has_it() {
        assert_eq!(weights(&[part(7, &[(1, 1), (2, 1)])]), [(1, 1), (2, 1)]);
        assert_eq!(weights(&[part(1, &[(1, 1), (2, 3)])]), [(1, 1), (2, 3)]);
    }

    #[test]
    fn parts_have_what_they_are_to_have_however_many_endpoints_they_have() {
        let parts = [part(1, &[(1, 1), (2, 1)]), part(3, &[(3, 1)])];
        assert_eq!(weights(&parts), [(1, 1), (2, 1), (3, 6)]);
        // one that two Services have gets of both
        let parts = [part(1, &[(1, 1)]), part(3, &[(1, 1), (2, 1)])];
        assert_eq!(weights(&parts), [(1, 5), (2, 3)]);
    }

    #[test]
    fn nobody_has_what_a_part_without_endpoints_is_to_have_and_weight_0_is_nothing() {
        assert_eq!(weights(&[part(1, &[(1, 1)]), part(4, &[])]), [(0, 4), (1, 1)]);
        assert_eq!(weights(&[part(1, &[(1, 1)]), part(0, &[])]), [(1, 1)]);
        assert_eq!(weights(&[part(1, &[(1, 1)]), part(0, &[(2, 1)])]), [(1, 1)]);
        assert_eq!(weights(&[part(0, &[(1, 1)])]), []);
        assert_eq!(weights(&[part(1, &[]), part(2, &[])]), []);
        assert_eq!(weights(&[]), []);
    }

    proptest! {
        #[test]
        fn shares_are_as_near_as_weights_can_say(
            parts in prop::collection::vec(
                (0..=1_000_000u32, prop::collection::btree_map(1..40u8, 1..=100u16, 0..12)), 1..16),
        ) {
            let parts: Vec<_> = parts
                .into_iter()
                .map(|(weight, backends)| part(weight, &Vec::from_iter(backends)))
                .collect();
            let given = shared(&parts);
            prop_assert!(given.is_sorted_by(|a, b| a.endpoint < b.endpoint));
            let all: f64 = parts.iter().map(|it| f64::from(it.weight)).sum();
            let sum: f64 = given.iter().map(|it| f64::from(it.weight)).sum();
            prop_assert!(sum <= FINEST as f64 + given.len() as f64);
            let due = |endpoint: Endpoint| -> f64 {
                let of = |part: &Part| {
                    let whole: f64 = part.backends.iter().map(|it| f64::from(it.weight)).sum();
                    let mut own = part.backends.iter().filter(|it| it.endpoint == endpoint);
                    let own = own.next().map_or(0.0, |it| f64::from(it.weight) / whole);
                    let is_nobodys = part.backends.is_empty() && endpoint == Endpoint::NOBODY;
                    f64::from(part.weight) * if is_nobodys { 1.0 } else { own }
                };
                parts.iter().map(of).sum::<f64>() / all
            };
            for backend in &given {
                let share = f64::from(backend.weight) / sum;
                let off = (share - due(backend.endpoint)).abs();
                // of each only what is rounded, and what others have who have something at least
                prop_assert!(off <= given.len() as f64 / FINEST as f64, "{off} of {backend:?}");
            }
        }
    }
}
