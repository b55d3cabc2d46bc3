//! Walk `pod` 2/3: pods → **attach** → link.
//!
//! Pods as ports: what a CNI plugin, or the lab, asks for. Each step is taken back if a later one
//! fails, so that a pod is attached whole or not at all; to ask twice is to be told the same.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

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
use crate::node::state::{NodeState, StateError};
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
    /// What is remembered of it makes no sense.
    #[error("`{0}` is no link-layer address")]
    Mac(String),
    /// Its link is not made.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Its link stays.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// Its link is no port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// It would be forgotten.
    #[error(transparent)]
    State(#[from] StateError),
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
    state: NodeState,
    attached: BTreeMap<PodName, AttachedPod>,
}

impl Pods {
    /// Those that are remembered, and whose links are still there, on the node whose namespace this
    /// is. They are no ports yet.
    pub(crate) fn new(
        node: Namespace,
        mut ipam: Ipam,
        beyond: Beyond,
        mtu: u32,
        state: NodeState,
    ) -> Result<Self, AttachError> {
        let net = node.netlink()?;
        let mut attached = BTreeMap::new();
        for (name, pod) in &state.kept().pods {
            match (name.parse::<PodName>(), net.link(&pod.port)) {
                (Ok(name), Ok(_)) => {
                    ipam.retake(&pod.addresses);
                    attached.insert(name, pod.clone());
                }
                _ => tracing::info!(pod = name, "it is gone since it was attached"),
            }
        }
        let mut pods = Self { node, ipam, beyond, mtu, state, attached };
        pods.remember()?;
        Ok(pods)
    }

    /// Makes ports of all pods that there are. One that cannot be a port is detached.
    pub(crate) fn open(&mut self, plane: &Dataplane) -> Result<(), AttachError> {
        let mut gone = Vec::new();
        for (name, pod) in &self.attached {
            if let Err(error) = plane.add_port(port_of(pod)?) {
                tracing::warn!(pod = %name, %error, "a pod from before is no port any more");
                gone.push(name.clone());
            }
        }
        for name in gone {
            if let Some(pod) = self.attached.remove(&name) {
                self.ipam.put(&pod.addresses);
            }
        }
        chain::publish(plane, self)?;
        Ok(self.remember()?)
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
        let outcome = outcome.and_then(|attached| {
            self.remember().inspect_err(|_| {
                // the first failure is the one to tell of
                let _ = plane.remove_port(&attached.port);
                let _ = self.node.netlink().and_then(|net| net.delete_link(&attached.port));
            })?;
            Ok(attached)
        });
        if outcome.is_err() {
            self.attached.remove(&pod);
            self.ipam.put(&addresses);
        }
        outcome
    }

    /// Remembers the pods as they are.
    fn remember(&mut self) -> Result<(), StateError> {
        let named = self.attached.iter().map(|(name, pod)| (name.to_string(), pod.clone()));
        let pods = named.collect();
        self.state.change(|kept| kept.pods = pods)
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
        let added = plane.add_port(port_of(&attached)?);
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
                Ok(self.remember()?)
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

/// The port that a pod is.
fn port_of(pod: &AttachedPod) -> Result<AddPort, AttachError> {
    let mac = chain::mac(&pod.mac).ok_or_else(|| AttachError::Mac(pod.mac.clone()))?;
    Ok(AddPort {
        interface: pod.port.clone(),
        kind: PortKind::Pod,
        vlans: Vlans::access(0),
        hold: Hold::Cached(Station { mac, gateway: gateway(&pod.gateways) }),
        beyond: None,
    })
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

impl FromStr for PodName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (namespace, name) = text.split_once('/').ok_or(())?;
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
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
