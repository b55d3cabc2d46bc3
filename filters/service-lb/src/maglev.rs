//! Consistent hashing as Maglev has it (Eisenbud et al., NSDI 2016, section 3.4): a table of a
//! prime number of places, in which each endpoint has as many as any other of its weight, give or
//! take one turn. A node fills the same table as any other, and few places change hands when an
//! endpoint comes or goes.

use std::net::IpAddr;

use millrace_filter::tables::Endpoint;

/// Which endpoint has which place.
pub(crate) struct Maglev {
    /// Each the index of an endpoint; empty if there is one alone.
    places: Box<[u16]>,
}

impl Maglev {
    /// The table of these endpoints, of which there is one at least; `None` if they are too many.
    /// All have the same weight if none is said.
    pub(crate) fn new(endpoints: &[Endpoint], weights: &[u16]) -> Option<Self> {
        let turns = weights.iter().map(|weight| usize::from(*weight)).sum::<usize>();
        match endpoints.len() {
            0 => None,
            1 => Some(Self { places: Box::default() }),
            count if count <= MOST => {
                Some(Self { places: fill(endpoints, weights, size(turns.max(count))) })
            }
            _ => None,
        }
    }

    /// The index of the endpoint for this hash.
    #[inline]
    pub(crate) fn pick(&self, hash: u32) -> usize {
        // the hash as a fraction of the table, spread apart from what routers make of it
        let spread = u64::from((hash ^ (hash >> 15)).wrapping_mul(ODD));
        let at = (spread * self.places.len() as u64) >> u32::BITS;
        self.places.get(at as usize).map_or(0, |index| usize::from(*index))
    }
}

/// Each endpoint in turn takes the next places of its own order that are free, as many as it weighs.
fn fill(endpoints: &[Endpoint], weights: &[u16], size: u32) -> Box<[u16]> {
    let mut orders: Vec<Order> = endpoints.iter().map(|it| Order::of(it, size)).collect();
    let mut places = vec![FREE; size as usize];
    let mut taken = 0;
    loop {
        for (index, order) in orders.iter_mut().enumerate() {
            for _ in 0..weights.get(index).copied().unwrap_or(1) {
                while places[order.next as usize] != FREE {
                    order.step(size);
                }
                places[order.next as usize] = index as u16;
                taken += 1;
                if taken == size {
                    return places.into();
                }
            }
        }
    }
}

/// The order in which an endpoint would have places: from somewhere on by steps of one length,
/// which meets every place, for their number is prime.
struct Order {
    next: u32,
    skip: u32,
}

impl Order {
    fn of(endpoint: &Endpoint, size: u32) -> Self {
        let address = match endpoint.address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let [high, low] = [address.to_bits() >> 64, address.to_bits()].map(|it| it as u64);
        let first = mix(mix(high) ^ low ^ u64::from(endpoint.port).rotate_left(48));
        let second = mix(first);
        Self {
            next: (first % u64::from(size)) as u32,
            skip: (second % u64::from(size - 1)) as u32 + 1,
        }
    }

    fn step(&mut self, size: u32) {
        self.next += self.skip;
        if self.next >= size {
            self.next -= size;
        }
    }
}

/// The finalizer of SplitMix64 (Steele et al., OOPSLA 2014).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// How many places there are for so many endpoints: enough for shares to be alike within some two
/// percent, as long as there are not very many.
fn size(endpoints: usize) -> u32 {
    let wanted = (endpoints as u32).saturating_mul(PLACES_EACH);
    let last = PRIMES[PRIMES.len() - 1];
    PRIMES.into_iter().find(|prime| *prime >= wanted).unwrap_or(last)
}

const PLACES_EACH: u32 = 64;
/// The largest primes below powers of two.
const PRIMES: [u32; 12] =
    [251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131_071, 262_139, 524_287];
