//! Addresses for pods, out of the prefixes that belong to the node.
//!
//! The first host address of each prefix is the gateway's. An address that is given back rests
//! until all others were given out: whoever still talks to the old pod does not reach the new one.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// The prefixes of a node, and what of them is taken.
#[derive(Debug)]
pub(crate) struct Ipam {
    pools: Vec<Pool>,
}

/// Why there is no address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IpamError {
    /// All are taken.
    #[error("all {taken} addresses of {prefix} are taken")]
    Exhausted {
        /// The prefix.
        prefix: IpNetwork,
        /// How many that are.
        taken: usize,
    },
    /// It was asked for, and is no pod's on this node.
    #[error(
        "address {address} is no pod's here: those of {prefixes} are, but for their first and last"
    )]
    Foreign {
        /// The address.
        address: IpAddr,
        /// The node's prefixes.
        prefixes: String,
    },
    /// It was asked for, and somebody has it.
    #[error("address {0} is taken")]
    Taken(IpAddr),
    /// Two were asked for where there is one for each.
    #[error("a pod has one address of {0}, and more are asked for")]
    Twice(IpNetwork),
    /// The node has no prefixes.
    #[error("node has no podCIDRs: state them with `spec.podCIDRs` of its Node")]
    NoPrefix,
}

/// How many addresses of a prefix pods have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PrefixUse {
    /// The prefix.
    pub(crate) prefix: IpNetwork,
    /// How many pods have.
    pub(crate) taken: u64,
    /// How many they could have beside those; of a large IPv6 prefix those that are given in turn.
    pub(crate) free: u64,
    /// How often a pod got none since the agent started.
    pub(crate) exhausted: u64,
}

#[derive(Debug)]
struct Pool {
    prefix: IpNetwork,
    /// Offsets from the prefix's first address.
    taken: BTreeSet<u64>,
    /// The offset given out last.
    last: u64,
    /// How often there was none to give out.
    exhausted: u64,
}

impl Ipam {
    /// Nothing is taken of these prefixes.
    pub(crate) fn new(prefixes: impl IntoIterator<Item = IpNetwork>) -> Self {
        let pool = |prefix| Pool { prefix, taken: BTreeSet::new(), last: GATEWAY, exhausted: 0 };
        Self { pools: prefixes.into_iter().map(pool).collect() }
    }

    /// The prefixes.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = IpNetwork> {
        self.pools.iter().map(|pool| pool.prefix)
    }

    /// How many addresses of each prefix pods have.
    pub(crate) fn usage(&self) -> impl Iterator<Item = PrefixUse> {
        self.pools.iter().map(|pool| {
            let taken = pool.taken.len() as u64;
            let all = pool.end().saturating_sub(GATEWAY + 1);
            let Pool { prefix, exhausted, .. } = *pool;
            PrefixUse { prefix, taken, free: all.saturating_sub(taken), exhausted }
        })
    }

    /// The gateway's address in each prefix.
    pub(crate) fn gateways(&self) -> impl Iterator<Item = IpNetwork> {
        self.pools.iter().map(|pool| pool.address(GATEWAY))
    }

    /// Takes an address of each prefix: those that are wanted, and whichever is next of the others.
    ///
    /// # Errors
    /// If one that is wanted cannot be had, or a prefix has none left; nothing is taken then.
    pub(crate) fn take(&mut self, wanted: &[IpAddr]) -> Result<Vec<IpNetwork>, IpamError> {
        if self.pools.is_empty() {
            return Err(IpamError::NoPrefix);
        }
        let mut chosen = vec![None; self.pools.len()];
        for address in wanted {
            let of = |pool: &Pool| pool.offset(*address).filter(|offset| pool.is_for_pods(*offset));
            let place = self.pools.iter().position(|pool| of(pool).is_some());
            let place = place.ok_or_else(|| self.foreign(*address))?;
            let pool = &self.pools[place];
            let offset = of(pool).filter(|offset| !pool.taken.contains(offset));
            let offset = offset.ok_or(IpamError::Taken(*address))?;
            if chosen[place].replace(offset).is_some() {
                return Err(IpamError::Twice(pool.prefix));
            }
        }
        let next = |(pool, chosen): (&mut Pool, &Option<u64>)| match chosen {
            Some(offset) => Ok(*offset),
            None => pool.free().inspect_err(|_| pool.exhausted += 1),
        };
        let each = self.pools.iter_mut().zip(&chosen);
        let offsets: Vec<u64> = each.map(next).collect::<Result<_, _>>()?;
        let mut addresses = Vec::new();
        for ((pool, offset), chosen) in self.pools.iter_mut().zip(offsets).zip(chosen) {
            pool.taken.insert(offset);
            // the others go on in their order
            if chosen.is_none() {
                pool.last = offset;
            }
            addresses.push(pool.address(offset));
        }
        Ok(addresses)
    }

    fn foreign(&self, address: IpAddr) -> IpamError {
        let prefixes: Vec<_> = self.prefixes().map(|prefix| prefix.to_string()).collect();
        IpamError::Foreign { address, prefixes: prefixes.join(", ") }
    }

    /// Takes addresses that were given out before; those of other prefixes are left alone.
    pub(crate) fn retake(&mut self, addresses: &[IpNetwork]) {
        for address in addresses {
            for pool in &mut self.pools {
                if let Some(offset) = pool.offset(address.ip()) {
                    pool.taken.insert(offset);
                    pool.last = pool.last.max(offset);
                }
            }
        }
    }

    /// Gives addresses back.
    pub(crate) fn put(&mut self, addresses: &[IpNetwork]) {
        for address in addresses {
            for pool in &mut self.pools {
                if let Some(offset) = pool.offset(address.ip()) {
                    pool.taken.remove(&offset);
                }
            }
        }
    }
}

