//! What the filter was told: whose addresses are, and what policies say.
//!
//! What does not fit together is refused: the host keeps what was before in force then.

use std::net::IpAddr;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use millrace_filter::prelude::*;
use millrace_filter::tables::{
    Action, Addresses, Block, Change, Clause, Identity, Key, Otherwise, Owner, Peer, Place,
    Policies, PolicySet, Range, Row, Selector, Tier,
};

/// All that is known.
#[derive(Default)]
pub(crate) struct Known {
    owners: Index<IpAddr, Owner>,
    identities: Index<Identity, Box<[Selector]>>,
    blocks: Index<Block, Region>,
    sets: Index<PolicySet, Set>,
    /// Pods of this node that others may not open any connection to.
    guarded: usize,
    /// Whether anything was told yet.
    is_told: bool,
    /// Sets that owners and other sets name since the last commit, and blocks that sets do.
    named: (Vec<PolicySet>, Vec<Block>),
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
}

/// What is judged: the other end of a connection, and what it is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject {
    pub(crate) peer: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) port: u16,
    pub(crate) ends: Ends,
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

    /// What a set of policies says.
    pub(crate) fn judge(&self, set: PolicySet, subject: Subject) -> Ruling {
        // a set that is named is there: commits see to it
        let Some(set) = self.sets.get(&set) else { return Ruling::Denied(0) };
        let identity = self.owner(subject.peer).map_or(Identity::NONE, |owner| owner.identity);
        let selectors = self.identities.get(&identity).map_or(&[][..], |it| it);
        let is_about = |clause: &Clause| {
            clause.is_about(subject.protocol, subject.port)
                && match clause.peer {
                    Peer::Any => true,
                    Peer::Selected(selector) => selectors.binary_search(&selector).is_ok(),
                    Peer::Is(other) => identity == other,
                    Peer::Within(block) => {
                        self.blocks.get(&block).is_some_and(|it| it.contains(subject.peer))
                    }
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
    pub(crate) fn audit(&self, set: PolicySet, subject: Subject) -> Option<u32> {
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
                self.named.0.extend([owner.egress, owner.ingress]);
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
                let set = Set { otherwise, audit, clauses: clauses.iter().collect() };
                self.named.0.push(audit);
                self.named.1.extend(set.blocks());
                self.sets.insert(number, set);
            }
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
            Table::Services | Table::Endpoints | Table::Ranges | Table::Sources => {}
        }
    }

    /// Whether all sets are there that owners name, and all blocks that sets do.
    fn check(&mut self) -> Result<(), Error> {
        let (sets, blocks) = std::mem::take(&mut self.named);
        let missing = |set: &&PolicySet| **set != PolicySet::NONE && !self.sets.contains_key(*set);
        if let Some(PolicySet(set)) = sets.iter().find(missing) {
            let text = format!("a pod, or a set, names the set {set} of policies: there is none");
            return Err(Error::new(text));
        }
        match blocks.iter().find(|block| !self.blocks.contains_key(*block)) {
            Some(Block(block)) => {
                Err(Error::new(format!("a clause names the block {block}: there is none")))
            }
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
    fn blocks(&self) -> impl Iterator<Item = Block> {
        self.clauses.iter().filter_map(|clause| match clause.peer {
            Peer::Within(block) => Some(block),
            _ => None,
        })
    }
}

fn is_guarded(owner: &Owner) -> bool {
    owner.place == Place::Here && owner.ingress != PolicySet::NONE
}
