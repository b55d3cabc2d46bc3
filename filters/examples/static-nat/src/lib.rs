//! Translates flows by prefix and port: the filter to start from when packets are to leave with
//! other addresses than they came with.
//!
//! ```json
//! {"rules": [
//!     {"to": "192.0.2.80/32", "protocol": "tcp", "port": 80,
//!      "new_destination": "10.1.0.5", "new_port": 8080},
//!     {"from": "10.1.0.0/16", "masquerade": true}
//! ]}
//! ```
//! The first rule that matches and says something new of the destination counts, and the first
//! that does so of the source. The host translates every packet of the flow, and its answers
//! back. Where it goes is for a router behind this filter to say.

use std::net::IpAddr;

use millrace_filter::prelude::*;

/// What the operator configures.
#[derive(Config, Clone, Debug)]
pub struct Settings {
    /// What is translated.
    rules: Vec<NatRule>,
}

/// Translates flows that match all that it states.
#[derive(Config, Clone, Debug)]
pub struct NatRule {
    /// Where the flow comes from.
    from: Option<Prefix>,
    /// Where it goes to, before it is translated.
    to: Option<Prefix>,
    /// Its protocol.
    protocol: Option<Protocol>,
    /// The port it goes to.
    port: Option<u16>,
    /// Where it goes to instead.
    new_destination: Option<IpAddr>,
    /// The port there; absent, it stays.
    new_port: Option<u16>,
    /// Where it comes from instead; its port stays.
    new_source: Option<IpAddr>,
    /// Whether it comes from an address and a port of the host's choice instead.
    #[config(default = false)]
    masquerade: bool,
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
pub struct StaticNat {
    rules: Vec<NatRule>,
    translated: Counter,
}

impl Filter for StaticNat {
    const MANIFEST: Manifest = Manifest::new("static-nat", env!("CARGO_PKG_VERSION"))
        .describes("Translates sources and destinations by prefix and port.")
        .wants(&[Capability::Translate])
        .rules(&[TRANSLATED]);
    type Config = Settings;

    fn new(settings: Settings, setup: &mut Setup) -> Result<Self, Error> {
        for (index, rule) in settings.rules.iter().enumerate() {
            rule.check().map_err(|wrong| format!("`rules[{index}]`: {wrong}"))?;
        }
        Ok(Self { rules: settings.rules, translated: setup.counter("translated")? })
    }

    fn flow(&mut self, slot: &Slot, decision: &mut Decision) {
        let (Some(from), Some(to)) = (slot.source(), slot.destination()) else { return };
        let mut rules = self.rules.iter().filter(|rule| rule.matches(slot, from, to));
        let first = rules.clone().find_map(|rule| rule.destination());
        let source = rules.find_map(NatRule::source);
        if let Some((address, port)) = first {
            decision.translate_destination(address, port);
        }
        match source {
            Some(Source::Address(address)) => decision.translate_source(address, 0),
            Some(Source::Masquerade) => decision.masquerade(),
            None if first.is_none() => return,
            None => decision,
        };
        decision.by_rule(TRANSLATED.id);
        self.translated.add(1);
    }
}

filter!(StaticNat: flow);

/// Where a flow comes from instead.
enum Source {
    Address(IpAddr),
    Masquerade,
}

impl NatRule {
    fn matches(&self, slot: &Slot, from: IpAddr, to: IpAddr) -> bool {
        self.from.is_none_or(|prefix| prefix.contains(from))
            && self.to.is_none_or(|prefix| prefix.contains(to))
            && self.protocol.is_none_or(|protocol| slot.protocol == protocol as u8)
            && self.port.is_none_or(|port| slot.dst_port == port)
            && self.news().all(|address| address.is_ipv4() == from.is_ipv4())
    }

    fn destination(&self) -> Option<(IpAddr, u16)> {
        Some((self.new_destination?, self.new_port.unwrap_or(0)))
    }

    fn source(&self) -> Option<Source> {
        match self.masquerade {
            true => Some(Source::Masquerade),
            false => self.new_source.map(Source::Address),
        }
    }

    /// The new addresses.
    fn news(&self) -> impl Iterator<Item = IpAddr> {
        self.new_destination.into_iter().chain(self.new_source)
    }

