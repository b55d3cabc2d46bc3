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
    checks: Vec<Check>,
    action: Action,
    denied: Counter,
}

/// What a rule states, in the form in which it is quickly compared.
#[derive(Clone, Debug)]
struct Check {
    /// Destination port and protocol, of which the bits of `mask` count.
    service: u32,
    mask: u32,
    from: Option<Prefix>,
    to: Option<Prefix>,
}

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
        Ok(Self {
            checks: settings.rules.into_iter().map(Check::from).collect(),
            action: settings.action,
            denied: setup.counter("denied")?,
        })
    }

    fn flow(&mut self, slot: &Slot, decision: &mut Decision) {
        let (Some(from), Some(to)) = (slot.source(), slot.destination()) else { return };
        let service = service(slot.dst_port, slot.protocol);
        if self.checks.iter().any(|check| check.matches(service, from, to)) {
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
    fn from(rule: DenyRule) -> Self {
        let protocol = rule.protocol.map(|protocol| protocol as u8);
        Self {
            service: service(rule.port.unwrap_or(0), protocol.unwrap_or(0)),
            mask: service(rule.port.map_or(0, |_| u16::MAX), protocol.map_or(0, |_| u8::MAX)),
            from: rule.from,
            to: rule.to,
        }
    }
}

impl Check {
    fn matches(&self, service: u32, from: IpAddr, to: IpAddr) -> bool {
        (service ^ self.service) & self.mask == 0
            && self.from.as_ref().is_none_or(|prefix| prefix.contains(from))
            && self.to.as_ref().is_none_or(|prefix| prefix.contains(to))
    }
}

fn service(port: u16, protocol: u8) -> u32 {
    u32::from(port) | u32::from(protocol) << 16
}

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
    fn rules_that_cannot_match_are_refused() {
        let error =
            Rig::<DenyList>::try_new(r#"{"rules": [{"from": "10.0.0.0/8", "to": "::/0"}]}"#)
                .err()
                .expect("two IP versions never meet");
        assert!(error.to_string().contains("rules[0]"), "{error}");
    }
}
