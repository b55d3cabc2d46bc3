//! Whose an address is, as policies see it.

use alloc::vec::Vec;
use core::net::IpAddr;

use crate::list::Element;
use crate::octets::{self, Reader};
use crate::{List, PolicySet};

/// Whose an address is: the value of [`Table::Owners`](crate::Table::Owners), whose key is the
/// address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Where it is.
    pub place: Place,
    /// What it is to selectors; [`Identity::NONE`] if none selects it.
    pub identity: Identity,
    /// What allows the connections that it opens; [`PolicySet::NONE`] if it may open any. Of pods
    /// here alone.
    pub egress: PolicySet,
    /// What allows the connections that others open to it, likewise.
    pub ingress: PolicySet,
}

/// Where the owner of an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Place {
    /// It is another node, or a pod there, whose policies are for that to judge by.
    Elsewhere = 0,
    /// It is a pod of this node.
    Here = 1,
    /// It is this node itself, with the pods in its network.
    Node = 2,
}

/// What pods with the same labels, namespace and named ports, or nodes with the same labels, are to
/// selectors: the key of
/// [`Table::Identities`](crate::Table::Identities).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(pub u32);

/// The number of a selector of pods, or of nodes. What it asks for never changes: another selector has another
/// number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector(pub u32);

/// The selectors that an identity satisfies, in ascending order, each once.
pub type Selectors<'u> = List<'u, Selector>;

impl Owner {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.identity.0.to_le_bytes());
        out.extend(self.egress.0.to_le_bytes());
        out.extend(self.ingress.0.to_le_bytes());
        out.extend([self.place as u8, 0, 0, 0]);
    }

    pub(crate) fn decode(octets: &[u8]) -> Option<Self> {
        let mut from = Reader(octets);
        let identity = Identity(from.u32()?);
        let (egress, ingress) = (PolicySet(from.u32()?), PolicySet(from.u32()?));
        let place = from.one_of(Place::ALL, |it| it as u8)?;
        from.zeros::<3>()?;
        from.end(Self { place, identity, egress, ingress })
    }
}

impl Place {
    /// Every place.
    pub const ALL: [Self; 3] = [Self::Elsewhere, Self::Here, Self::Node];
}

impl Identity {
    /// Nobody in particular.
    pub const NONE: Self = Self(0);
}

impl Element for Selector {
    const LEN: usize = 4;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.0.to_le_bytes());
    }

    fn decode(octets: &[u8]) -> Option<Self> {
        octets::number(octets).map(Self)
    }
}

pub(crate) fn encode_address(address: IpAddr, out: &mut Vec<u8>) {
    out.extend(octets::address(address));
}

pub(crate) fn decode_address(octets: &[u8]) -> Option<IpAddr> {
    let mut from = Reader(octets);
    let address = from.address()?;
    from.end(address)
}
