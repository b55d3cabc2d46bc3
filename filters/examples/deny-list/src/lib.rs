//! Drops flows by prefix and port: the filter to start from.
//!
//! ```json
//! {"rules": [{"from": "10.0.0.0/8", "to": "10.1.0.0/16", "protocol": "tcp", "port": 22}]}
//! ```
//! The first rule that matches decides; what no rule matches goes on.

use std::net::IpAddr;

use millrace_filter::prelude::*;

/// What the operator configures.
#[derive(Config, Clone, Debug)]
pub struct Settings {
    /// What is denied.
    rules: Vec<DenyRule>,
    /// Whether the sender of a denied packet is told.
    #[config(default = Action::Drop)]
    action: Action,
}

/// Denies flows that match all that it states.
#[derive(Config, Clone, Debug)]
pub struct DenyRule {
    /// Where the flow comes from.
    from: Option<Prefix>,
    /// Where it goes to.
    to: Option<Prefix>,
    /// Its protocol.
    protocol: Option<Protocol>,
    /// The port it goes to.
    port: Option<u16>,
}

/// What happens to a denied flow.
#[derive(Config, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing is heard of it.
    Drop,
    /// Its sender gets a TCP RST or an ICMP error.
    Reject,
}

/// A protocol with ports, and its number.
#[derive(Config, Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words say it")]
pub enum Protocol {
    Tcp = 6,
    Udp = 17,
    Sctp = 132,
}

/// The filter.
pub struct DenyList {
    /// In groups: WebAssembly pays for every turn of a loop, as the host may have to end it.
    checks: Vec<[Check; 4]>,
    action: Action,
    denied: Counter,
}

/// What a rule states, in the form in which it is quickly compared: the bits that count of a
/// flow's words, and their values.
#[derive(Clone, Copy, Debug)]
struct Check {
    mask: Words,
    value: Words,
}

/// What rules speak of: IP version, protocol and port in one word, then the addresses. They are
/// compared one after the other, those that are most likely to differ first.
type Words = [u64; 5];

impl Filter for DenyList {
    const MANIFEST: Manifest = Manifest::new("deny-list", env!("CARGO_PKG_VERSION"))
        .describes("Drops or rejects flows by prefix and port.")
        .wants(&[Capability::Drop, Capability::Reject])
        .rules(&[DENIED]);
    type Config = Settings;

    fn new(settings: Settings, setup: &mut Setup) -> Result<Self, Error> {
        for (index, rule) in settings.rules.iter().enumerate() {
            if let (Some(from), Some(to)) = (rule.from, rule.to)
                && from.address().is_ipv4() != to.address().is_ipv4()
            {
                return Err(
                    format!("`rules[{index}]`: {from} and {to} are of two IP versions").into()
                );
            }
        }
        let mut checks: Vec<_> = settings.rules.into_iter().map(Check::from).collect();
        checks.resize(checks.len().next_multiple_of(4), Check::NEVER);
        Ok(Self {
            checks: checks.as_chunks().0.to_vec(),
            action: settings.action,
            denied: setup.counter("denied")?,
        })
    }

    fn flow(&mut self, slot: &Slot, decision: &mut Decision) {
        if slot.ip_version == 0 {
            return;
        }
        let service = service(slot.ip_version, slot.protocol, slot.dst_port);
        let flow = words(service, &slot.src_addr, &slot.dst_addr);
        if self.checks.iter().any(|group| group.iter().any(|check| check.matches(&flow))) {
            self.denied.add(1);
            match self.action {
                Action::Drop => decision.drop(Reason::Denied),
                Action::Reject => decision.reject(Reason::Denied),
            };
            decision.by_rule(DENIED.id);
        }
    }
}

filter!(DenyList: flow);

impl From<DenyRule> for Check {
    fn from(DenyRule { from, to, protocol, port }: DenyRule) -> Self {
        let version = from.or(to).map(|prefix| if prefix.address().is_ipv4() { 4 } else { 6 });
        let protocol = protocol.map(|protocol| protocol as u8);
        let number = |stated: Option<u8>| (stated.map_or(0, |_| u8::MAX), stated.unwrap_or(0));
        let (version, protocol) = (number(version), number(protocol));
        let port = (port.map_or(0, |_| u16::MAX), port.unwrap_or(0));
        let (from, to) = (from.map_or(ANY, address_bits), to.map_or(ANY, address_bits));
        Self {
            mask: words(service(version.0, protocol.0, port.0), &from.0, &to.0),
            value: words(service(version.1, protocol.1, port.1), &from.1, &to.1),
        }
    }
}

