//! Which packets are meant, in the words that tcpdump's users know: `host 10.0.0.5 and tcp port 80`.
//!
//! ```text
//! expression  either { "or" either }
//! either      part { ["and"] part }
//! part        "not" part | "(" expression ")" | term
//! term        "ip" | "ip6" | "arp" | "tcp" | "udp" | "sctp" | "icmp" | "icmp6" | "vlan" N
//!             | ["src" | "dst"] ("host" ADDRESS | "net" PREFIX | "port" N | "portrange" N-M)
//! ```
//!
//! A term is about what filters are told of a packet. Nothing in here goes deeper than [`DEPTH`],
//! whatever the text is.

use std::net::IpAddr;
use std::str::FromStr;

use millrace_abi::{Class, Slot};
use millrace_wire::IpProtocol;

/// Which packets are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expression(Node);

/// What has to be so of each packet that is meant, as far as a port, a protocol and a prefix say
/// it: who looks at this first has less to look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The upper-layer protocol.
    pub protocol: Option<u8>,
    /// A port, of either end.
    pub port: Option<u16>,
    /// Where an address is in, of either end.
    pub prefix: Option<Prefix>,
}

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// As in [`Slot::src_addr`]; zeros behind the prefix.
    pub address: [u8; 16],
    /// 1 bits of what counts.
    pub mask: [u8; 16],
}

/// A text is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{near}`: {complaint}")]
pub struct ParseExpressionError {
    near: String,
    complaint: &'static str,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Node {
    #[default]
    Any,
    Term(Term),
    Not(Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Term {
    Version(u8),
    Protocol(u8),
    Arp,
    Vlan(u16),
    Net(Side, Prefix),
    Ports(Side, u16, u16),
}

/// Of which end something is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Source,
    Destination,
    Either,
}

impl Expression {
    /// Whether a packet is meant.
    #[inline]
    pub fn matches(&self, slot: &Slot) -> bool {
        self.0.matches(slot)
    }

    /// What has to be so of each packet that is meant.
    pub fn needs(&self) -> Needs {
        let mut needs = Needs::default();
        let all = match &self.0 {
            Node::And(parts) => &parts[..],
            one => std::slice::from_ref(one),
        };
        for part in all {
            match part {
                Node::Term(Term::Protocol(protocol)) => needs.protocol = Some(*protocol),
                Node::Term(Term::Net(_, prefix)) => needs.prefix = Some(*prefix),
                Node::Term(Term::Ports(_, first, last)) if first == last => {
                    needs.port = Some(*first);
                }
                _ => {}
            }
        }
        needs
    }
}

impl FromStr for Expression {
    type Err = ParseExpressionError;

    /// Reads an expression; an empty one means every packet.
    fn from_str(text: &str) -> Result<Self, ParseExpressionError> {
        if text.len() > LENGTH {
            return Err(wrong("…", "an expression has at most 4096 bytes"));
        }
        let mut words = Words { rest: words(text), depth: 0 };
        if words.rest.is_empty() {
            return Ok(Self::default());
        }
        let node = words.expression()?;
        match words.rest.last() {
            None => Ok(Self(node)),
            Some(word) => Err(wrong(word, "nothing is expected behind the expression")),
        }
    }
}

impl Node {
    fn matches(&self, slot: &Slot) -> bool {
        match self {
            Self::Any => true,
            Self::Term(term) => term.matches(slot),
            Self::Not(part) => !part.matches(slot),
            Self::And(parts) => parts.iter().all(|part| part.matches(slot)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(slot)),
        }
    }
}

impl Term {
    fn matches(self, slot: &Slot) -> bool {
        let either = |side, source, destination| match side {
            Side::Source => source,
            Side::Destination => destination,
            Side::Either => source || destination,
        };
        match self {
            Self::Version(version) => slot.ip_version == version,
            Self::Protocol(protocol) => slot.ip_version != 0 && slot.protocol == protocol,
            Self::Arp => slot.class() == Class::Arp,
            Self::Vlan(vlan) => slot.vlan == vlan,
            Self::Net(side, prefix) => {
                let within = |address| slot.ip_version != 0 && prefix.contains(address);
                either(side, within(&slot.src_addr), within(&slot.dst_addr))
            }
            Self::Ports(side, first, last) => {
                let has = IpProtocol(slot.protocol).has_ports() && slot.class() == Class::Flow;
                let within = |port| has && (first..=last).contains(&port);
                either(side, within(slot.src_port), within(slot.dst_port))
            }
        }
    }
}

impl Prefix {
    /// The first `length` bits of an address, as the text of a prefix counts them.
    fn new(address: IpAddr, length: u8) -> Option<Self> {
        let (octets, length, most) = match address {
            IpAddr::V4(v4) => (v4.to_ipv6_mapped().octets(), u32::from(length) + 96, 128),
            IpAddr::V6(v6) => (v6.octets(), u32::from(length), 128),
        };
        if length > most {
            return None;
        }
        let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
        let address = u128::from_be_bytes(octets) & mask;
        Some(Self { address: address.to_be_bytes(), mask: mask.to_be_bytes() })
    }

    fn contains(&self, address: &[u8; 16]) -> bool {
        u128::from_be_bytes(*address) & u128::from_be_bytes(self.mask)
            == u128::from_be_bytes(self.address)
    }
}

/// The words of an expression, the first one last.
struct Words<'t> {
    rest: Vec<&'t str>,
    depth: usize,
}

impl<'t> Words<'t> {
    fn expression(&mut self) -> Result<Node, ParseExpressionError> {
        let mut parts = vec![self.either()?];
        while self.take_one_of(&["or", "||"]) {
            parts.push(self.either()?);
        }
        Ok(together(parts, Node::Or))
    }