impl Pool {
    /// The next free offset behind the one given out last.
    fn free(&self) -> Result<u64, IpamError> {
        let (first, end) = (GATEWAY + 1, self.end());
        let next = (self.last + 1).max(first);
        let mut candidates = (next..end).chain(first..next.min(end));
        candidates
            .find(|offset| !self.taken.contains(offset))
            .ok_or(IpamError::Exhausted { prefix: self.prefix, taken: self.taken.len() })
    }

    /// One more than the last offset that a pod may have. Of a large IPv6 prefix only the beginning
    /// is used; of IPv4 the last address is the broadcast's.
    fn end(&self) -> u64 {
        match self.prefix {
            IpNetwork::V4(prefix) => (1u64 << (32 - prefix.prefix())).saturating_sub(1),
            IpNetwork::V6(prefix) => 1u64 << (128 - prefix.prefix()).min(48),
        }
    }

    /// Whether a pod may ask for the address with this offset: more of IPv6 than are given in turn.
    fn is_for_pods(&self, offset: u64) -> bool {
        offset > GATEWAY && (self.prefix.is_ipv6() || offset < self.end())
    }

    fn address(&self, offset: u64) -> IpNetwork {
        let ip: IpAddr = match self.prefix {
            IpNetwork::V4(prefix) => {
                Ipv4Addr::from_bits(prefix.network().to_bits() + offset as u32).into()
            }
            IpNetwork::V6(prefix) => {
                Ipv6Addr::from_bits(prefix.network().to_bits() + u128::from(offset)).into()
            }
        };
        IpNetwork::new(ip, self.prefix.prefix()).expect("the length is that of a prefix")
    }

    fn offset(&self, ip: IpAddr) -> Option<u64> {
        if !self.prefix.contains(ip) {
            return None;
        }
        match (self.prefix, ip) {
            (IpNetwork::V4(prefix), IpAddr::V4(ip)) => {
                Some(u64::from(ip.to_bits() - prefix.network().to_bits()))
            }
            (IpNetwork::V6(prefix), IpAddr::V6(ip)) => {
                u64::try_from(ip.to_bits() - prefix.network().to_bits()).ok()
            }
            _ => None,
        }
    }
}

