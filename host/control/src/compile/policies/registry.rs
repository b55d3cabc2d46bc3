//! The numbers of what policies are told with, and who uses them.

use std::sync::Arc;

use ipnetwork::IpNetwork;
use millrace_tables::{Block, Domain, Identity, Selector};

use super::Rule;
use super::clauses::{BlockKey, Scope, Selection, SetKey};
use super::people::Likeness;
use crate::World;
use crate::compile::numbers::Numbers;
use crate::policy::DomainName;

/// The numbers of things.
#[derive(Clone, Debug)]
pub(super) struct Registry {
    pub(super) identities: Numbers<Likeness>,
    pub(super) selections: Numbers<Selection>,
    pub(super) blocks: Numbers<(IpNetwork, Vec<IpNetwork>)>,
    pub(super) domains: Numbers<DomainName>,
    pub(super) sets: Numbers<SetKey>,
    pub(super) rules: Numbers<Rule>,
}

/// What a set uses of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Uses {
    identities: Vec<u32>,
    selections: Vec<u32>,
    blocks: Vec<u32>,
    domains: Vec<u32>,
    rules: Vec<u32>,
}

impl Registry {
    /// The selectors in use that select a kind.
    pub(super) fn selectors_of<'r>(
        &'r self,
        world: &'r World,
        likeness: &'r Likeness,
    ) -> impl Iterator<Item = Selector> + 'r {
        let [own, others] = Selection::firsts(&likeness.namespace).map(Arc::new);
        let own = self.selections.from(own).take_while(
            |(it, _)| matches!(&it.scope, Scope::Namespace(name) if *name == likeness.namespace),
        );
        let all = own.chain(self.selections.from(others));
        let selecting = all.filter(move |(selection, _)| selection.has(world, likeness));
        selecting.map(|(_, number)| Selector(number))
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            identities: Numbers::after(0),
            selections: Numbers::after(0),
            blocks: Numbers::after(0),
            domains: Numbers::after(0),
            sets: Numbers::after(0),
            rules: Numbers::after(RULES_OF_THE_FILTER),
        }
    }
}

impl Uses {
    pub(super) fn identity(&mut self, of: &Arc<Likeness>, registry: &mut Registry) -> Identity {
        let number = registry.identities.take(Arc::clone(of));
        self.identities.push(number);
        Identity(number)
    }

    pub(super) fn selection(&mut self, of: Selection, registry: &mut Registry) -> Selector {
        let number = registry.selections.take(of);
        self.selections.push(number);
        Selector(number)
    }

    pub(super) fn block(&mut self, of: BlockKey, registry: &mut Registry) -> Block {
        let number = registry.blocks.take(of);
        self.blocks.push(number);
        Block(number)
    }

    pub(super) fn domain(&mut self, of: DomainName, registry: &mut Registry) -> Domain {
        let number = registry.domains.take(of);
        self.domains.push(number);
        Domain(number)
    }

    pub(super) fn rule(&mut self, of: Rule, registry: &mut Registry) -> u32 {
        let number = registry.rules.take(of);
        self.rules.push(number);
        number
    }

    /// Nothing is used any more.
    pub(super) fn give_back(self, registry: &mut Registry) {
        self.identities.into_iter().for_each(|it| registry.identities.give_back(it));
        self.selections.into_iter().for_each(|it| registry.selections.give_back(it));
        self.blocks.into_iter().for_each(|it| registry.blocks.give_back(it));
        self.domains.into_iter().for_each(|it| registry.domains.give_back(it));
        self.rules.into_iter().for_each(|it| registry.rules.give_back(it));
    }
}

/// The highest number of a rule that the filter's manifest may name.
const RULES_OF_THE_FILTER: u32 = 255;
