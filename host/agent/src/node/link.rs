//! Walk `pod` 5/5: attach → **link**.
//!
//! Links of a node: the veth pair of a pod, and the one of the host itself.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use millrace_cni::Bandwidth;
use millrace_netns::{
    EthtoolError, Link, Namespace, NamespaceError, NetlinkError, Route, RouteProtocol, VethSpec,
};

/// The address that pods and the host know the dataplane by. It is the same on every node.
pub(crate) const GATEWAY_MAC: [u8; 6] = [0x02, 0x6d, 0x72, 0, 0, 1];

/// The host's own address.
pub(crate) const HOST_MAC: [u8; 6] = [0x02, 0x6d, 0x72, 0, 0, 2];

/// The host's end of its pair, which has the gateway's addresses.
pub(crate) const HOST_LINK: &str = "millrace";

/// The dataplane's end of the host's pair.
pub(crate) const HOST_PORT: &str = "millrace-port";

/// How the names of pods' ports begin.
pub(crate) const POD_PORTS: &str = "mp";

/// What tells the agent's entries in the kernel's tables from others (rtnetlink(7), `rtm_protocol`):
/// nobody has registered it.
pub(crate) const PROTOCOL: RouteProtocol = RouteProtocol(109);

/// Why a link is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// A namespace cannot be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The kernel refused.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// An offload stays as it is.
    #[error(transparent)]
    Offload(#[from] EthtoolError),
    /// A setting stays as it is.
    #[error(transparent)]
    Sysctl(#[from] millrace_netns::SysctlError),
}

/// What the link of a pod is to be like.
pub(crate) struct PodLink<'a> {
    /// The node's end.
    pub(crate) port: &'a str,
    /// The pod's end.
    pub(crate) interface: &'a str,
    /// The pod's link-layer address.
    pub(crate) mac: [u8; 6],
    /// The pod's addresses, with the length of their prefix.
    pub(crate) addresses: &'a [IpNetwork],
    /// The gateway of each prefix.
    pub(crate) gateways: &'a [IpNetwork],
    /// Bytes of the largest IP packet.
    pub(crate) mtu: u32,
    /// How fast each end sends.
    pub(crate) bandwidth: Bandwidth,
}

impl PodLink<'_> {
    /// Makes the pair, both ends up, in place of one that is left from before. Nothing of it stays
    /// if that fails.
    pub(crate) fn make(&self, node: &Namespace, pod: &Namespace) -> Result<(), LinkError> {
        let net = node.netlink()?;
        match net.delete_link(self.port) {
            Ok(()) | Err(NetlinkError::NoSuchLink { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let spec = VethSpec::new(self.port, self.interface).peer_namespace(pod);
        net.add_veth(&spec.peer_mac(self.mac).mtu(self.mtu))?;
        let made = self.furnish(node, pod);
        if made.is_err() {
            // the first failure is the one to tell of
            let _ = net.delete_link(self.port);
        }
        made
    }

    fn furnish(&self, node: &Namespace, pod: &Namespace) -> Result<(), LinkError> {
        keep_quiet(node, self.port)?;
        node.netlink()?.set_up(self.port)?;
        let net = pod.netlink()?;
        net.set_up("lo")?;
        net.set_up(self.interface)?;
        for address in self.addresses {
            net.add_address(self.interface, *address)?;
        }
        for gateway in self.gateways {
            match net.add_route(&Route::to(everywhere(gateway.ip())).via(gateway.ip())) {
                // another interface of the pod has it, and keeps it
                Ok(()) | Err(NetlinkError::Exists { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // before the node's end is a port: that has to know whether its link has a limit
        if let Some(rate) = self.bandwidth.ingress {
            node.netlink()?.shape(self.port, rate)?;
        }
        if let Some(rate) = self.bandwidth.egress {
            net.shape(self.interface, rate)?;
        }
        Ok(())
    }
}

/// Makes the host's pair. One that is left from before stays if it is as it should be: flows of the
/// host lead through it.
pub(crate) fn make_host_link(
    node: &Namespace,
    gateways: &[IpNetwork],
    mtu: u32,
) -> Result<(), LinkError> {
    let net = node.netlink()?;
    let fits = |link: &Link| link.mac == Some(HOST_MAC) && link.mtu == mtu;
    if !net.link(HOST_LINK).is_ok_and(|link| fits(&link)) || net.link(HOST_PORT).is_err() {
        match net.delete_link(HOST_LINK) {
            Ok(()) | Err(NetlinkError::NoSuchLink { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        net.add_veth(&VethSpec::new(HOST_LINK, HOST_PORT).mac(HOST_MAC).mtu(mtu))?;
        keep_quiet(node, HOST_PORT)?;
    }
    net.set_up(HOST_PORT)?;
    net.set_up(HOST_LINK)?;
    let present = net.addresses_of(HOST_LINK)?;
    let stale = |address: &&IpNetwork| !gateways.contains(address) && !is_link_local(address.ip());
    for address in present.iter().filter(stale) {
        net.remove_address(HOST_LINK, *address)?;
    }
    for gateway in gateways.iter().filter(|gateway| !present.contains(gateway)) {
        net.add_address(HOST_LINK, *gateway)?;
    }
    Ok(())
}

/// Whether an address is one that the kernel gives a link by itself (RFC 4291 section 2.5.6).
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// A dataplane's end of a pair sends nothing of its own.
pub(crate) fn keep_quiet(node: &Namespace, port: &str) -> Result<(), LinkError> {
    Ok(node.set_sysctl(&format!("net.ipv6.conf.{port}.disable_ipv6"), "1")?)
}

/// Whether a link has the name of a pod's port.
pub(crate) fn is_of_pod(link: &str) -> bool {
    link.strip_prefix(POD_PORTS).is_some_and(|rest| {
        rest.len() == 10 && rest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// The default prefix of an address's family.
pub(crate) fn everywhere(of: IpAddr) -> IpNetwork {
    let any: IpAddr = match of {
        IpAddr::V4(_) => [0; 4].into(),
        IpAddr::V6(_) => [0; 16].into(),
    };
    IpNetwork::new(any, 0).expect("0 is a length of every family")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_link_is_known_by_its_name() {
        for (name, is) in [
            ("mp589dfa7a43", true),
            ("mp589dfa7a4", false),
            ("mp589dfa7a4g", false),
            ("mp589DFA7A43", false),
            ("millrace", false),
        ] {
            assert_eq!(is_of_pod(name), is, "{name}");
        }
    }
}
