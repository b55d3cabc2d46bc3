//! Addresses that stand in for a node's own: what its own processes send to itself never leaves the
//! host's stack, unless it is sent to an address that leads elsewhere.
//!
//! Owns which they are. Nobody else has them: IPv4's are link-local ones (RFC 3927), IPv6's of a
//! unique local prefix (RFC 4193).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::node_ports::{LOOPBACKS, NodePortAddresses};

/// By the node's own addresses, those that it states, have node ports, or are the loopback's, what
/// stands in for each.
pub(super) fn stand_ins(
    stated: &[IpAddr],
    node_ports: &NodePortAddresses,
) -> BTreeMap<IpAddr, IpAddr> {
    let others = node_ports.at(stated);
    let (mut v4, mut v6) = (FIRST_V4, FIRST_V6);
    let mut stand_ins = BTreeMap::new();
    for address in LOOPBACKS.into_iter().chain(stated.iter().copied()).chain(others).take(MOST) {
        stand_ins.entry(address).or_insert_with(|| match address {
            IpAddr::V4(_) => {
                let now = v4;
                v4 = Ipv4Addr::from_bits(now.to_bits() + 1);
                IpAddr::V4(now)
            }
            IpAddr::V6(_) => {
                let now = v6;
                v6 = Ipv6Addr::from_bits(now.to_bits() + 1);
                IpAddr::V6(now)
            }
        });
    }
    stand_ins
}

/// Behind the one that the host's stack knows the dataplane by.
const FIRST_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 77, 115);
const FIRST_V6: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0x696c, 0x6c72, 0x6163, 0x6500, 0, 0, 1);
/// More than any node has; they end before the octet does.
const MOST: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_a_nodes_addresses_has_its_own_and_the_loopback_keeps_the_first() {
        let own = ["192.0.2.1", "2001:db8::1", "192.0.2.1", "198.51.100.7"];
        let own = own.map(|it| it.parse().expect("an address"));
        let node_ports = NodePortAddresses::At(vec![own[0], own[3]]);
        let stand_ins = |own: &[IpAddr]| stand_ins(own, &node_ports);
        let all: Vec<_> =
            stand_ins(&own[..3]).iter().map(|(own, it)| format!("{own} {it}")).collect();
        let expected = [
            "127.0.0.1 169.254.77.115",
            "192.0.2.1 169.254.77.116",
            "198.51.100.7 169.254.77.117",
            "::1 fd6d:696c:6c72:6163:6500::1",
            "2001:db8::1 fd6d:696c:6c72:6163:6500::2",
        ];
        assert_eq!(all, expected);
        let many = (0..1000).map(|n| IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + n)));
        let many: Vec<_> = many.collect();
        let many = stand_ins(&many).into_values().filter(IpAddr::is_ipv4);
        assert!(many.map(|it| it.to_string()).all(|it| it.starts_with("169.254.77.")));
    }
}
