//! The ground a lab stands on: its namespaces, and the wires between them.
//!
//! Owns links, addresses, routes and sysctls of switches, router, outside host and nodes, and
//! empty pods. What joins a pod to its node is the agent's.
//!
//! A reader must not break this: every namespace is kept by its name, and every name has the
//! lab's prefix. So whoever takes the lab down finds all of it, whatever became of its maker.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use millrace_control::PodName;
use millrace_netns::{Namespace, NamespaceError, NetlinkError, Route, VethSpec};

use crate::topology::{Layout, Seat, world_wide};
use crate::{LabError, LabName};

/// A lab's ground in the making.
pub(crate) struct Ground<'l> {
    lab: &'l LabName,
    /// Bytes of the largest IP packet between nodes.
    mtu: u32,
    /// Has a bridge for each segment.
    switch: Namespace,
}

impl<'l> Ground<'l> {
    /// All but nodes and pods.
    pub(crate) fn lay(lab: &'l LabName, layout: &Layout, mtu: u32) -> Result<Self, LabError> {
        let switch = create(&lab.switch())?;
        // a switch has no addresses of its own
        switch.set_sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        let netlink = switch.netlink()?;
        for segment in layout.segments() {
            netlink.add_bridge(&bridge(segment))?;
            netlink.set_up(&bridge(segment))?;
        }
        let ground = Self { lab, mtu, switch };

        let outside = create(&lab.outside())?;
        ground.plug(&outside, "eth0", "outside", &layout.outside)?;
        for address in world_wide() {
            outside.netlink()?.add_address("lo", address)?;
        }
        if !layout.router.is_empty() {
            let router = create(&lab.router())?;
            forward(&router)?;
            for seat in &layout.router {
                let interface = format!("eth{}", seat.segment);
                ground.plug(&router, &interface, &format!("router{}", seat.segment), seat)?;
            }
            route_through(&router, world_wide(), &layout.outside)?;
        }
        Ok(ground)
    }

    /// A node, with its place on the underlay as `eth0`.
    pub(crate) fn node(&self, name: &str, number: usize, seat: &Seat) -> Result<(), LabError> {
        let node = create(&self.lab.node(name))?;
        forward(&node)?;
        allow_ping(&node)?;
        self.plug(&node, "eth0", &format!("node{number}"), seat)
    }

    /// Joins a namespace to its segment.
    fn plug(
        &self,
        namespace: &Namespace,
        interface: &str,
        port: &str,
        seat: &Seat,
    ) -> Result<(), LabError> {
        let (switch, netlink) = (self.switch.netlink()?, namespace.netlink()?);
        let veth = VethSpec::new(port, interface).peer_namespace(namespace).mtu(self.mtu);
        switch.add_veth(&veth)?;
        switch.enslave(port, &bridge(seat.segment))?;
        switch.set_up(port)?;
        netlink.set_up(interface)?;
        for address in seat.addresses {
            netlink.add_address(interface, address)?;
        }
        for (destination, gateway) in
            anywhere().into_iter().zip(seat.gateways.into_iter().flatten())
        {
            netlink.add_route(&Route::to(destination).via(gateway))?;
        }
        Ok(())
    }
}

/// A pod that is joined to nothing yet.
pub(crate) fn pod(lab: &LabName, name: &PodName) -> Result<Namespace, LabError> {
    let pod = create(&lab.pod(name))?;
    allow_ping(&pod)?;
    // as container runtimes have it
    pod.set_sysctl("net.ipv4.ip_unprivileged_port_start", "0")?;
    Ok(pod)
}

/// Removes the names of all that a lab is made of; also one that was only reserved when its maker
/// was killed, and is no namespace yet.
pub(crate) fn clear(lab: &LabName) -> Result<(), NamespaceError> {
    // before the first namespace there is no directory
    for name in fs::read_dir(NAMES).into_iter().flatten().flatten() {
        let name = name.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with(&lab.prefix())) else {
            continue;
        };
        match Namespace::delete(name) {
            Ok(()) | Err(NamespaceError::NoSuchNamespace { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn create(name: &str) -> Result<Namespace, LabError> {
    let namespace = Namespace::create(name)?.keep();
    // nobody else is there to have an address already
    namespace.set_sysctl("net.ipv6.conf.default.accept_dad", "0")?;
    Ok(namespace)
}

fn forward(namespace: &Namespace) -> Result<(), LabError> {
    namespace.set_sysctl("net.ipv4.ip_forward", "1")?;
    Ok(namespace.set_sysctl("net.ipv6.conf.all.forwarding", "1")?)
}

/// Lets everybody ping, as container runtimes have it.
fn allow_ping(namespace: &Namespace) -> Result<(), LabError> {
    Ok(namespace.set_sysctl("net.ipv4.ping_group_range", "0 2147483647")?)
}

fn route_through(
    from: &Namespace,
    destinations: [IpNetwork; 2],
    seat: &Seat,
) -> Result<(), NetlinkError> {
    let netlink = from.netlink()?;
    for (destination, gateway) in destinations.into_iter().zip(seat.ips()) {
        netlink.add_route(&Route::to(destination).via(gateway))?;
    }
    Ok(())
}

/// The default routes' destinations.
fn anywhere() -> [IpNetwork; 2] {
    let v4 = IpNetwork::new(Ipv4Addr::UNSPECIFIED.into(), 0).expect("a length that fits");
    let v6 = IpNetwork::new(Ipv6Addr::UNSPECIFIED.into(), 0).expect("a length that fits");
    [v4, v6]
}

fn bridge(segment: u8) -> String {
    format!("segment{segment}")
}

/// Where namespaces have their names.
const NAMES: &str = "/run/netns";
