//! What the filter was told: whose addresses are, and what policies say.
//!
//! What does not fit together is refused: the host keeps what was before in force then.

use std::net::IpAddr;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};
use millrace_filter::prelude::*;
use millrace_filter::tables::{
    Action, Addresses, Block, Change, Clause, Domain, Identity, Key, Otherwise, Owner, Peer, Place,
    Policies, PolicySet, Range, Row, Selector, Tier,
};

use crate::domains::Domains;
use crate::names::Names;

/// All that is known.
#[derive(Default)]
pub(crate) struct Known {
    owners: Index<IpAddr, Owner>,
    identities: Index<Identity, Box<[Selector]>>,
    blocks: Index<Block, Region>,
    sets: Index<PolicySet, Set>,
    domains: Domains,
    resolvers: HashSet<IpAddr, FixedState>,
    /// Pods of this node that others may not open any connection to.
    guarded: usize,
    /// Whether anything was told yet.
    is_told: bool,
    /// What rows name since the last commit.
    named: Named,
}

/// What rows name that has to be there.
#[derive(Default)]
struct Named {
    /// By owners and other sets.
    sets: Vec<PolicySet>,
    /// By sets, as the rest.
    blocks: Vec<Block>,
    domains: Vec<Domain>,
}

/// The addresses of a block.
struct Region {
    within: Prefix,
    without: Box<[Prefix]>,
}

/// What policies say.
struct Set {
    otherwise: Otherwise,
    audit: PolicySet,
    clauses: Box<[Clause]>,
    /// Whether clauses are about names of domains.
    asks_for_names: bool,
}

/// What is judged: the other end of a connection, and what it is for.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'s> {
    pub(crate) peer: IpAddr,
    pub(crate) ends: Ends,
    /// Which addresses names have, when the slot is asked about.
    pub(crate) names: &'s Names,
    pub(crate) slot: &'s Slot,
}

/// What both ends of a connection are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// Nothing in particular.
    Strangers,
    /// One pod, which reaches itself by way of a Service, or a pod and its own node: NetworkPolicies
    /// do not keep these from each other (N10, N11), and rules of administrators may.
    Own,
}

/// What policies say, and by which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    Allowed(u32),
    Denied(u32),
}

/// The host says what is in it: its hash need not resist anybody.
type Index<K, V> = HashMap<K, V, FixedState>;

impl Known {
    /// Takes changes.
    pub(crate) fn update(&mut self, update: Update<'_>) -> Result<(), Error> {
        for change in update.changes() {
            match change? {
                Change::Reset(table) => self.clear(table),
                Change::Upsert(row) => self.put(row)?,
                Change::Remove(key) => self.remove(&key),
                Change::Commit(generation) => {
                    self.check()?;
                    self.is_told = generation != 0;
                }
            }
        }
        Ok(())
    }

    /// Whether anything was told yet: the first generation is that of a host that knows nothing.
    pub(crate) fn is_told(&self) -> bool {
        self.is_told
    }

    /// Whose an address is.
    #[inline]
    pub(crate) fn owner(&self, address: IpAddr) -> Option<&Owner> {
        self.owners.get(&address)
    }

    /// Whether there is a pod here that not everybody may open connections to.
    pub(crate) fn guards_somebody(&self) -> bool {
        self.guarded > 0
    }

    /// Whether an address is a resolver's.
    pub(crate) fn is_resolver(&self, address: IpAddr) -> bool {
        self.resolvers.contains(&address)
    }

    /// The names that policies are about.
    pub(crate) fn domains(&self) -> &Domains {
        &self.domains
    }

    /// Whether a set, or the one that it has audited, is about names of domains.
    pub(crate) fn asks_for_names(&self, set: PolicySet) -> bool {
        let asks = |set: &Set| set.asks_for_names;
        let audited = |set: &Set| self.sets.get(&set.audit).is_some_and(asks);
        self.sets.get(&set).is_some_and(|set| asks(set) || audited(set))
    }

    /// What a set of policies says.
    pub(crate) fn judge(&self, set: PolicySet, subject: Subject<'_>) -> Ruling {
        // a set that is named is there: commits see to it
        let Some(set) = self.sets.get(&set) else { return Ruling::Denied(0) };
        let identity = self.owner(subject.peer).map_or(Identity::NONE, |owner| owner.identity);
        let selectors = self.identities.get(&identity).map_or(&[][..], |it| it);
        let is_about = |clause: &Clause| {
            clause.is_about(subject.slot.protocol, subject.slot.to_port)
                && match clause.peer {
                    Peer::Any => true,
                    Peer::Selected(selector) => selectors.binary_search(&selector).is_ok(),
                    Peer::Is(other) => identity == other,
                    Peer::Within(block) => {
                        self.blocks.get(&block).is_some_and(|it| it.contains(subject.peer))
                    }
                    Peer::Called(domain) => self.domains.digest(domain).is_some_and(|pattern| {
                        subject.names.is_called(subject.peer, pattern, subject.slot)
                    }),
                }
        };
        let is_own = subject.ends == Ends::Own;
        let mut over = is_own.then_some(Tier::Namespace);
        for clause in &set.clauses {
            if over == Some(clause.tier) || !is_about(clause) {
                continue;
            }
            match clause.action {
                Action::Allow => return Ruling::Allowed(clause.rule),
                Action::Deny => return Ruling::Denied(clause.rule),
                Action::Pass => over = Some(clause.tier),
            }
        }
        match set.otherwise {
            _ if is_own => Ruling::Allowed(0),
            Otherwise { action: Action::Deny, rule } => Ruling::Denied(rule),
            Otherwise { rule, .. } => Ruling::Allowed(rule),
        }
    }

