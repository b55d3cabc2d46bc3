//! Requests about NetworkPolicies and ClusterNetworkPolicies.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv6Addr;

use axum::Json;
use axum::extract::State;
use millrace_sandbox::maps::MapEntry;
use millrace_sandbox::now_ns;
use millrace_tables::Pattern;

use crate::api::error::ApiError;
use crate::api::server::{Answer, Host, Shared};
use crate::node::chain::POLICY;
use crate::node::{LearntAddress, PolicyStatus};

/// What has become of each NetworkPolicy, by `namespace/name`, and of each ClusterNetworkPolicy, by
/// its name.
pub(super) async fn list(State(host): Shared) -> Answer<BTreeMap<String, PolicyStatus>> {
    let none = || ApiError::not_found("this host has no policies: it is no `millrace node`");
    let known = host.known.as_ref().ok_or_else(none)?;
    let mut policies = known.lock().policies.clone();
    if policies.values().any(|policy| !policy.domains.is_empty()) {
        let learnt = host.ask(|host| Ok::<_, ApiError>(learnt(host, now_ns()))).await?;
        for (name, addresses) in policies.values_mut().flat_map(|it| &mut it.domains) {
            let of_it = Pattern::new(name).and_then(|pattern| learnt.get(&pattern.digest()));
            addresses.extend(of_it.into_iter().flatten().cloned());
        }
    }
    Ok(Json(policies))
}

/// The addresses of names, by the digest of what policies call these.
fn learnt(host: &Host, now_ns: u64) -> HashMap<u64, Vec<LearntAddress>> {
    let maps = host.plane.sandbox().maps().owned_by(POLICY);
    let names = maps.into_iter().find(|(name, _)| name == NAMES);
    let entries = names.map(|(_, map)| map.entries(now_ns)).unwrap_or_default();
    let mut learnt: HashMap<_, Vec<_>> = HashMap::new();
    for (digest, address) in entries.iter().filter_map(|it| read(it, now_ns)) {
        learnt.entry(digest).or_default().push(address);
    }
    learnt.values_mut().for_each(|addresses| addresses.sort_unstable());
    learnt
}

/// What an entry says; nothing if it is none of the filter that ships.
fn read(entry: &MapEntry, now_ns: u64) -> Option<(u64, LearntAddress)> {
    let (address, pattern) = entry.key.split_first_chunk()?;
    let (_port, until_ns) = entry.value.split_first_chunk::<2>()?;
    let address = Ipv6Addr::from(*address).to_canonical();
    let until_ns = u64::from_le_bytes(until_ns.try_into().ok()?);
    let ttl_seconds = until_ns.saturating_sub(now_ns).div_ceil(NS_PER_S);
    let digest = u64::from_le_bytes(pattern.try_into().ok()?);
    Some((digest, LearntAddress { address, ttl_seconds }))
}

/// The filter's map of addresses (`filters/policy/src/names.rs`).
const NAMES: &str = "names";
const NS_PER_S: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_the_filters_is_read_and_one_of_another_shape_is_not() {
        let mapped = "::ffff:192.0.2.7".parse::<Ipv6Addr>().unwrap().octets();
        let until = |ns: u64| [&[3, 0][..], &ns.to_le_bytes()].concat();
        let key = [&mapped[..], &7u64.to_le_bytes()].concat();
        let entry = |value| MapEntry { key: key.clone(), value, expires_ns: None };
        for (until_ns, ttl_seconds) in
            [(60 * NS_PER_S, 59), (NS_PER_S + 1, 1), (NS_PER_S, 0), (0, 0)]
        {
            let address = "192.0.2.7".parse().unwrap();
            let expected = Some((7, LearntAddress { address, ttl_seconds }));
            assert_eq!(read(&entry(until(until_ns)), NS_PER_S), expected);
        }
        assert_eq!(read(&entry(vec![0; 9]), 0), None);
        assert_eq!(read(&MapEntry { key: vec![0; 23], ..entry(until(0)) }, 0), None);
    }
}
