//! Which addresses names have: learnt from what resolvers answer to pods.
//!
//! ```text
//! pod ──question──► resolver      asked: digest of the question, id         for 10 s
//! pod ◄──answer──── resolver      learnt: address, pattern → until when     for as long as it says
//! ```
//!
//! A reader must not break this: an answer counts if it comes the way back of a connection to a
//! resolver, which the host alone shows as such, and if that very question was asked with that id.
//! Of it counts what the name that was asked for leads to: other names, and then addresses (`CNAME`).
//! Those other names were not asked for, and nothing is learnt of them. It counts before the pod
//! has the answer: packets are shown before they leave.

use std::net::IpAddr;
use std::time::Duration;

use millrace_filter::Origin;
use millrace_filter::prelude::*;
use millrace_filter::record::Port;
use millrace_filter::wire::dns::{Data, Message, Name, Question};

use crate::domains::{Digest, Domains};

/// What is known of names, by every worker of the node.
pub(crate) struct Names {
    asked: Map<Asked, Asker>,
    learnt: Map<Called, Until>,
    learned: Counter,
    strange: Counter,
    full: Counter,
}

/// A question that waits for its answer.
#[derive(Record, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    question: u64,
    id: u16,
}

/// Who has asked. The port comes first: the map's quota goes by it, and so the other's.
#[derive(Record, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    ingress: Port,
}

/// That an address has a name of a pattern.
#[derive(Record, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Called {
    address: IpAddr,
    pattern: u64,
}

/// For how long it has.
#[derive(Record, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Until {
    ingress: Port,
    until_ns: u64,
}

impl Names {
    /// Opens the maps.
    pub(crate) fn open(setup: &mut Setup) -> Result<Self, Error> {
        let asked = MapOptions::new(QUESTIONS).ttl(ANSWERED_WITHIN).quota(QUESTIONS_PER_PORT);
        let learnt = MapOptions::new(ADDRESSES).ttl(REMEMBERED).quota(ADDRESSES_PER_PORT);
        Ok(Self {
            asked: setup.map(ASKED, asked)?,
            learnt: setup.map(LEARNT, learnt)?,
            learned: setup.counter("names_learned")?,
            strange: setup.counter("answers_not_asked_for")?,
            full: setup.counter("names_without_room")?,
        })
    }

    /// Whether an address has a name of the pattern, for a connection that the slot opens. One that
    /// was opened goes on when the answer that allowed it is over: for that it has to have had one.
    pub(crate) fn is_called(&self, address: IpAddr, pattern: Digest, slot: &Slot) -> bool {
        let called = self.learnt.get(&Called { address, pattern: pattern.0 });
        let is_open = slot.origin == Origin::Redecide as u8;
        called.is_some_and(|it| is_open || slot.now_ns <= it.until_ns)
    }

    /// A pod asks.
    pub(crate) fn ask(&self, slot: &Slot, message: Message<'_>) {
        let question = message.question().filter(|_| message.is_plain() && !message.is_answer());
        let Some(question) = question else { return };
        let asked = Asked { question: digest(&question).0, id: message.id() };
        if self.asked.set(&asked, &Asker { ingress: Port(slot.ingress) }).is_err() {
            self.full.add(1);
        }
    }

    /// A resolver answers.
    pub(crate) fn hear(&self, slot: &Slot, message: Message<'_>, domains: &Domains) {
        let question = message.question().filter(|_| message.is_answer());
        let asker = question.and_then(|question| {
            self.asked.get(&Asked { question: digest(&question).0, id: message.id() })
        });
        // nobody answers itself
        let asker = asker.filter(|asker| asker.ingress != Port(slot.ingress));
        let Some((question, asker)) = question.zip(asker) else {
            self.strange.add(1);
            return;
        };
        if !message.is_plain() || domains.of(question.name.text()).next().is_none() {
            return;
        }
        for (address, ttl) in addresses(message, question.name) {
            let ttl = Duration::from_secs(ttl.into()).clamp(SHORTEST, LONGEST);
            let until_ns = slot.now_ns + ttl.as_nanos() as u64;
            for pattern in domains.of(question.name.text()) {
                self.learn(&Called { address, pattern: pattern.0 }, until_ns, asker.ingress);
            }
        }
    }

    /// What one answer has said holds as long as it said, whatever others say.
    fn learn(&self, called: &Called, until_ns: u64, ingress: Port) {
        let before = self.learnt.get(called).map_or(0, |it| it.until_ns);
        let until = Until { ingress, until_ns: until_ns.max(before) };
        match self.learnt.set(called, &until) {
            Ok(()) => self.learned.add(1),
            Err(_) => self.full.add(1),
        }
    }
}

/// The addresses that a message says a name has, each with the seconds for which that holds.
fn addresses(message: Message<'_>, name: Name) -> impl Iterator<Item = (IpAddr, u32)> {
    let (mut name, mut least) = (name, u32::MAX);
    for _ in 0..MOST_OF_A_CHAIN {
        let alias = message.answers().find_map(|record| match record.data {
            Data::Cname(other) if record.name == name => Some((other, record.ttl)),
            _ => None,
        });
        let Some((other, ttl)) = alias else { break };
        (name, least) = (other, least.min(ttl));
    }
    message.answers().filter(move |record| record.name == name).filter_map(move |record| {
        let address = match record.data {
            Data::A(v4) => v4.into(),
            Data::Aaaa(v6) => v6.into(),
            Data::Cname(_) | Data::Other => return None,
        };
        Some((address, least.min(record.ttl)))
    })
}

fn digest(question: &Question) -> Digest {
    let Question { name, kind, class } = question;
    Digest::of(&[name.text().as_bytes(), &kind.to_le_bytes(), &class.to_le_bytes()])
}

/// The map of questions.
pub(crate) const ASKED: &str = "asked";
/// The map of addresses.
pub(crate) const LEARNT: &str = "names";
const QUESTIONS: u32 = 1 << 15;
const QUESTIONS_PER_PORT: u32 = 1 << 10;
const ADDRESSES: u32 = 1 << 17;
/// What one pod asks leaves room for others.
const ADDRESSES_PER_PORT: u32 = 1 << 14;
/// Clients ask once more after less.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// What is to be used at once may take a moment to be.
const SHORTEST: Duration = Duration::from_secs(30);
/// No answer holds for longer.
const LONGEST: Duration = Duration::from_secs(86_400);
/// An answer that is over counts for connections that there are, and no longer than this.
const REMEMBERED: Duration = Duration::from_secs(2 * 86_400);
/// Names that lead to another one, at most.
const MOST_OF_A_CHAIN: usize = 8;