    /// By which rule policies would deny what goes on, if those that are audited counted.
    pub(crate) fn audit(&self, set: PolicySet, subject: Subject<'_>) -> Option<u32> {
        let audit = self.sets.get(&set)?.audit;
        match (audit != PolicySet::NONE).then(|| self.judge(audit, subject))? {
            Ruling::Denied(rule) => Some(rule),
            Ruling::Allowed(_) => None,
        }
    }

    fn put(&mut self, row: Row<'_>) -> Result<(), Error> {
        match row {
            Row::Owner(address, owner) => {
                self.remove(&Key::Owner(address));
                self.named.sets.extend([owner.egress, owner.ingress]);
                self.guarded += usize::from(is_guarded(&owner));
                self.owners.insert(address, owner);
            }
            Row::Identity(identity, selectors) => {
                self.identities.insert(identity, selectors.iter().collect());
            }
            Row::Block(block, addresses) => {
                self.blocks.insert(block, Region::new(addresses)?);
            }
            Row::Policies(number, Policies { otherwise, audit, clauses }) => {
                self.named.sets.push(audit);
                self.sets
                    .insert(number, Set::new(otherwise, audit, clauses.iter(), &mut self.named));
            }
            Row::Domain(domain, pattern) => self.domains.put(domain, pattern),
            Row::Resolver(address) => drop(self.resolvers.insert(address)),
            // what it has not subscribed to it is not told
            Row::Service(..) | Row::Endpoints(..) | Row::Range(_) | Row::Source(_) => {}
        }
        Ok(())
    }

    fn remove(&mut self, key: &Key) {
        match key {
            Key::Owner(address) => {
                let gone = self.owners.remove(address);
                self.guarded -= usize::from(gone.as_ref().is_some_and(is_guarded));
            }
            Key::Identity(identity) => drop(self.identities.remove(identity)),
            Key::Block(block) => drop(self.blocks.remove(block)),
            Key::Policies(set) => drop(self.sets.remove(set)),
            Key::Domain(domain) => self.domains.remove(*domain),
            Key::Resolver(address) => drop(self.resolvers.remove(address)),
            Key::Service(_) | Key::Endpoints(_) | Key::Range(_) | Key::Source(_) => {}
        }
    }

    fn clear(&mut self, table: Table) {
        match table {
            Table::Owners => {
                self.owners.clear();
                self.guarded = 0;
            }
            Table::Identities => self.identities.clear(),
            Table::Blocks => self.blocks.clear(),
            Table::Policies => self.sets.clear(),
            Table::Domains => self.domains.clear(),
            Table::Resolvers => self.resolvers.clear(),
            Table::Services | Table::Endpoints | Table::Ranges | Table::Sources => {}
        }
    }

    /// Whether all is there that rows name.
    fn check(&mut self) -> Result<(), Error> {
        let Named { sets, blocks, domains } = std::mem::take(&mut self.named);
        let missing = |set: &&PolicySet| **set != PolicySet::NONE && !self.sets.contains_key(*set);
        if let Some(PolicySet(set)) = sets.iter().find(missing) {
            let text = format!("a pod, or a set, names the set {set} of policies: there is none");
            return Err(Error::new(text));
        }
        let nothing = |what| Err(Error::new(format!("a clause names {what}: there is none")));
        if let Some(Block(block)) = blocks.iter().find(|it| !self.blocks.contains_key(*it)) {
            return nothing(format!("the block {block}"));
        }
        match domains.iter().find(|it| !self.domains.has(**it)) {
            Some(Domain(domain)) => nothing(format!("the domain {domain}")),
            None => Ok(()),
        }
    }
}

impl Region {
    fn new(addresses: Addresses<'_>) -> Result<Self, Error> {
        let prefix = |range: Range| {
            Prefix::new(range.address, range.len).ok_or_else(|| Error::from("a range is no prefix"))
        };
        let mut ranges = addresses.iter().map(prefix);
        let within = ranges.next().ok_or_else(|| Error::from("a block has no addresses"))??;
        Ok(Self { within, without: ranges.collect::<Result<_, _>>()? })
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.within.contains(address) && !self.without.iter().any(|it| it.contains(address))
    }
}

impl Set {
    fn new(
        otherwise: Otherwise,
        audit: PolicySet,
        clauses: impl Iterator<Item = Clause>,
        named: &mut Named,
    ) -> Self {
        let clauses: Box<[Clause]> = clauses.collect();
        let mut asks_for_names = false;
        for clause in &clauses {
            match clause.peer {
                Peer::Within(block) => named.blocks.push(block),
                Peer::Called(domain) => {
                    named.domains.push(domain);
                    asks_for_names = true;
                }
                Peer::Any | Peer::Selected(_) | Peer::Is(_) => {}
            }
        }
        Self { otherwise, audit, clauses, asks_for_names }
    }
}

fn is_guarded(owner: &Owner) -> bool {
    owner.place == Place::Here && owner.ingress != PolicySet::NONE
}
