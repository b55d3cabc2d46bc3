//! Walk `pod` 4/5: attachments → **attach** → link.
//!
//! Pods as ports: what a CNI plugin, or the lab, asks for. Each step is taken back if a later one
//! fails, so that a pod is attached whole or not at all; to ask twice is to be told the same.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use millrace_abi::PortKind;
use millrace_cni::departures::DeparturesError;
use millrace_cni::{Attach, Attached, AttachmentId, Departures};
use millrace_control::compile::Local;
use millrace_dataplane::control::request::AddPort;
use millrace_dataplane::control::{Dataplane, PortError, StageError};
use millrace_dataplane::port::{Gateway, Hold, Station, Vlans};
use millrace_netns::{Namespace, NamespaceError, Netlink, NetlinkError};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::node::chain;
use crate::node::ipam::{Ipam, IpamError, PrefixUse};
use crate::node::link::{GATEWAY_MAC, LinkError, POD_PORTS, PodLink, is_of_pod};
use crate::node::peers::Peer;
use crate::node::publisher::Publisher;
use crate::node::state::{NodeState, StateError};
use crate::node::uplink::Surroundings;
use crate::node::wanted::mapped;

/// Why a pod is not attached, or still is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    /// There is no such attachment.
    #[error("container {0} is not attached here")]
    Unknown(AttachmentId),
    /// It was to be made, and is there.
    #[error("container {id} is attached with the namespace `{}`: detach it first", .netns.display())]
    Present {
        /// The attachment.
        id: AttachmentId,
        /// The namespace it has.
        netns: PathBuf,
    },
    /// It is on its way out.
    #[error("container {0} is being detached: ask again in a moment")]
    Parting(AttachmentId),
    /// Another namespace has it.
    #[error("container {id} is attached with the namespace `{}`: detach it first", .netns.display())]
    Taken {
        /// The attachment.
        id: AttachmentId,
        /// The namespace it has.
        netns: PathBuf,
    },
    /// Its namespace cannot be opened.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// There is no address for it.
    #[error(transparent)]
    Ipam(#[from] IpamError),
    /// It was asked for, and somebody has it.
    #[error("link-layer address {mac} is {holder}'s: ask for another")]
    MacTaken {
        /// The address.
        mac: String,
        /// Who has it.
        holder: String,
    },
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
    attached: BTreeMap<AttachmentId, Attached>,
    /// Those that nobody sees any more, until their links are gone as well.
    parting: BTreeMap<AttachmentId, Attached>,
    publisher: Arc<Mutex<Publisher>>,
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
        publisher: Arc<Mutex<Publisher>>,
    ) -> Result<Self, AttachError> {
        let net = node.netlink()?;
        let mut attached = BTreeMap::new();
        for (id, pod) in &state.kept().attachments {
            if net.link(&pod.port).is_ok() {
                let is_own = |it: &IpNetwork| ipam.prefixes().any(|own| own.contains(it.ip()));
                if let Some(address) = pod.addresses.iter().find(|it| !is_own(it)) {
                    tracing::warn!(
                        pod = pod.title(),
                        address = %address.ip(),
                        "it is reached from this node's pods alone: its address is of a prefix that \
                         the Node has no more"
                    );
                }
                ipam.retake(&pod.addresses);
                attached.insert(id.clone(), pod.clone());
            } else {
                tracing::info!(pod = pod.title(), "it is gone since it was attached");
            }
        }
        // who was about to attach them was killed, and nobody knows of them
        let known = |name: &str| attached.values().any(|pod| pod.port == name);
        for link in net.links()?.iter().filter(|it| is_of_pod(&it.name) && !known(&it.name)) {
            tracing::info!(link = link.name, "removed: it leads to no pod");
            net.delete_link(&link.name)?;
        }
        let parting = BTreeMap::new();
        let mut pods = Self { node, ipam, beyond, mtu, state, attached, parting, publisher };
        pods.remember()?;
        Ok(pods)
    }

    /// Makes ports of all pods that there are. One that cannot be a port keeps its addresses, which are
    /// nobody else's while it runs; it is tried again.
    pub(crate) fn open(&mut self, plane: &Dataplane) -> Result<(), AttachError> {
        if let (_, Err(error)) = self.open_closed(plane) {
            tracing::error!("{error}");
        }
        Ok(self.publish(plane)?)
    }

    /// The pods that are attached.
    pub(crate) fn attached(&self) -> &BTreeMap<AttachmentId, Attached> {
        &self.attached
    }

    /// One of them.
    pub(crate) fn find(&self, id: &AttachmentId) -> Result<&Attached, AttachError> {
        self.attached.get(id).ok_or_else(|| AttachError::Unknown(id.clone()))
    }

    /// The node's own namespace.
    pub(crate) fn node(&self) -> &Namespace {
        &self.node
    }

    /// What is beyond the node.
    pub(crate) fn beyond(&self) -> &Beyond {
        &self.beyond
    }

    /// Bytes of a pod's largest IP packet.
    pub(crate) fn mtu(&self) -> u32 {
        self.mtu
    }

    /// The node's own namespace, and what is remembered of it.
    pub(crate) fn ground(&mut self) -> (&Namespace, &mut NodeState) {
        (&self.node, &mut self.state)
    }

    /// The other nodes are these.
    pub(crate) fn know(&mut self, peers: Vec<Peer>) {
        self.beyond.peers = peers;
    }

    /// All else beyond the node is this.
    pub(crate) fn see(&mut self, around: Surroundings) {
        self.beyond.around = around;
    }

    /// How many of the node's addresses pods have.
    pub(crate) fn addresses(&self) -> Vec<PrefixUse> {
        self.ipam.usage().collect()
    }

    /// The gateway's address in each of the node's prefixes.
    pub(crate) fn gateways(&self) -> Vec<IpNetwork> {
        self.ipam.gateways().collect()
    }

    /// Who tells filters what is known of pods.
    pub(crate) fn publisher(&self) -> Arc<Mutex<Publisher>> {
        Arc::clone(&self.publisher)
    }

    /// The node's prefixes.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = IpNetwork> {
        self.ipam.prefixes()
    }

    /// Attaches a pod, or finds it attached.
    pub(crate) fn attach(
        &mut self,
        plane: &Dataplane,
        id: AttachmentId,
        request: Attach,
    ) -> Result<Attached, AttachError> {
        match self.attached.get(&id) {
            Some(known) if known.netns == request.netns => Ok(known.clone()),
            Some(known) => Err(AttachError::Taken { id, netns: known.netns.clone() }),
            None => self.attach_new(plane, id, request),
        }
    }

    /// Attaches a pod that is not attached yet.
    pub(crate) fn attach_new(
        &mut self,
        plane: &Dataplane,
        id: AttachmentId,
        request: Attach,
    ) -> Result<Attached, AttachError> {
        if let Some(known) = self.attached.get(&id) {
            return Err(AttachError::Present { id, netns: known.netns.clone() });
        }
        if self.parting.contains_key(&id) {
            return Err(AttachError::Parting(id));
        }
        let sandbox = Namespace::open_path(&request.netns)?;
        let mac = self.mac_for(&id, request.wanted.mac)?;
        let wanted: Vec<_> = request.wanted.ips.iter().map(|address| address.0).collect();
        let addresses = self.ipam.take(&wanted)?;
        let outcome = self.join(plane, &id, request, &sandbox, (&addresses, mac));
        let outcome = outcome.and_then(|attached| {
            self.remember().inspect_err(|_| {
                // the first failure is the one to tell of
                let _ = plane.remove_port(&attached.port);
                let _ = self.node.netlink().and_then(|net| net.delete_link(&attached.port));
                self.attached.remove(&id);
                let _ = self.publish(plane);
            })?;
            Ok(attached)
        });
        if outcome.is_err() {
            self.attached.remove(&id);
            self.ipam.put(&addresses);
        }
        outcome
    }

    /// Tells the chain which pods there are: policies first, so that none is reached before it is
    /// known what may reach it (N14).
    pub(crate) fn publish(&self, plane: &Dataplane) -> Result<(), StageError> {
        let mut publisher = self.publisher.lock();
        publisher.note(self.local());
        publisher.tell(plane)?;
        drop(publisher);
        chain::publish(plane, self)
    }

    /// What the node knows of itself.
    fn local(&self) -> Local {
        let gateways = self.ipam.gateways().map(|gateway| gateway.ip());
        let addresses = gateways.chain(self.beyond.around.here.iter().copied()).collect();
        let mut local = Local { addresses, ..Local::default() };
        for attached in self.attached.values() {
            let addresses = attached.addresses.iter().map(|address| address.ip());
            match attached.pod.as_ref().and_then(|pod| pod.parse().ok()) {
                Some(pod) => local.pods.entry(pod).or_default().extend(addresses),
                None => local.nameless.extend(addresses),
            }
            if !attached.port_mappings.is_empty() {
                local.mapped.insert(attached.id.to_string(), mapped(attached));
            }
        }
        local
    }

    /// Remembers the pods as they are.
    fn remember(&mut self) -> Result<(), StateError> {
        let attached = &self.attached;
        self.state.change(|kept| kept.attachments.clone_from(attached))
    }

    /// Makes the link, then the port, then the chain know of it.
    fn join(
        &mut self,
        plane: &Dataplane,
        id: &AttachmentId,
        request: Attach,
        sandbox: &Namespace,
        (addresses, mac): (&[IpNetwork], [u8; 6]),
    ) -> Result<Attached, AttachError> {
        let port = port_name(id);
        let gateways = self.gateways();
        let link = PodLink {
            port: &port,
            interface: &id.interface,
            mac,
            addresses,
            gateways: &gateways,
            mtu: self.mtu,
            bandwidth: request.bandwidth,
        };
        link.make(&self.node, sandbox)?;
        let attached = Attached {
            id: id.clone(),
            pod: request.pod,
            network: request.network,
            netns: request.netns,
            port: port.clone(),
            mac: chain::mac_text(mac),
            addresses: addresses.to_vec(),
            gateways,
            mtu: self.mtu,
            port_mappings: request.wanted.port_mappings,
            bandwidth: request.bandwidth,
        };
        self.attached.insert(id.clone(), attached.clone());
        let added = plane.add_port(port_of(&attached)?);
        let known = added.map_err(AttachError::from).and_then(|()| {
            self.publish(plane).inspect_err(|_| {
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

    /// Detaches a pod. Its addresses are free again once nothing leads to it any more. The kernel takes
    /// its time for a link, and less for many at once: nobody waits for the pods meanwhile.
    pub(crate) fn detach(
        pods: &Mutex<Self>,
        plane: &Dataplane,
        id: &AttachmentId,
    ) -> Result<(), AttachError> {
        let (net, link) = pods.lock().part(plane, id)?;
        let outcome = delete(&net, &link);
        pods.lock().parted(id, outcome)
    }

    /// Whether a link of a pod that is detached is still there.
    pub(crate) fn is_parting(&self) -> bool {
        !self.parting.is_empty()
    }

    /// Begins to detach a pod, and says which link is to go.
    fn part(
        &mut self,
        plane: &Dataplane,
        id: &AttachmentId,
    ) -> Result<(Netlink, String), AttachError> {
        let gone = self.attached.remove(id).ok_or_else(|| AttachError::Unknown(id.clone()))?;
        match self.leave(plane, &gone) {
            Ok(net) => {
                let link = gone.port.clone();
                self.parting.insert(id.clone(), gone);
                Ok((net, link))
            }
            Err(error) => {
                // whoever asks again finds it, and its addresses are nobody else's until then
                self.attached.insert(id.clone(), gone);
                Err(error)
            }
        }
    }

    /// Has a pod be detached, if its link has gone; else whoever asks again finds it.
    fn parted(
        &mut self,
        id: &AttachmentId,
        outcome: Result<(), NetlinkError>,
    ) -> Result<(), AttachError> {
        if let Some(gone) = self.parting.remove(id) {
            match &outcome {
                Ok(()) => self.ipam.put(&gone.addresses),
                Err(_) => drop(self.attached.insert(id.clone(), gone)),
            }
        }
        outcome?;
        Ok(self.remember()?)
    }

    /// Detaches a pod while others wait.
    pub(crate) fn detach_now(
        &mut self,
        plane: &Dataplane,
        id: &AttachmentId,
    ) -> Result<(), AttachError> {
        let (net, link) = self.part(plane, id)?;
        self.parted(id, delete(&net, &link))
    }

    /// Detaches the pods that went while no agent was here.
    pub(crate) fn see_off(
        &mut self,
        plane: &Dataplane,
        departures: &Departures,
    ) -> Result<(), DeparturesError> {
        departures.read(|id| match self.detach_now(plane, id) {
            Ok(()) => {
                tracing::info!(container = %id, "detached: it went while no agent was here");
                true
            }
            Err(AttachError::Unknown(_)) => true,
            Err(error) => {
                tracing::warn!(container = %id, %error, "it went, and is still attached");
                false
            }
        })
    }

    /// Has nothing lead to a pod any more but its link, which is the node's; what is gone already is no
    /// error.
    fn leave(&self, plane: &Dataplane, gone: &Attached) -> Result<Netlink, AttachError> {
        match plane.remove_port(&gone.port) {
            Ok(()) | Err(PortError::Unknown { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        self.publish(plane)?;
        Ok(self.node.netlink()?)
    }
}

/// Deletes a pod's link, which the pod's namespace may have taken along.
fn delete(net: &Netlink, link: &str) -> Result<(), NetlinkError> {
    match net.delete_link(link) {
        Err(NetlinkError::NoSuchLink { .. }) => Ok(()),
        outcome => outcome,
    }
}

/// The port that a pod is.
pub(crate) fn port_of(pod: &Attached) -> Result<AddPort, AttachError> {
    let mac = chain::mac(&pod.mac).ok_or_else(|| AttachError::Mac(pod.mac.clone()))?;
    Ok(AddPort {
        interface: pod.port.clone(),
        kind: PortKind::Pod,
        vlans: Vlans::access(0),
        hold: Hold::Cached(Station { mac, gateway: gateway(&pod.gateways) }),
        beyond: None,
    })
}

/// The name of an attachment's port: a link's name has 15 letters, a container's has more.
fn port_name(id: &AttachmentId) -> String {
    let [a, b, c, d, e, ..] = digest(id);
    format!("{POD_PORTS}{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}")
}

/// A link-layer address of its own, locally administered.
pub(crate) fn mac_of(id: &AttachmentId) -> [u8; 6] {
    let [.., a, b, c, d, e] = digest(id);
    [0x0a, a, b, c, d, e]
}

fn digest(id: &AttachmentId) -> [u8; 32] {
    Sha256::digest(id.to_string()).into()
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