impl Check {
    /// No flow has such a service.
    const NEVER: Self = Self { mask: [u64::MAX; 5], value: [u64::MAX; 5] };

    fn matches(&self, flow: &Words) -> bool {
        let bits = self.mask.iter().zip(&self.value);
        bits.zip(flow).all(|((mask, value), word)| (word ^ value) & mask == 0)
    }
}

fn words(service: u64, from: &[u8; 16], to: &[u8; 16]) -> Words {
    let half = |address: &[u8; 16], at: usize| {
        u64::from_ne_bytes(std::array::from_fn(|byte| address[at + byte]))
    };
    // all of an IPv4 address is in the second half
    [service, half(from, 8), half(to, 8), half(from, 0), half(to, 0)]
}

fn service(version: u8, protocol: u8, port: u16) -> u64 {
    u64::from(version) << 24 | u64::from(protocol) << 16 | u64::from(port)
}

/// Which bits of an address count, and their values, in the form that slots have.
fn address_bits(prefix: Prefix) -> ([u8; 16], [u8; 16]) {
    let (address, len) = match prefix.address() {
        IpAddr::V4(address) => (address.to_ipv6_mapped(), 96 + u32::from(prefix.len())),
        IpAddr::V6(address) => (address, u32::from(prefix.len())),
    };
    let mask = u128::MAX.checked_shl(128 - len).unwrap_or(0);
    (mask.to_be_bytes(), address.octets())
}

const ANY: ([u8; 16], [u8; 16]) = ([0; 16], [0; 16]);
const DENIED: Rule = Rule::new(1, "denied", "A rule of the list matches.");

#[cfg(test)]
mod tests {
    use millrace_filter::testing::{Rig, frames};
    use millrace_filter::wire::tcp::Flags;

    use super::*;

    const CONFIG: &str = r#"{"rules": [
        {"from": "10.0.0.0/8", "protocol": "tcp", "port": 22},
        {"to": "2001:db8::/32"},
        {"port": 9999}
    ]}"#;

    #[test]
    fn the_first_rule_that_matches_all_it_states_denies() {
        let mut rig = Rig::<DenyList>::new(CONFIG);
        for (frame, denied) in [
            (frames::tcp("10.1.2.3:5000", "192.0.2.1:22", Flags::SYN, b""), true),
            (frames::tcp("10.1.2.3:5000", "192.0.2.1:23", Flags::SYN, b""), false),
            (frames::tcp("11.1.2.3:5000", "192.0.2.1:22", Flags::SYN, b""), false),
            (frames::udp("10.1.2.3:5000", "192.0.2.1:22", b""), false),
            (frames::udp("10.1.2.3:5000", "192.0.2.1:9999", b""), true),
            (frames::udp("[2001:db8::1]:1", "[2001:db8::2]:2", b""), true),
            (frames::udp("[2001:db8::1]:1", "[2001:db9::2]:2", b""), false),
            (frames::arp_request("10.1.2.3", "10.1.2.4"), false),
        ] {
            let decision = rig.flow(&frame);
            assert_eq!(decision.control == 1, denied, "{frame:02x?}");
        }
        assert_eq!(rig.metric("denied"), 3);
    }

    #[test]
    fn a_denied_flow_is_rejected_if_so_configured() {
        let mut rig = Rig::<DenyList>::new(r#"{"rules": [{"port": 22}], "action": "reject"}"#);
        let decision = rig.flow(&frames::tcp("10.0.0.1:1", "10.0.0.2:22", Flags::SYN, b""));
        assert_eq!((decision.control, decision.rule), (2, DENIED.id));
    }

    #[test]
    fn a_prefix_of_no_bits_is_all_of_its_ip_version() {
        let v4 = frames::udp("10.1.2.3:5000", "192.0.2.1:53", b"");
        let v6 = frames::udp("[2001:db8::1]:5000", "[2001:db8::2]:53", b"");
        for (rule, denied) in [
            (r#"{"rules": [{"from": "0.0.0.0/0"}]}"#, [1, 0]),
            (r#"{"rules": [{"to": "::/0"}]}"#, [0, 1]),
            (r#"{"rules": [{}]}"#, [1, 1]),
        ] {
            let mut rig = Rig::<DenyList>::new(rule);
            assert_eq!([&v4, &v6].map(|frame| rig.flow(frame).control), denied, "{rule}");
        }
    }

    #[test]
    fn rules_that_cannot_match_are_refused() {
        let error =
            Rig::<DenyList>::try_new(r#"{"rules": [{"from": "10.0.0.0/8", "to": "::/0"}]}"#)
                .err()
                .expect("two IP versions never meet");
        assert!(error.to_string().contains("rules[0]"), "{error}");
    }
}