    fn either(&mut self) -> Result<Node, ParseExpressionError> {
        let mut parts = vec![self.part()?];
        loop {
            if !self.take_one_of(&["and", "&&"])
                && self.rest.last().is_none_or(|word| ["or", "||", ")"].contains(word))
            {
                return Ok(together(parts, Node::And));
            }
            parts.push(self.part()?);
        }
    }

    fn part(&mut self) -> Result<Node, ParseExpressionError> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(wrong(self.rest.last().unwrap_or(&""), "this is nested too deeply"));
        }
        let node = if self.take_one_of(&["not", "!"]) {
            Node::Not(Box::new(self.part()?))
        } else if self.take_one_of(&["("]) {
            let node = self.expression()?;
            if !self.take_one_of(&[")"]) {
                return Err(wrong(self.rest.last().unwrap_or(&""), "`)` is missing"));
            }
            node
        } else {
            Node::Term(self.term()?)
        };
        self.depth -= 1;
        Ok(node)
    }

    fn term(&mut self) -> Result<Term, ParseExpressionError> {
        let word = self.next("a term is missing at the end")?;
        let protocol = |protocol: IpProtocol| Ok(Term::Protocol(protocol.0));
        let (side, word) = match word {
            "src" => (Side::Source, self.next("`host`, `net`, `port` or `portrange` is missing")?),
            "dst" => {
                (Side::Destination, self.next("`host`, `net`, `port` or `portrange` is missing")?)
            }
            "ip" => return Ok(Term::Version(4)),
            "ip6" => return Ok(Term::Version(6)),
            "arp" => return Ok(Term::Arp),
            "tcp" => return protocol(IpProtocol::TCP),
            "udp" => return protocol(IpProtocol::UDP),
            "sctp" => return protocol(IpProtocol::SCTP),
            "icmp" => return protocol(IpProtocol::ICMPV4),
            "icmp6" => return protocol(IpProtocol::ICMPV6),
            "vlan" => return Ok(Term::Vlan(self.number("it is no number of a VLAN")?)),
            other => (Side::Either, other),
        };
        match word {
            "host" => {
                let text = self.next("an address is missing")?;
                let address: IpAddr = parsed(text, "it is no address")?;
                Ok(Term::Net(side, whole(address)))
            }
            "net" => {
                let text = self.next("a prefix is missing")?;
                let complaint = "it is no prefix, as 10.0.0.0/8 or fd00::/64 are";
                let prefix = match text.split_once('/') {
                    None => whole(parsed(text, complaint)?),
                    Some((address, length)) => {
                        let (address, length) =
                            (parsed(address, complaint)?, parsed(length, complaint)?);
                        Prefix::new(address, length).ok_or_else(|| wrong(text, complaint))?
                    }
                };
                Ok(Term::Net(side, prefix))
            }
            "port" => {
                let port = self.number("it is no number of a port")?;
                Ok(Term::Ports(side, port, port))
            }
            "portrange" => {
                let text = self.next("two ports are missing")?;
                let complaint = "it is no range of ports, as 8000-8080 is";
                let (first, last) = text.split_once('-').ok_or_else(|| wrong(text, complaint))?;
                Ok(Term::Ports(side, parsed(first, complaint)?, parsed(last, complaint)?))
            }
            // an address alone is a host's
            text => match (side, text.parse()) {
                (Side::Either, Ok(address)) => Ok(Term::Net(side, whole(address))),
                _ => Err(wrong(text, TERMS)),
            },
        }
    }

    fn next(&mut self, complaint: &'static str) -> Result<&'t str, ParseExpressionError> {
        self.rest.pop().ok_or_else(|| wrong("", complaint))
    }

    fn number(&mut self, complaint: &'static str) -> Result<u16, ParseExpressionError> {
        parsed(self.next("a number is missing at the end")?, complaint)
    }

    fn take_one_of(&mut self, words: &[&str]) -> bool {
        self.rest.pop_if(|word| words.contains(word)).is_some()
    }
}

/// The words, the first one last; parentheses and `!` need no blanks around them.
fn words(text: &str) -> Vec<&str> {
    let mut words: Vec<&str> = text
        .split_ascii_whitespace()
        .flat_map(|word| word.split_inclusive(['(', ')', '!']))
        .flat_map(|word| match word.char_indices().next_back() {
            Some((at, '(' | ')' | '!')) => [&word[..at], &word[at..]],
            _ => [word, ""],
        })
        .filter(|word| !word.is_empty())
        .collect();
    words.reverse();
    words
}

fn together(mut parts: Vec<Node>, all: fn(Vec<Node>) -> Node) -> Node {
    match parts.len() {
        1 => parts.remove(0),
        _ => all(parts),
    }
}

fn whole(address: IpAddr) -> Prefix {
    let length = if address.is_ipv4() { 32 } else { 128 };
    Prefix::new(address, length).expect("an address has so many bits")
}

fn parsed<T: FromStr>(text: &str, complaint: &'static str) -> Result<T, ParseExpressionError> {
    text.parse().map_err(|_| wrong(text, complaint))
}

fn wrong(near: &str, complaint: &'static str) -> ParseExpressionError {
    ParseExpressionError { near: near.to_owned(), complaint }
}

/// How deeply parentheses and `not` may be nested.
const DEPTH: usize = 64;
/// Bytes of an expression, at most.
const LENGTH: usize = 4096;
const TERMS: &str = "it is no term; there are `host ADDRESS`, `net PREFIX`, `port N`, `portrange \
                     N-M` (with `src` or `dst` before), `tcp`, `udp`, `sctp`, `icmp`, `icmp6`, \
                     `ip`, `ip6`, `arp` and `vlan N`";

#[cfg(test)]
mod tests;
