//! Ports for connections whose source is translated.
//!
//! A port is chosen by chance for a destination, and may serve any number of destinations at once
//! (endpoint-dependent mapping, RFC 4787 section 4.1): it is taken exactly where an answer would be
//! taken for that of another connection. That the table knows, so there is nothing to give back,
//! and a port rests for as long as its last connection is in TIME_WAIT.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use millrace_abi::Reason;
use millrace_wire::IpProtocol;
use num_integer::Integer;
use parking_lot::Mutex;

use super::{Connections, Endpoint, Key, OpenError, Opened, Opening};

/// The ports that sources may be translated to.
pub struct Masquerade {
    ports: Box<[u16]>,
    /// Nobody can tell the next choice from those before (RFC 6056).
    seed: RandomState,
    choices: AtomicU64,
    exhausted: Mutex<HashMap<(u8, Endpoint), u64>>,
    exhausted_elsewhere: AtomicU64,
}

/// How often no port was left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exhaustion {
    /// By protocol and destination, for the first of them that it happened to.
    pub by_destination: Vec<(u8, Endpoint, u64)>,
    /// For all others together.
    pub elsewhere: u64,
}

impl Masquerade {
    /// Sources may get these ports; for ICMP, these identifiers.
    pub fn new(ports: impl IntoIterator<Item = u16>) -> Self {
        Self {
            ports: ports.into_iter().collect(),
            seed: RandomState::new(),
            choices: AtomicU64::new(0),
            exhausted: Mutex::default(),
            exhausted_elsewhere: AtomicU64::new(0),
        }
    }

    /// Opens a connection whose packets leave from `source`, the destination of `opening.reply`
    /// being of no account.
    ///
    /// # Errors
    /// As [`Connections::open`]; never [`OpenError::ReplyTaken`].
    pub fn open(
        &self,
        connections: &Connections,
        mut opening: Opening,
        source: [u8; 16],
    ) -> Result<Opened, OpenError> {
        let answering = opening.reply;
        for port in self.candidates() {
            opening.reply = answers_to(answering, Endpoint { address: source, port });
            match connections.open(&opening) {
                Err(OpenError::ReplyTaken) => {}
                outcome => return outcome,
            }
        }
        self.note_exhaustion(&answering);
        Err(OpenError::Refused(Reason::NoNatPort))
    }

    /// How often no port was left.
    pub fn exhaustion(&self) -> Exhaustion {
        let exhausted = self.exhausted.lock();
        let mut by_destination: Vec<_> = exhausted
            .iter()
            .map(|(&(protocol, destination), &times)| (protocol, destination, times))
            .collect();
        by_destination.sort_unstable();
        Exhaustion { by_destination, elsewhere: self.exhausted_elsewhere.load(Relaxed) }
    }

    /// Some ports in an order of chance, none twice.
    fn candidates(&self) -> impl Iterator<Item = u16> {
        let count = self.ports.len();
        let chance = self.seed.hash_one(self.choices.fetch_add(1, Relaxed));
        let start = (chance >> 32) as usize % count.max(1);
        let stride = (chance as u32 as usize % count.max(1)..)
            .find(|stride| stride.gcd(&count) == 1)
            .expect("of numbers in a row, one shares no factor with the count");
        (0..count.min(ATTEMPTS)).map(move |turn| self.ports[(start + turn * stride) % count])
    }

    fn note_exhaustion(&self, reply: &Key) {
        let mut exhausted = self.exhausted.lock();
        let room = exhausted.len() < DESTINATIONS;
        let destination = match has_identifier(reply) {
            true => Endpoint { port: 0, ..reply.source },
            false => reply.source,
        };
        match exhausted.get_mut(&(reply.protocol, destination)) {
            Some(times) => *times += 1,
            None if room => {
                exhausted.insert((reply.protocol, destination), 1);
            }
            None => {
                self.exhausted_elsewhere.fetch_add(1, Relaxed);
            }
        }
    }
}

/// The key of answers to packets that leave from `source`.
fn answers_to(answering: Key, source: Endpoint) -> Key {
    let sender = match has_identifier(&answering) {
        true => Endpoint { port: source.port, ..answering.source },
        false => answering.source,
    };
    Key { source: sender, destination: source, ..answering }
}

/// Whether what stands for the ports is an identifier, the same at both ends.
fn has_identifier(key: &Key) -> bool {
    matches!(IpProtocol(key.protocol), IpProtocol::ICMPV4 | IpProtocol::ICMPV6)
}

/// Ports that are tried: with this many, one in five hundred connections fails when 98 of 100
/// ports towards a destination are taken.
const ATTEMPTS: usize = 320;
/// Destinations that are counted each by itself.
const DESTINATIONS: usize = 1024;