/// The gateway's place in a prefix.
const GATEWAY: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn ipam(prefixes: &[&str]) -> Ipam {
        Ipam::new(prefixes.iter().map(|prefix| prefix.parse().unwrap()))
    }

    fn texts(addresses: Vec<IpNetwork>) -> Vec<String> {
        addresses.iter().map(IpNetwork::to_string).collect()
    }

    #[test]
    fn a_pod_gets_an_address_of_each_prefix_behind_the_gateways() {
        let mut ipam = ipam(&["10.1.0.0/24", "fd01::/64"]);
        let gateways: Vec<_> = ipam.gateways().map(|gateway| gateway.to_string()).collect();
        assert_eq!(gateways, ["10.1.0.1/24", "fd01::1/64"]);
        assert_eq!(texts(ipam.take(&[]).unwrap()), ["10.1.0.2/24", "fd01::2/64"]);
        assert_eq!(texts(ipam.take(&[]).unwrap()), ["10.1.0.3/24", "fd01::3/64"]);
    }

    #[test]
    fn an_address_that_was_given_back_rests_until_the_others_are_taken() {
        let mut ipam = ipam(&["10.1.0.0/29"]);
        let first = ipam.take(&[]).unwrap();
        ipam.put(&first);
        let rest: Vec<_> = (0..5).flat_map(|_| texts(ipam.take(&[]).unwrap())).collect();
        assert_eq!(
            rest,
            ["10.1.0.3/29", "10.1.0.4/29", "10.1.0.5/29", "10.1.0.6/29", "10.1.0.2/29"]
        );
    }

    #[test]
    fn how_many_are_taken_and_free_is_counted_and_how_often_there_was_none() {
        let mut ipam = ipam(&["10.1.0.0/29", "fd01::/64"]);
        let seen = |ipam: &Ipam| -> Vec<_> {
            ipam.usage().map(|it| (it.taken, it.free, it.exhausted)).collect()
        };
        let of_v6 = (1 << 48) - 2;
        assert_eq!(seen(&ipam), [(0, 5, 0), (0, of_v6, 0)]);
        let taken: Vec<_> = (0..5).map(|_| ipam.take(&[]).unwrap()).collect();
        assert_eq!(seen(&ipam), [(5, 0, 0), (5, of_v6 - 5, 0)]);
        assert!(ipam.take(&[]).is_err());
        ipam.put(&taken[2]);
        assert_eq!(seen(&ipam), [(4, 1, 1), (4, of_v6 - 4, 0)]);
    }

    #[test]
    fn a_prefix_that_is_used_up_is_named_and_nothing_is_taken() {
        let mut ipam = ipam(&["fd01::/64", "10.1.0.0/30"]);
        ipam.take(&[]).unwrap();
        let prefix = "10.1.0.0/30".parse().unwrap();
        assert_eq!(ipam.take(&[]), Err(IpamError::Exhausted { prefix, taken: 1 }));
        ipam.put(&["10.1.0.2/30".parse().unwrap()]);
        assert_eq!(texts(ipam.take(&[]).unwrap()), ["fd01::3/64", "10.1.0.2/30"]);
    }

    #[test]
    fn addresses_that_were_given_out_before_are_not_given_out_again() {
        let mut ipam = ipam(&["10.1.0.0/29", "fd01::/64"]);
        let addresses = ["10.1.0.3/29", "fd01::3/64", "192.0.2.3/24"];
        ipam.retake(&addresses.map(|address| address.parse().unwrap()));
        let first: Vec<_> = (0..4).map(|_| texts(ipam.take(&[]).unwrap()).remove(0)).collect();
        assert_eq!(first, ["10.1.0.4/29", "10.1.0.5/29", "10.1.0.6/29", "10.1.0.2/29"]);
        ipam.put(&[addresses[0].parse().unwrap()]);
        assert_eq!(texts(ipam.take(&[]).unwrap())[0], "10.1.0.3/29");
    }

    #[test]
    fn c8_an_address_that_is_wanted_is_had_if_it_is_a_pods_here_and_free() {
        let mut ipam = ipam(&["10.1.0.0/29", "fd01::/64"]);
        let take = |ipam: &mut Ipam, wanted: &[&str]| {
            let wanted: Vec<_> = wanted.iter().map(|it| it.parse().unwrap()).collect();
            ipam.take(&wanted).map(texts)
        };
        let far = "fd01::ffff:0:0:9";
        assert_eq!(take(&mut ipam, &[far]).unwrap(), ["10.1.0.2/29", "fd01::ffff:0:0:9/64"]);
        assert_eq!(take(&mut ipam, &["10.1.0.4"]).unwrap(), ["10.1.0.4/29", "fd01::2/64"]);
        assert_eq!(take(&mut ipam, &[]).unwrap(), ["10.1.0.3/29", "fd01::3/64"]);
        assert_eq!(take(&mut ipam, &[]).unwrap(), ["10.1.0.5/29", "fd01::4/64"]);
        for taken in ["10.1.0.4", far] {
            let error = take(&mut ipam, &[taken]).unwrap_err();
            assert_eq!(error, IpamError::Taken(taken.parse().unwrap()));
        }
        // the network's, the gateway's, the broadcast's, and somebody else's
        for foreign in ["10.1.0.0", "10.1.0.1", "10.1.0.7", "10.1.0.8", "fd01::1", "fd02::9"] {
            let error = take(&mut ipam, &[foreign]).unwrap_err().to_string();
            assert!(error.contains("10.1.0.0/29, fd01::/64"), "{foreign}: {error}");
        }
        let error = take(&mut ipam, &["fd01::8", "fd01::9"]).unwrap_err();
        assert_eq!(error, IpamError::Twice("fd01::/64".parse().unwrap()));
        assert_eq!(take(&mut ipam, &["fd01::8"]).unwrap(), ["10.1.0.6/29", "fd01::8/64"]);
    }

    #[test]
    fn a_node_without_prefixes_is_told_so() {
        assert_eq!(ipam(&[]).take(&[]), Err(IpamError::NoPrefix));
    }
}
