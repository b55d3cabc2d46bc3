//! Whether a pod is attached as it was made: what a runtime asks now and then (CHECK).

use ipnetwork::IpNetwork;
use millrace_cni::{Attached, AttachmentId};
use millrace_dataplane::control::Dataplane;
use millrace_netns::{Namespace, Netlink, NetlinkError, RouteTable};

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
        faults.extend(down(&self.node().netlink()?, &attached.port, "the node"));
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
    if let Some(fault) = down(net, interface, "the pod") {
        return Ok(vec![fault]);
    }
    let present = net.addresses_of(interface)?;
    let missing = attached.addresses.iter().filter(|address| !present.contains(address));
    let mut faults: Vec<_> =
        missing.map(|address| format!("{interface} of the pod lacks address {address}")).collect();
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

fn down(net: &Netlink, link: &str, place: &str) -> Option<String> {
    match net.link(link) {
        Ok(link) if link.up => None,
        Ok(_) => Some(format!("{link} of {place} is down")),
        Err(error) => Some(format!("{link} of {place}: {error}")),
    }
}
