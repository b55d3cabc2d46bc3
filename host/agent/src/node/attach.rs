//! Walk `pod` 2/3: pods → **attach** → link.
//!
//! Pods as ports: what a CNI plugin, or the lab, asks for. Each step is taken back if a later one
//! fails, so that a pod is attached whole or not at all; to ask twice is to be told the same.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use millrace_abi::PortKind;
use millrace_dataplane::control::request::AddPort;
use millrace_dataplane::control::{Dataplane, PortError, StageError};
use millrace_dataplane::port::{Gateway, Hold, Station, Vlans};
use millrace_netns::{Namespace, NamespaceError, NetlinkError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::node::chain;
use crate::node::ipam::{Ipam, IpamError};
use crate::node::link::{Bandwidth, GATEWAY_MAC, LinkError, PodLink};
use crate::node::peers::Peer;
use crate::node::uplink::Surroundings;

/// A pod's name, and that of its namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PodName {
    /// The Kubernetes namespace.
    pub(crate) namespace: String,
    /// The pod.
    pub(crate) name: String,
}

/// A pod that is to be attached.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AttachPod {
    /// The path of its network namespace.
    pub(crate) netns: PathBuf,
    /// What its interface is called there; `eth0` unless said.
    #[serde(default = "eth0")]
    pub(crate) interface: String,
    /// How much it may receive and send.
    #[serde(default)]
    pub(crate) bandwidth: Bandwidth,
}

/// A pod that is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AttachedPod {
    /// The path of its network namespace.
    pub(crate) netns: PathBuf,
    /// Its interface.
    pub(crate) interface: String,
    /// Its port, which is the name of the node's end too.
    pub(crate) port: String,
    /// Its link-layer address.
    pub(crate) mac: String,
    /// Its addresses, with the length of the node's prefix.
    pub(crate) addresses: Vec<IpNetwork>,
    /// The gateway of each.
    pub(crate) gateways: Vec<IpNetwork>,
    /// Bytes of the largest IP packet.
    pub(crate) mtu: u32,
}

