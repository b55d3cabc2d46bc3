//! Names of domains that policies are about, as tables have them.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use millrace_filter::tables::{Domain, Pattern, fnv1a};

/// Patterns of names.
#[derive(Default)]
pub(crate) struct Domains {
    numbers: HashMap<Domain, (Box<str>, Digest), FixedState>,
    /// What tells a pattern from others, by its text: single names, and what those end with that are
    /// below one.
    names: HashMap<Box<str>, Digest, FixedState>,
    suffixes: HashMap<Box<str>, Digest, FixedState>,
}

/// What is remembered in place of a text. Numbers of tables are others once an agent has started
/// again, and what filters remember outlives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest(pub(crate) u64);

impl Domains {
    /// Whether a number is a pattern's.
    pub(crate) fn has(&self, domain: Domain) -> bool {
        self.numbers.contains_key(&domain)
    }

    /// The pattern with a number.
    pub(crate) fn digest(&self, domain: Domain) -> Option<Digest> {
        self.numbers.get(&domain).map(|(_, digest)| *digest)
    }

    /// The patterns that have a name.
    pub(crate) fn of<'d>(&'d self, name: &'d str) -> impl Iterator<Item = Digest> + 'd {
        let dots = name.match_indices('.').map(|(at, _)| &name[at..]);
        let below = dots.filter_map(|suffix| self.suffixes.get(suffix));
        self.names.get(name).into_iter().chain(below).copied()
    }

    pub(crate) fn put(&mut self, domain: Domain, pattern: Pattern<'_>) {
        self.remove(domain);
        let (text, digest) = (pattern.text(), Digest(pattern.digest()));
        match pattern.suffix() {
            Some(suffix) => self.suffixes.insert(suffix.into(), digest),
            None => self.names.insert(text.into(), digest),
        };
        self.numbers.insert(domain, (text.into(), digest));
    }

    pub(crate) fn remove(&mut self, domain: Domain) {
        let Some((text, digest)) = self.numbers.remove(&domain) else { return };
        // one text may have had two numbers for a while
        if self.numbers.values().all(|(_, other)| *other != digest) {
            match text.strip_prefix('*') {
                Some(suffix) => self.suffixes.remove(suffix),
                None => self.names.remove(&text),
            };
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Digest {
    /// Of these octets, one behind the other: the same for every version of the filter.
    pub(crate) fn of(parts: &[&[u8]]) -> Self {
        Self(fnv1a(parts.iter().copied().flatten().copied()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against each pattern asked by itself, whatever came and went before.
        #[test]
        fn k4_a_name_has_the_patterns_that_have_it(
            steps in prop::collection::vec((0..5u32, "(\\*\\.)?([ab]\\.){1,3}c", any::<bool>()), 0..20),
            name in "([ab]\\.){0,4}c",
        ) {
            let mut domains = Domains::default();
            let mut plain = std::collections::BTreeMap::new();
            for (number, text, stays) in &steps {
                match stays {
                    true => {
                        domains.put(Domain(*number), Pattern::new(text).expect("a pattern"));
                        plain.insert(*number, text);
                    }
                    false => {
                        domains.remove(Domain(*number));
                        plain.remove(number);
                    }
                }
            }
            let having = plain.values().filter(|it| Pattern::new(it).expect("a pattern").has(&name));
            let expected: BTreeSet<u64> =
                having.map(|text| Digest::of(&[text.as_bytes()]).0).collect();
            prop_assert_eq!(domains.of(&name).map(|it| it.0).collect::<BTreeSet<_>>(), expected);
            for number in 0..5 {
                prop_assert_eq!(domains.has(Domain(number)), plain.contains_key(&number));
            }
        }
    }
}
