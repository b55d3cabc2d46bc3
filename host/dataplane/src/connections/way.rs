//! What happens to the packets of a direction.

use super::{Endpoint, Key};
use crate::verdict::Verdict;

/// What happens to the packets of a direction, but for translation: that follows from the
/// connection's keys ([`Translation::between`]), so the two cannot contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Where they go, and who said so.
    pub verdict: Verdict,
    /// The Ethernet addresses they get, if others than they came with.
    pub link: Option<Link>,
    /// Whether the way is a hop.
    pub hop: Hop,
}

/// Ethernet addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Whom a frame is for.
    pub destination: [u8; 6],
    /// Whom it is from.
    pub source: [u8; 6],
}

/// Whether the TTL or hop limit goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// Within a segment: it stays.
    Bridged,
    /// Between segments: it goes down by one.
    Routed,
}

/// What of a packet's ends is rewritten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// The new source.
    pub source: Option<Endpoint>,
    /// The new destination.
    pub destination: Option<Endpoint>,
}

impl Translation {
    /// That of packets with the key `from`, when the packets of the other direction have the key
    /// `back`: they leave from whom those are for, and for whom those are from.
    #[inline]
    pub fn between(from: &Key, back: &Key) -> Self {
        Self {
            source: (from.source != back.destination).then_some(back.destination),
            destination: (from.destination != back.source).then_some(back.source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connections::Zone;

    fn end(last: u8, port: u16) -> Endpoint {
        let mut address = [0; 16];
        address[15] = last;
        Endpoint { address, port }
    }

    #[test]
    fn what_one_direction_rewrites_the_other_restores() {
        let client = end(1, 4000);
        let service = end(2, 80);
        let backend = end(3, 8080);
        let node = end(4, 50_000);
        let key = Key { source: client, destination: service, zone: Zone::port(1), protocol: 6 };

        let plain = key.reversed(Zone::port(2));
        assert_eq!(Translation::between(&key, &plain), Translation::default());

        let reply = Key { source: backend, destination: node, zone: Zone::UNDERLAY, protocol: 6 };
        let there = Translation::between(&key, &reply);
        assert_eq!(there, Translation { source: Some(node), destination: Some(backend) });
        let back = Translation::between(&reply, &key);
        assert_eq!(back, Translation { source: Some(service), destination: Some(client) });
    }
}
