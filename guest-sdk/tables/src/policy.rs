//! What policies allow.

use alloc::vec::Vec;

use crate::list::Element;
use crate::octets::Reader;
use crate::{Domain, Identity, List, Protocol, Range, Selector};

/// The number of a set of policies: the key of [`Table::Policies`](crate::Table::Policies). Pods
/// that the same policies are for, in one direction, share it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicySet(pub u32);

/// What a set of policies says, in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policies<'u> {
    /// What becomes of a connection that no clause decides about.
    pub otherwise: Otherwise,
    /// The set that is asked about connections that go on, for its answer to be told and not to
    /// count; [`PolicySet::NONE`] if there is none.
    pub audit: PolicySet,
    /// What rules say: the first one that is about a connection counts. Those of a tier are one
    /// behind the other, and tiers in their order.
    pub clauses: List<'u, Clause>,
}

/// What becomes of a connection that no clause decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Otherwise {
    /// [`Action::Allow`] or [`Action::Deny`].
    pub action: Action,
    /// The rule's number, for decisions to name; 0 if nothing is asked for.
    pub rule: u32,
}

/// What one rule says about some connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Clause {
    /// Where it comes among others.
    pub tier: Tier,
    /// What becomes of them.
    pub action: Action,
    /// With whom.
    pub peer: Peer,
    /// With which protocol; any, those without ports too, if there is none.
    pub protocol: Option<Protocol>,
    /// The first destination port; 0 with the last one 65535 is any, and none as well.
    pub first: u16,
    /// The last destination port.
    pub last: u16,
    /// The rule's number, for decisions to name.
    pub rule: u32,
}

/// Whose rules come first (network-policy-api, `spec.tier`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Tier {
    /// Those of the cluster's administrators that nobody overrides.
    Admin = 0,
    /// Those of NetworkPolicies. They are not about a pod and itself, nor about it and its own node.
    Namespace = 1,
    /// Those of the cluster's administrators for pods that no NetworkPolicy is for.
    Baseline = 2,
}

/// What becomes of connections that a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Action {
    /// They go on.
    Allow = 0,
    /// They end.
    Deny = 1,
    /// The other clauses of the tier are not about them.
    Pass = 2,
}

/// Whom a rule is about: the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// Anybody.
    Any,
    /// Pods that satisfy a selector.
    Selected(Selector),
    /// Pods of one identity.
    Is(Identity),
    /// Whoever has an address of a block.
    Within(Block),
    /// Whoever has an address that a name of a pattern has.
    Called(Domain),
}

/// The number of a block of addresses: the key of [`Table::Blocks`](crate::Table::Blocks). Which
/// addresses it has never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block(pub u32);

/// The addresses of a block: those of the first range that are in none of the others.
pub type Addresses<'u> = List<'u, Range>;

impl PolicySet {
    /// No set: nothing is asked for.
    pub const NONE: Self = Self(0);
}

impl Tier {
    /// Every tier, in order.
    pub const ALL: [Self; 3] = [Self::Admin, Self::Namespace, Self::Baseline];
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 3] = [Self::Allow, Self::Deny, Self::Pass];
}

impl<'u> Policies<'u> {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.otherwise.rule.to_le_bytes());
        out.extend(self.audit.0.to_le_bytes());
        out.extend([self.otherwise.action as u8, 0, 0, 0]);
        out.extend(self.clauses.octets());
    }

    pub(crate) fn decode(octets: &'u [u8]) -> Option<Self> {
        let (header, clauses) = octets.split_at_checked(12)?;
        let mut from = Reader(header);
        let (rule, audit) = (from.u32()?, PolicySet(from.u32()?));
        let action = from.one_of([Action::Allow, Action::Deny], |it| it as u8)?;
        from.zeros::<3>()?;
        let clauses = List::<Clause>::new(clauses)?;
        let is_in_order = clauses.iter().is_sorted_by_key(|clause| clause.tier);
        is_in_order.then_some(Self { otherwise: Otherwise { action, rule }, audit, clauses })
    }
}

impl Clause {
    /// Whether it is about connections with this protocol to this port; 0 for protocols without.
    #[inline]
    pub fn is_about(&self, protocol: u8, port: u16) -> bool {
        self.protocol.is_none_or(|it| it as u8 == protocol)
            && (self.first..=self.last).contains(&port)
    }
}

impl Element for Clause {
    const LEN: usize = 16;

    fn encode(&self, out: &mut Vec<u8>) {
        let (kind, peer) = match self.peer {
            Peer::Any => (ANY, 0),
            Peer::Selected(Selector(number)) => (SELECTED, number),
            Peer::Is(Identity(number)) => (IS, number),
            Peer::Within(Block(number)) => (WITHIN, number),
            Peer::Called(Domain(number)) => (CALLED, number),
        };
        out.extend(peer.to_le_bytes());
        out.extend(self.rule.to_le_bytes());
        out.extend(self.first.to_le_bytes());
        out.extend(self.last.to_le_bytes());
        let protocol = self.protocol.map_or(0, |it| it as u8);
        out.extend([protocol, kind, self.tier as u8, self.action as u8]);
    }

    fn decode(octets: &[u8]) -> Option<Self> {
        let mut from = Reader(octets);
        let (peer, rule) = (from.u32()?, from.u32()?);
        let (first, last) = (from.u16()?, from.u16()?);
        let protocol = match from.u8()? {
            0 => None,
            number => Some(Protocol::from_u8(number)?),
        };
        let peer = match (from.u8()?, peer) {
            (ANY, 0) => Peer::Any,
            (SELECTED, number) => Peer::Selected(Selector(number)),
            (IS, number) => Peer::Is(Identity(number)),
            (WITHIN, number) => Peer::Within(Block(number)),
            (CALLED, number) => Peer::Called(Domain(number)),
            _ => return None,
        };
        let tier = from.one_of(Tier::ALL, |it| it as u8)?;
        let action = from.one_of(Action::ALL, |it| it as u8)?;
        let clause = Self { tier, action, peer, protocol, first, last, rule };
        from.end(clause).filter(|_| first <= last)
    }
}

impl Element for Range {
    const LEN: usize = 20;

    fn encode(&self, out: &mut Vec<u8>) {
        Range::encode(self, out);
    }

    fn decode(octets: &[u8]) -> Option<Self> {
        Range::decode(octets)
    }
}

const ANY: u8 = 0;
const SELECTED: u8 = 1;
const IS: u8 = 2;
const WITHIN: u8 = 3;
const CALLED: u8 = 4;