/// Stands for no endpoint.
const FREE: u16 = u16::MAX;
const MOST: usize = FREE as usize;
/// 2³² divided by the square of the golden ratio, and odd.
const ODD: u32 = 0x61c8_8647;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn endpoints(count: u32) -> Vec<Endpoint> {
        (0..count)
            .map(|n| Endpoint { address: (0x0a01_0000 + n).to_be_bytes().into(), port: 80 })
            .collect()
    }

    /// How many places each has.
    fn shares(maglev: &Maglev, endpoints: usize) -> Vec<u32> {
        let mut shares = vec![0; endpoints];
        maglev.places.iter().for_each(|index| shares[usize::from(*index)] += 1);
        shares
    }

    #[test]
    fn tables_have_prime_sizes() {
        for prime in PRIMES {
            assert!(
                (2..).take_while(|d| d * d <= prime).all(|d| !prime.is_multiple_of(d)),
                "{prime}"
            );
        }
    }

    #[test]
    fn one_endpoint_needs_no_table_and_none_has_none() {
        let one = Maglev::new(&endpoints(1), &[]).expect("an endpoint");
        assert_eq!((one.places.len(), one.pick(0), one.pick(u32::MAX)), (0, 0, 0));
        assert!(Maglev::new(&[], &[]).is_none());
        let too_many = vec![endpoints(1)[0]; MOST + 1];
        assert!(Maglev::new(&too_many, &[]).is_none());
    }

    #[test]
    fn every_hash_has_an_endpoint_and_hashes_spread_as_places_do() {
        let maglev = Maglev::new(&endpoints(7), &[]).expect("endpoints");
        let mut hits = [0; 7];
        for hash in (0..=u32::MAX).step_by(65_537) {
            hits[maglev.pick(hash)] += 1;
        }
        for hits in hits {
            assert!((8_900..9_900).contains(&hits), "{hits} of about 9362");
        }
    }

    /// The table as the paper's pseudo code fills it: permutations written out, and turns counted.
    fn oracle(endpoints: &[Endpoint], size: u32) -> Vec<u16> {
        let permutation = |endpoint: &Endpoint| -> Vec<u32> {
            let Order { next, skip } = Order::of(endpoint, size);
            (0..u64::from(size))
                .map(|j| ((u64::from(next) + j * u64::from(skip)) % u64::from(size)) as u32)
                .collect()
        };
        let permutations: Vec<_> = endpoints.iter().map(permutation).collect();
        let mut entry: Vec<Option<u16>> = vec![None; size as usize];
        while entry.contains(&None) {
            for (index, permutation) in permutations.iter().enumerate() {
                let free = permutation.iter().find(|at| entry[**at as usize].is_none());
                if let Some(at) = free {
                    entry[*at as usize] = Some(index as u16);
                }
            }
        }
        entry.into_iter().flatten().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn places_are_shared_as_the_paper_says(
            chosen in prop::collection::btree_set((any::<u32>(), any::<u16>()), 2..12)
        ) {
            let endpoints: Vec<Endpoint> = chosen
                .into_iter()
                .map(|(address, port)| Endpoint { address: address.to_be_bytes().into(), port })
                .collect();
            let maglev = Maglev::new(&endpoints, &[]).expect("endpoints");
            let size = maglev.places.len() as u32;
            prop_assert_eq!(&*maglev.places, &*oracle(&endpoints, size));
            let shares = shares(&maglev, endpoints.len());
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{shares:?}");
        }
    }

    proptest! {
        #[test]
        fn endpoints_have_shares_as_they_weigh(
            weights in prop::collection::vec(1..=100u16, 2..12)
        ) {
            let maglev = Maglev::new(&endpoints(weights.len() as u32), &weights).expect("endpoints");
            let all: u32 = weights.iter().map(|weight| u32::from(*weight)).sum();
            let places = maglev.places.len() as f64;
            for (share, weight) in shares(&maglev, weights.len()).iter().zip(&weights) {
                let due = places * f64::from(*weight) / f64::from(all);
                // the last round may end in the midst of it
                prop_assert!((f64::from(*share) - due).abs() <= f64::from(*weight), "{share}: {due}");
            }
        }
    }

    #[test]
    fn when_one_of_many_goes_most_of_the_others_keep_what_they_have() {
        let before = endpoints(50);
        let full = Maglev::new(&before, &[]).expect("endpoints");
        for gone in [0, 17, 49] {
            let mut after = before.clone();
            after.remove(gone);
            let rest = Maglev::new(&after, &[]).expect("endpoints");
            assert_eq!(full.places.len(), rest.places.len());
            let moved = full.places.iter().zip(&rest.places).filter(|(a, b)| {
                let a = before[usize::from(**a)];
                a != before[gone] && a != after[usize::from(**b)]
            });
            let (moved, all) = (moved.count(), full.places.len());
            assert!(moved * 100 < all * 5, "{moved} of {all} places changed hands");
        }
    }

    #[test]
    fn a_table_does_not_depend_on_whose_turn_comes_first_by_more_than_shares() {
        let many = Maglev::new(&endpoints(2000), &[]).expect("endpoints");
        let shares: BTreeSet<u32> = shares(&many, 2000).into_iter().collect();
        assert!(shares.len() <= 2, "{shares:?}");
    }
}
