//! What a guest is given: records, one behind the other.
//!
//! ```text
//! ┌───────────┬───────┬─────────┬───────────┬─────┬─────────┬───────┬─────────┐
//! │ operation │ table │ key len │ value len │ key │ padding │ value │ padding │
//! │ u8        │ u8    │ u16     │ u32       │     │ to 8    │       │ to 8    │
//! └───────────┴───────┴─────────┴───────────┴─────┴─────────┴───────┴─────────┘
//! ```

use alloc::vec::Vec;
use core::net::IpAddr;

use crate::octets::{self, Reader};
use crate::owner::{decode_address, encode_address};
use crate::{
    Addresses, Block, Domain, EndpointSet, Endpoints, Frontend, Identity, List, Malformed, Owner,
    Pattern, Policies, PolicySet, Range, Selectors, Service, Source, Table,
};

/// Changes of tables, as octets. They hold together: what the last of them commits is in force at
/// once or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update<'u>(&'u [u8]);

/// The changes of an update; it ends with the first that is malformed.
#[derive(Clone, Debug)]
pub struct Changes<'u>(&'u [u8]);

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'u> {
    /// The table is empty from here on; all that is in it follows.
    Reset(Table),
    /// This row is there now, in place of one with its key.
    Upsert(Row<'u>),
    /// The row with this key is gone.
    Remove(Key),
    /// The tables are whole again: they are those of this generation.
    Commit(u64),
}

/// A key of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the key of the table of its name")]
pub enum Key {
    Service(Frontend),
    Endpoints(EndpointSet),
    Range(Range),
    Owner(IpAddr),
    Identity(Identity),
    Block(Block),
    Policies(PolicySet),
    Source(Source),
    Domain(Domain),
    Resolver(IpAddr),
}

/// A row of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the key and value of the table of its name")]
pub enum Row<'u> {
    Service(Frontend, Service),
    Endpoints(EndpointSet, Endpoints<'u>),
    Range(Range),
    Owner(IpAddr, Owner),
    Identity(Identity, Selectors<'u>),
    Block(Block, Addresses<'u>),
    Policies(PolicySet, Policies<'u>),
    Source(Source),
    Domain(Domain, Pattern<'u>),
    Resolver(IpAddr),
}

impl<'u> Update<'u> {
    /// The update that these octets are.
    pub fn new(octets: &'u [u8]) -> Self {
        Self(octets)
    }

    /// Its changes, in order.
    pub fn changes(self) -> Changes<'u> {
        Changes(self.0)
    }
}

impl<'u> Iterator for Changes<'u> {
    type Item = Result<Change<'u>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let outcome = self.take();
        if outcome.is_err() {
            self.0 = &[];
        }
        Some(outcome)
    }
}

impl<'u> Changes<'u> {
    fn take(&mut self) -> Result<Change<'u>, Malformed> {
        let (operation, table, key, value) = self.record().ok_or(Malformed::Truncated)?;
        if operation == COMMIT {
            let mut from = Reader(key);
            let generation = from.u64().and_then(|it| from.end(it));
            return generation.map(Change::Commit).ok_or(Malformed::Generation);
        }
        let table = Table::from_u8(table).ok_or(Malformed::Table(table))?;
        match operation {
            RESET => Ok(Change::Reset(table)),
            UPSERT => Row::decode(table, key, value).map(Change::Upsert),
            REMOVE => Key::decode(table, key).map(Change::Remove),
            other => Err(Malformed::Operation(other)),
        }
    }

    fn record(&mut self) -> Option<(u8, u8, &'u [u8], &'u [u8])> {
        let mut header = Reader(self.0);
        let (operation, table) = (header.u8()?, header.u8()?);
        let (key, value) = (usize::from(header.u16()?), header.u32()? as usize);
        let mut rest = header.0;
        let mut part = |len: usize| {
            let taken = rest.get(..len)?;
            rest = rest.get(len.checked_next_multiple_of(PAD)?..)?;
            Some(taken)
        };
        let (key, value) = (part(key)?, part(value)?);
        self.0 = rest;
        Some((operation, table, key, value))
    }
}

impl Key {
    /// The table that it is a key of.
    pub fn table(&self) -> Table {
        match self {
            Self::Service(_) => Table::Services,
            Self::Endpoints(_) => Table::Endpoints,
            Self::Range(_) => Table::Ranges,
            Self::Owner(_) => Table::Owners,
            Self::Identity(_) => Table::Identities,
            Self::Block(_) => Table::Blocks,
            Self::Policies(_) => Table::Policies,
            Self::Source(_) => Table::Sources,
            Self::Domain(_) => Table::Domains,
            Self::Resolver(_) => Table::Resolvers,
        }
    }

    pub(crate) fn octets(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Service(frontend) => frontend.encode(&mut out),
            Self::Range(range) => range.encode(&mut out),
            Self::Owner(address) | Self::Resolver(address) => encode_address(*address, &mut out),
            Self::Source(source) => source.encode(&mut out),
            Self::Endpoints(EndpointSet(number))
            | Self::Identity(Identity(number))
            | Self::Block(Block(number))
            | Self::Policies(PolicySet(number))
            | Self::Domain(Domain(number)) => out.extend(number.to_le_bytes()),
        }
        out
    }

    fn decode(table: Table, key: &[u8]) -> Result<Self, Malformed> {
        // where 0 says that there is none, nothing has that number
        let numbered = || octets::number(key).filter(|number| *number != 0);
        match table {
            Table::Services => Frontend::decode(key).map(Self::Service),
            Table::Endpoints => numbered().map(|it| Self::Endpoints(EndpointSet(it))),
            Table::Ranges => Range::decode(key).map(Self::Range),
            Table::Owners => decode_address(key).map(Self::Owner),
            Table::Identities => numbered().map(|it| Self::Identity(Identity(it))),
            Table::Blocks => octets::number(key).map(|it| Self::Block(Block(it))),
            Table::Policies => numbered().map(|it| Self::Policies(PolicySet(it))),
            Table::Sources => Source::decode(key).map(Self::Source),
            Table::Domains => octets::number(key).map(|it| Self::Domain(Domain(it))),
            Table::Resolvers => decode_address(key).map(Self::Resolver),
        }
        .ok_or(Malformed::Key(table))
    }
}

