//! What the tests stand on: throw-away namespaces, and two of them with a wire between.

use std::process::Stdio;

use ipnetwork::IpNetwork;
use millrace_netns::{Namespace, NamespaceError, Netlink, VethSpec};

/// A namespace that is gone after the test, however it ends.
///
/// `None` without the privilege to make one, unless `CI` is set.
pub(crate) fn namespace(tag: &str) -> Option<Namespace> {
    match Namespace::create_unique(tag) {
        Err(error @ NamespaceError::Denied { .. }) if std::env::var_os("CI").is_none() => {
            eprintln!("not run: {error}");
            None
        }
        outcome => Some(outcome.unwrap()),
    }
}

/// Two namespaces, `eth0` of one wired to `eth0` of the other, both up and with addresses.
pub(crate) struct Pair {
    pub(crate) left: Namespace,
    pub(crate) right: Namespace,
}

impl Pair {
    pub(crate) const LEFT: &str = "10.1.0.1/24";
    pub(crate) const RIGHT: &str = "10.1.0.2/24";
    pub(crate) const LEFT_V6: &str = "fd01::1/64";
    pub(crate) const RIGHT_V6: &str = "fd01::2/64";

    pub(crate) fn new(tag: &str) -> Option<Self> {
        let (left, right) = (namespace(tag)?, namespace(tag)?);
        let netlink = left.netlink().unwrap();
        netlink.add_veth(&VethSpec::new("eth0", "eth0").peer_namespace(&right)).unwrap();
        bring_up(&netlink, &[Self::LEFT, Self::LEFT_V6]);
        bring_up(&right.netlink().unwrap(), &[Self::RIGHT, Self::RIGHT_V6]);
        Some(Self { left, right })
    }
}

/// Whether `address` answers to a ping from `namespace`.
pub(crate) fn pings(namespace: &Namespace, address: &str) -> bool {
    let mut ping = namespace.command("ping");
    ping.args(["-c", "1", "-W", "5", address]).stdout(Stdio::null());
    ping.status().unwrap().success()
}

pub(crate) fn network(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn bring_up(netlink: &Netlink, addresses: &[&str]) {
    for address in addresses {
        netlink.add_address("eth0", network(address)).unwrap();
    }
    netlink.set_up("eth0").unwrap();
}