    fn check(&self) -> Result<(), &'static str> {
        let mut versions =
            [self.from, self.to].into_iter().flatten().map(|prefix| prefix.address());
        let first = versions.next().or(self.news().next()).map(|address| address.is_ipv4());
        if versions.chain(self.news()).any(|address| Some(address.is_ipv4()) != first) {
            return Err("its addresses are of two IP versions");
        }
        if self.masquerade && self.new_source.is_some() {
            return Err("`new_source` and `masquerade` exclude each other");
        }
        if self.new_port.is_some() && self.new_destination.is_none() {
            return Err("`new_port` goes with `new_destination`");
        }
        match self.masquerade || self.news().next().is_some() {
            true => Ok(()),
            false => Err("it says nothing new"),
        }
    }
}

const TRANSLATED: Rule = Rule::new(1, "translated", "A rule of the list matches.");

#[cfg(test)]
mod tests {
    use millrace_filter::testing::{Rig, frames};
    use millrace_filter::wire::tcp::Flags;
    use millrace_filter::{Decision, Field};

    use super::*;

    const CONFIG: &str = r#"{"rules": [
        {"to": "192.0.2.80/32", "protocol": "tcp", "port": 80,
         "new_destination": "10.1.0.5", "new_port": 8080},
        {"to": "192.0.2.80/32", "new_destination": "10.1.0.6"},
        {"to": "2001:db8::80/128", "new_destination": "fd00::5"},
        {"from": "10.1.0.0/16", "masquerade": true},
        {"from": "10.0.0.0/8", "new_source": "192.0.2.9"}
    ]}"#;

    fn destination(decision: &Decision) -> Option<(IpAddr, u16)> {
        let address = std::net::Ipv6Addr::from(decision.to_addr).to_canonical();
        decision.stated().contains(Field::To).then_some((address, decision.to_port))
    }

    #[test]
    fn the_first_rule_that_matches_all_it_states_has_the_new_destination() {
        let mut rig = Rig::<StaticNat>::new(CONFIG);
        let to = |address: &str, port| Some((address.parse().expect("an address"), port));
        for (frame, expected) in [
            (frames::tcp("9.9.9.9:5", "192.0.2.80:80", Flags::SYN, b""), to("10.1.0.5", 8080)),
            (frames::tcp("9.9.9.9:5", "192.0.2.80:81", Flags::SYN, b""), to("10.1.0.6", 0)),
            (frames::udp("9.9.9.9:5", "192.0.2.80:80", b""), to("10.1.0.6", 0)),
            (frames::ping("9.9.9.9", "192.0.2.80"), to("10.1.0.6", 0)),
            (frames::ping("2001:db8::1", "2001:db8::80"), to("fd00::5", 0)),
            (frames::udp("9.9.9.9:5", "192.0.2.81:80", b""), None),
            (frames::arp_request("9.9.9.9", "192.0.2.80"), None),
        ] {
            let decision = rig.flow(&frame);
            assert_eq!(destination(&decision), expected, "{frame:02x?}");
            assert_eq!(decision.rule != 0, expected.is_some());
        }
        assert_eq!(rig.metric("translated"), 5);
    }

    #[test]
    fn a_new_source_goes_with_a_new_destination_of_another_rule() {
        let mut rig = Rig::<StaticNat>::new(CONFIG);
        let both = rig.flow(&frames::udp("10.1.2.3:5", "192.0.2.80:53", b""));
        assert!(destination(&both).is_some());
        assert!(both.stated().contains(Field::Masquerade) && !both.stated().contains(Field::As));
        let stated = rig.flow(&frames::udp("10.2.2.3:5", "192.0.2.81:53", b""));
        assert!(stated.stated().contains(Field::As) && destination(&stated).is_none());
        let address = std::net::Ipv6Addr::from(stated.as_addr).to_canonical();
        assert_eq!((address, stated.as_port), ("192.0.2.9".parse().expect("an address"), 0));
    }

    #[test]
    fn rules_that_cannot_be_carried_out_are_refused() {
        for (rule, word) in [
            (r#"{"to": "10.0.0.1/32", "new_destination": "fd00::1"}"#, "two IP versions"),
            (r#"{"new_source": "10.0.0.1", "new_destination": "fd00::1"}"#, "two IP versions"),
            (r#"{"new_source": "10.0.0.1", "masquerade": true}"#, "exclude"),
            (r#"{"masquerade": true, "new_port": 80}"#, "new_destination"),
            (r#"{"to": "10.0.0.1/32"}"#, "nothing new"),
        ] {
            let config = format!(r#"{{"rules": [{rule}]}}"#);
            let error = Rig::<StaticNat>::try_new(&config).err().expect("it is refused");
            let text = error.to_string();
            assert!(text.contains("rules[0]") && text.contains(word), "{text}");
        }
    }
}
