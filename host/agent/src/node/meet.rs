//! Other nodes that come, go and change while the agent runs.

use std::collections::{BTreeMap, BTreeSet};
use std::slice;

use ipnetwork::IpNetwork;
use millrace_control::Node;
use millrace_dataplane::control::{Dataplane, PortError, StageError};
use millrace_netns::{NetlinkError, RouteTable};

use crate::node::TunnelArgs;
use crate::node::attach::Pods;
use crate::node::peers::{self, Peer, PeerError};
use crate::node::state::Kept;

/// Why another node is not known as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MeetError {
    /// A link or a route is not as it has to be.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The kernel refused.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// Its tunnel is no port, or still is.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The chain does not know it.
    #[error(transparent)]
    Chain(#[from] StageError),
    /// One of several is not reached.
    #[error("the pods of node `{node}` are not reached: {cause}")]
    Refused {
        /// The node's name.
        node: String,
        /// Why not.
        cause: Box<MeetError>,
    },
}

impl Pods {
    /// Knows the other nodes as they are now. If that fails it may be asked again.
    pub(crate) fn meet(
        &mut self,
        plane: &Dataplane,
        this: &Node,
        nodes: &BTreeMap<String, Node>,
        tunnel: &TunnelArgs,
    ) -> Result<(), MeetError> {
        let known = self.beyond().peers.clone();
        let peers = peers::of(this, nodes, tunnel.mode, &self.beyond().around.subnets);
        if peers == known {
            return Ok(());
        }
        let (gateways, mtu) = (self.gateways(), self.mtu());
        let gone: Vec<_> = known.iter().filter(|peer| !peers.contains(peer)).cloned().collect();
        let new: Vec<_> = peers.iter().filter(|peer| !known.contains(peer)).cloned().collect();

        for peer in &gone {
            tracing::info!(node = peer.name, "it is not known any more, or is another now");
            match plane.remove_port(&peer.port()) {
                Ok(()) | Err(PortError::Unknown { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            self.forget_routes(peer)?;
        }
        tunnel.make_link(self.node(), &peers, mtu)?;
        let mut met: Vec<_> = known.into_iter().filter(|peer| !gone.contains(peer)).collect();
        self.know(met.clone());
        let mut refused = None;
        for peer in new {
            match self.greet(plane, &peer, tunnel, &gateways) {
                Ok(()) => {
                    tracing::info!(node = peer.name, "its pods are reached");
                    met.push(peer);
                }
                // the others are met all the same
                Err(error) => {
                    let _ = self.forget_routes(&peer);
                    refused
                        .get_or_insert(MeetError::Refused { node: peer.name, cause: error.into() });
                }
            }
        }
        met.sort_by(|one, other| one.name.cmp(&other.name));
        self.know(met);
        self.publish(plane)?;
        refused.map_or(Ok(()), Err)
    }

    /// Has the link of tunnels be as it was made, whoever has changed it, and the routes to other nodes
    /// be there: those by a link go when that goes down, and do not come back with it.
    pub(crate) fn mend(&mut self, tunnel: &TunnelArgs) -> Result<(), MeetError> {
        tunnel.make_link(self.node(), &self.beyond().peers, self.mtu())?;
        let routes = self.node().netlink()?.routes(RouteTable::MAIN)?;
        let present: BTreeSet<_> = routes.into_iter().map(|route| route.destination).collect();
        let is_led_to = |peer: &&Peer| peer.led_to().all(|prefix| present.contains(prefix));
        let (peers, gateways) = (self.beyond().peers.clone(), self.gateways());
        let mut refused = Ok(());
        for peer in peers.iter().filter(|peer| !is_led_to(peer)) {
            let (node, state) = self.ground();
            let led = peers::lead_to(node, &gateways, peer, state);
            refused = refused.and(led.map_err(|cause| MeetError::Refused {
                node: peer.name.clone(),
                cause: Box::new(cause.into()),
            }));
        }
        refused
    }

    /// Has the way to a node's pods be known here.
    fn greet(
        &mut self,
        plane: &Dataplane,
        peer: &Peer,
        tunnel: &TunnelArgs,
        gateways: &[IpNetwork],
    ) -> Result<(), MeetError> {
        let (node, state) = self.ground();
        peers::lead_to(node, gateways, peer, state)?;
        for port in tunnel.ports(slice::from_ref(peer), gateways) {
            plane.add_port(port)?;
        }
        Ok(())
    }

    /// Removes this node's own routes to a node's pods.
    fn forget_routes(&mut self, peer: &Peer) -> Result<(), MeetError> {
        let (node, state) = self.ground();
        let net = node.netlink()?;
        let present = net.routes(RouteTable::MAIN)?;
        for prefix in &peer.pod_cidrs {
            for route in present.iter().filter(|route| route.destination == *prefix) {
                net.remove_route(route)?;
            }
            if state.kept().routes.contains_key(prefix) {
                let forget = |kept: &mut Kept| kept.routes.retain(|known, _| known != prefix);
                state.change(forget).map_err(PeerError::from)?;
            }
        }
        Ok(())
    }
}