/// Why a pod is not attached, or still is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    /// There is no such pod.
    #[error("pod {0} is not attached here")]
    Unknown(PodName),
    /// Another sandbox has the name.
    #[error("pod {pod} is attached with the namespace `{}`: detach it first", .netns.display())]
    Taken {
        /// The pod.
        pod: PodName,
        /// The namespace it has.
        netns: PathBuf,
    },
    /// Its namespace cannot be opened.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// There is no address for it.
    #[error(transparent)]
    Ipam(#[from] IpamError),
    /// Its link is not made.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Its link stays.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// Its link is no port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The chain does not know it.
    #[error(transparent)]
    Chain(#[from] StageError),
}

/// What is beyond a node.
#[derive(Debug)]
pub(crate) struct Beyond {
    /// The other nodes.
    pub(crate) peers: Vec<Peer>,
    /// All else.
    pub(crate) around: Surroundings,
}

/// The pods of a node.
#[derive(Debug)]
pub(crate) struct Pods {
    node: Namespace,
    ipam: Ipam,
    beyond: Beyond,
    mtu: u32,
    attached: BTreeMap<PodName, AttachedPod>,
}

impl Pods {
    /// None yet, on the node whose namespace this is.
    pub(crate) fn new(node: Namespace, ipam: Ipam, beyond: Beyond, mtu: u32) -> Self {
        Self { node, ipam, beyond, mtu, attached: BTreeMap::new() }
    }

    /// The pods that are attached.
    pub(crate) fn attached(&self) -> &BTreeMap<PodName, AttachedPod> {
        &self.attached
    }

    /// What is beyond the node.
    pub(crate) fn beyond(&self) -> &Beyond {
        &self.beyond
    }

    /// The gateway's address in each of the node's prefixes.
    pub(crate) fn gateways(&self) -> Vec<IpNetwork> {
        self.ipam.gateways().collect()
    }

    /// The node's prefixes.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = IpNetwork> {
        self.ipam.prefixes()
    }

    /// Attaches a pod.
    pub(crate) fn attach(
        &mut self,
        plane: &Dataplane,
        pod: PodName,
        request: AttachPod,
    ) -> Result<AttachedPod, AttachError> {
        if let Some(known) = self.attached.get(&pod) {
            if known.netns == request.netns && known.interface == request.interface {
                return Ok(known.clone());
            }
            return Err(AttachError::Taken { pod, netns: known.netns.clone() });
        }
        let sandbox = Namespace::open_path(&request.netns)?;
        let addresses = self.ipam.take()?;
        let outcome = self.join(plane, &pod, request, &sandbox, &addresses);
        if outcome.is_err() {
            self.attached.remove(&pod);
            self.ipam.put(&addresses);
        }
        outcome
    }

    /// Makes the link, then the port, then the chain know of it.
    fn join(
        &mut self,
        plane: &Dataplane,
        pod: &PodName,
        request: AttachPod,
        sandbox: &Namespace,
        addresses: &[IpNetwork],
    ) -> Result<AttachedPod, AttachError> {
        let (port, mac) = (pod.port(), pod.mac());
        let gateways = self.gateways();
        let link = PodLink {
            port: &port,
            interface: &request.interface,
            mac,
            addresses,
            gateways: &gateways,
            mtu: self.mtu,
            bandwidth: request.bandwidth,
        };
        link.make(&self.node, sandbox)?;
        let attached = AttachedPod {
            netns: request.netns,
            interface: request.interface,
            port: port.clone(),
            mac: chain::mac_text(mac),
            addresses: addresses.to_vec(),
            gateways,
            mtu: self.mtu,
        };
        self.attached.insert(pod.clone(), attached.clone());
        let station = Station { mac, gateway: gateway(&attached.gateways) };
        let added = plane.add_port(AddPort {
            interface: port.clone(),
            kind: PortKind::Pod,
            vlans: Vlans::access(0),
            hold: Hold::Cached(station),
            beyond: None,
        });
        let known = added.map_err(AttachError::from).and_then(|()| {
            chain::publish(plane, self).inspect_err(|_| {
                // the first failure is the one to tell of
                let _ = plane.remove_port(&port);
            })?;
            Ok(())
        });
        if let Err(error) = known {
            let _ = self.node.netlink().and_then(|net| net.delete_link(&port));
            return Err(error);
        }
        Ok(attached)
    }

    /// Detaches a pod. Its addresses are free again once nothing leads to it any more.
    pub(crate) fn detach(&mut self, plane: &Dataplane, pod: &PodName) -> Result<(), AttachError> {
        let gone = self.attached.remove(pod).ok_or_else(|| AttachError::Unknown(pod.clone()))?;
        match self.leave(plane, &gone) {
            Ok(()) => {
                self.ipam.put(&gone.addresses);
                Ok(())
            }
            Err(error) => {
                // whoever asks again finds it, and its addresses are nobody else's until then
                self.attached.insert(pod.clone(), gone);
                Err(error)
            }
        }
    }

    /// Takes away what leads to a pod; what is gone already is no error.
    fn leave(&self, plane: &Dataplane, gone: &AttachedPod) -> Result<(), AttachError> {
        match plane.remove_port(&gone.port) {
            Ok(()) | Err(PortError::Unknown { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        chain::publish(plane, self)?;
        // the pod's namespace may have taken it along
        match self.node.netlink()?.delete_link(&gone.port) {
            Ok(()) | Err(NetlinkError::NoSuchLink { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl PodName {
    /// The name of its port: a link's name has 15 letters, a pod's has more.
    fn port(&self) -> String {
        let [a, b, c, d, e, ..] = self.digest();
        format!("mp{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}")
    }

    /// An address of its own, locally administered.
    fn mac(&self) -> [u8; 6] {
        let [.., a, b, c, d, e] = self.digest();
        [0x0a, a, b, c, d, e]
    }

    fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.to_string()).into()
    }
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What pods know the dataplane by.
pub(crate) fn gateway(addresses: &[IpNetwork]) -> Gateway {
    let mut gateway = Gateway { mac: GATEWAY_MAC, v4: None, v6: None };
    for address in addresses {
        match address.ip() {
            IpAddr::V4(v4) => gateway.v4 = Some(v4),
            IpAddr::V6(v6) => gateway.v6 = Some(v6),
        }
    }
    gateway
}

fn eth0() -> String {
    "eth0".to_owned()
}