impl<'u> Row<'u> {
    /// Its key.
    pub fn key(&self) -> Key {
        match self {
            Self::Service(frontend, _) => Key::Service(*frontend),
            Self::Endpoints(set, _) => Key::Endpoints(*set),
            Self::Range(range) => Key::Range(*range),
            Self::Owner(address, _) => Key::Owner(*address),
            Self::Identity(identity, _) => Key::Identity(*identity),
            Self::Block(block, _) => Key::Block(*block),
            Self::Policies(set, _) => Key::Policies(*set),
            Self::Source(source) => Key::Source(*source),
            Self::Domain(domain, _) => Key::Domain(*domain),
            Self::Resolver(address) => Key::Resolver(*address),
        }
    }

    pub(crate) fn value(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Service(_, service) => service.encode(&mut out),
            Self::Endpoints(_, endpoints) => out.extend(endpoints.octets()),
            Self::Range(_) | Self::Source(_) | Self::Resolver(_) => {}
            Self::Owner(_, owner) => owner.encode(&mut out),
            Self::Identity(_, selectors) => out.extend(selectors.octets()),
            Self::Block(_, addresses) => out.extend(addresses.octets()),
            Self::Policies(_, policies) => policies.encode(&mut out),
            Self::Domain(_, pattern) => out.extend(pattern.text().as_bytes()),
        }
        out
    }

    fn decode(table: Table, key: &[u8], value: &'u [u8]) -> Result<Self, Malformed> {
        match Key::decode(table, key)? {
            Key::Service(frontend) => {
                Service::decode(value).map(|service| Self::Service(frontend, service))
            }
            Key::Endpoints(set) => Endpoints::new(value).map(|it| Self::Endpoints(set, it)),
            Key::Range(range) => value.is_empty().then_some(Self::Range(range)),
            Key::Owner(address) => Owner::decode(value).map(|it| Self::Owner(address, it)),
            Key::Identity(identity) => List::new(value)
                .filter(|it: &Selectors<'_>| it.iter().is_sorted_by(|a, b| a < b))
                .map(|selectors| Self::Identity(identity, selectors)),
            Key::Block(block) => List::new(value)
                .filter(|it: &Addresses<'_>| it.count() > 0)
                .map(|addresses| Self::Block(block, addresses)),
            Key::Policies(set) => Policies::decode(value).map(|it| Self::Policies(set, it)),
            Key::Source(source) => value.is_empty().then_some(Self::Source(source)),
            Key::Domain(domain) => Pattern::decode(value).map(|it| Self::Domain(domain, it)),
            Key::Resolver(address) => value.is_empty().then_some(Self::Resolver(address)),
        }
        .ok_or(Malformed::Value(table))
    }
}

/// Writes a record.
pub(crate) fn write(out: &mut Vec<u8>, operation: u8, table: u8, key: &[u8], value: &[u8]) {
    out.extend([operation, table]);
    // keys have some octets, and values are within what a guest takes in one call
    out.extend((key.len() as u16).to_le_bytes());
    out.extend((value.len() as u32).to_le_bytes());
    for part in [key, value] {
        out.extend_from_slice(part);
        out.resize(out.len().next_multiple_of(PAD), 0);
    }
}

/// Octets that [`write`] takes for a record.
pub(crate) fn record_len(key: &[u8], value: &[u8]) -> usize {
    HEADER + key.len().next_multiple_of(PAD) + value.len().next_multiple_of(PAD)
}

pub(crate) const RESET: u8 = 1;
pub(crate) const UPSERT: u8 = 2;
pub(crate) const REMOVE: u8 = 3;
pub(crate) const COMMIT: u8 = 4;
const HEADER: usize = 8;
const PAD: usize = 8;
