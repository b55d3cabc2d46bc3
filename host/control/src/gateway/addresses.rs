//! Which addresses Gateways have.
//!
//! Owns that each is of an AddressPool, for whoever may write a Gateway is not to take any address that
//! somebody else has, and that it is one Gateway's alone: the first by name has it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Gateway, WantedAddress};
use crate::Services;
use crate::service::Family;

/// What becomes of the addresses that a Gateway asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Assigned {
    /// Those that it has.
    pub(super) addresses: Vec<IpAddr>,
    /// What it asks for that nobody can give here, which is a fault of its own.
    pub(super) unsupported: Option<String>,
    /// Why it has not all that it asks for, with a word of the API.
    pub(super) lack: Option<(&'static str, String)>,
}

/// Who holds which address.
pub(super) struct Holders<'w> {
    services: &'w Services,
    held: BTreeMap<IpAddr, String>,
}

impl<'w> Holders<'w> {
    /// Services hold what they have for others outside.
    pub(super) fn new(services: &'w Services) -> Self {
        let held = services.services.values().flat_map(|service| {
            let balanced = service.load_balancer.iter().map(|it| it.address);
            let all = balanced.chain(service.external_ips.iter().copied());
            all.map(|address| (address, format!("Service {}", service.name)))
        });
        Self { services, held: held.collect() }
    }

    /// Has a Gateway have what it may.
    pub(super) fn assign(&mut self, gateway: &Gateway) -> Assigned {
        let mut assigned = Assigned::default();
        let other = gateway.wanted.iter().find(|it| it.kind != IP_ADDRESS);
        if let Some(WantedAddress { kind, .. }) = other {
            assigned.unsupported = Some(format!("addresses of type `{kind}` are none of ours"));
            return assigned;
        }
        for stated in stated(gateway) {
            match self.hold(stated, gateway) {
                Ok(address) => assigned.addresses.push(address),
                Err(why) => {
                    let why = format!("{stated}: {why}");
                    assigned.lack.get_or_insert(("AddressNotUsable", why));
                }
            }
        }
        if wants_any(gateway) {
            for address in &gateway.given {
                let same = |it: &IpAddr| Family::of(*it) == Family::of(*address);
                if !self.held.contains_key(address) && !assigned.addresses.iter().any(same) {
                    self.held.insert(*address, format!("Gateway {}", gateway.name));
                    assigned.addresses.push(*address);
                }
            }
        }
        if assigned.addresses.is_empty() && assigned.lack.is_none() {
            let why = "no AddressPool has an address left for it".to_owned();
            assigned.lack = Some(("AddressNotAssigned", why));
        }
        assigned
    }

    /// Has a Gateway have this one, if it may.
    fn hold(&mut self, stated: &str, gateway: &Gateway) -> Result<IpAddr, String> {
        let address: IpAddr = stated.parse().map_err(|_| "this is no IP address".to_owned())?;
        let address = address.to_canonical();
        let mut pools = self.services.pools.values();
        if !pools.any(|pool| pool.prefixes.iter().any(|prefix| prefix.contains(address))) {
            return Err("it is in no AddressPool".to_owned());
        }
        if let Some(holder) = self.held.get(&address) {
            return Err(format!("it is {holder}'s already"));
        }
        self.held.insert(address, format!("Gateway {}", gateway.name));
        Ok(address)
    }
}

/// The addresses that a Gateway has, or would have if it may, for who asks what is left.
pub(crate) fn claimed(gateway: &Gateway) -> impl Iterator<Item = IpAddr> {
    let stated = stated(gateway).filter_map(|it| it.parse().ok());
    stated.chain(gateway.given.iter().copied().filter(|_| wants_any(gateway)))
}

fn stated(gateway: &Gateway) -> impl Iterator<Item = &str> {
    let stated = gateway.wanted.iter().filter(|it| it.kind == IP_ADDRESS && !it.value.is_empty());
    stated.map(|it| &*it.value)
}

/// Whether it wants any address, whichever it is.
pub(crate) fn wants_any(gateway: &Gateway) -> bool {
    let wanted = &gateway.wanted;
    wanted.is_empty() || wanted.iter().any(|it| it.kind == IP_ADDRESS && it.value.is_empty())
}

/// The type of addresses that we have.
const IP_ADDRESS: &str = "IPAddress";
