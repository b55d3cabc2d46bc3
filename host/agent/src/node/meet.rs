//! Other nodes that come, go and change while the agent runs.

use std::collections::BTreeMap;

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
        let (node, state) = self.ground();
        tunnel.make_link(node, &peers, mtu, state)?;
        peers::route(node, &gateways, &new, state)?;
        let left = known.into_iter().filter(|peer| !gone.contains(peer)).collect();
        self.know(left);
        for port in tunnel.ports(&new, &gateways) {
            plane.add_port(port)?;
        }
        new.iter().for_each(|peer| tracing::info!(node = peer.name, "its pods are reached"));
        self.know(peers);
        Ok(self.publish(plane)?)
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
