//! Whether a pod is attached as it was made: what a runtime asks now and then (CHECK).

use ipnetwork::IpNetwork;
use millrace_cni::{Attached, AttachmentId};
use millrace_dataplane::control::Dataplane;
use millrace_filter::wire::MacAddr;
use millrace_netns::{Link, Namespace, Netlink, NetlinkError, RouteTable};

use crate::node::attach::{AttachError, Pods};
use crate::node::link::everywhere;

impl Pods {
    /// What of an attachment is not as it was made, in the kernel and in the dataplane.
    pub(crate) fn check(
        &self,
        plane: &Dataplane,
        id: &AttachmentId,
    ) -> Result<Vec<String>, AttachError> {
        let attached = self.find(id)?;
        let mut faults = Vec::new();
        if !plane.numbers().contains_key(&attached.port) {
            faults.push(format!("the dataplane has no port {}", attached.port));
        }
        faults.extend(self.unmapped(id));
        let node = self.node().netlink()?;
        match up(&node, &attached.port, "the node") {
            Ok(link) => {
                faults.extend(ends(attached, &link, "the node", attached.bandwidth.ingress))
            }
            Err(fault) => faults.push(fault),
        }
        match Namespace::open_path(&attached.netns) {
            Ok(pod) => faults.extend(inside(&pod.netlink()?, attached)?),
            Err(error) => faults.push(error.to_string()),
        }
        Ok(faults)
    }
}

/// What is wrong in the pod's namespace.
fn inside(net: &Netlink, attached: &Attached) -> Result<Vec<String>, NetlinkError> {
    let interface = &attached.id.interface;
    let link = match up(net, interface, "the pod") {
        Ok(link) => link,
        Err(fault) => return Ok(vec![fault]),
    };
    let mut faults = ends(attached, &link, "the pod", attached.bandwidth.egress);
    let mac = link.mac.map(|mac| MacAddr(mac).to_string()).unwrap_or_default();
    if mac != attached.mac {
        faults.push(format!("{interface} of the pod has address {mac}, not {}", attached.mac));
    }
    let present = net.addresses_of(interface)?;
    let missing = attached.addresses.iter().filter(|address| !present.contains(address));
    faults.extend(missing.map(|address| format!("{interface} of the pod lacks address {address}")));
    let routes = net.routes(RouteTable::MAIN)?;
    let leads = |gateway: &&IpNetwork| {
        routes.iter().any(|route| {
            route.destination == everywhere(gateway.ip()) && route.gateway == Some(gateway.ip())
        })
    };
    let missing = attached.gateways.iter().filter(|gateway| !leads(gateway));
    faults
        .extend(missing.map(|gateway| format!("the pod has no route by way of {}", gateway.ip())));
    Ok(faults)
}

/// What is wrong at one end of the pair, which may send no more than `limit`. A pod may have less than it
/// was given: it is its network that would not take more.
fn ends(attached: &Attached, link: &Link, place: &str, limit: Option<u64>) -> Vec<String> {
    let Link { name, mtu, .. } = link;
    let mut faults = Vec::new();
    if *mtu > attached.mtu {
        faults.push(format!("{name} of {place} has an MTU of {mtu}, not {}", attached.mtu));
    }
    if let Some(limit) = limit.filter(|_| !link.shaped) {
        faults.push(format!("{name} of {place} is not limited to {limit} bits per second"));
    }
    faults
}

/// The link; what is wrong if it is none that packets go by.
fn up(net: &Netlink, link: &str, place: &str) -> Result<Link, String> {
    match net.link(link) {
        Ok(link) if link.up => Ok(link),
        Ok(_) => Err(format!("{link} of {place} is down")),
        Err(error) => Err(format!("{link} of {place}: {error}")),
    }
}
