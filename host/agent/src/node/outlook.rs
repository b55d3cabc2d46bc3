//! The host's addresses and routes while the agent runs: how pods reach what is outside follows them.
//!
//! Owns when they are read again. What was attached at a link that is the same stays as it is, and so do
//! its connections; bytes of packets and health checks stay as they were at the start.

use std::collections::BTreeMap;

use millrace_control::Node;
use millrace_control::compile::NodePortAddresses;
use millrace_dataplane::control::request::AddPort;
use millrace_dataplane::control::{Dataplane, PortError, StageError};
use millrace_netns::{Link, Namespace, NetlinkError, RouteWatch};

use crate::node::announcer::{AnnounceError, Announcer};
use crate::node::attach::Pods;
use crate::node::uplink::{OutsideArgs, Surroundings};

/// Who looks out for changes.
pub(crate) struct Outlook {
    outside: OutsideArgs,
    /// The UDP port of tunnels, which uplinks take for the dataplane.
    tunnel_port: u16,
    watch: RouteWatch,
    standing: Standing,
}

/// Whether what was seen last is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It is, and is as it was.
    Current,
    /// It may be another.
    Doubtful,
    /// It could not be.
    Refused,
}

/// Why what is outside is not reached as the host reaches it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutlookError {
    /// The kernel does not say.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// There was an uplink, and there is none.
    #[error(
        "no interface has an address of the Node any more: pods go on by those that there were; \
         give one of them back its address, or have the Node state another"
    )]
    Lost,
    /// An interface is no port, or still is.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The chain does not know of it.
    #[error(transparent)]
    Chain(#[from] StageError),
    /// Neighbours on another uplink hear nothing.
    #[error(transparent)]
    Announce(#[from] AnnounceError),
}

impl Outlook {
    /// From a node's namespace, whose surroundings are read after this.
    pub(crate) fn new(
        node: &Namespace,
        outside: OutsideArgs,
        tunnel_port: u16,
    ) -> Result<Self, NetlinkError> {
        let watch = node.watch_routes()?;
        Ok(Self { outside, tunnel_port, watch, standing: Standing::Current })
    }

    /// What there is to be seen, from a node of these.
    pub(crate) fn surroundings(
        &self,
        node: &Namespace,
        this: &Node,
        nodes: &BTreeMap<String, Node>,
    ) -> Result<Surroundings, NetlinkError> {
        let pods: Vec<_> = nodes.values().flat_map(|it| it.pod_cidrs.clone()).collect();
        self.outside.look_around(&node.netlink()?, &this.addresses, &pods)
    }

    /// The addresses that have node ports.
    pub(crate) fn node_ports(&self, around: &Surroundings, this: &Node) -> NodePortAddresses {
        self.outside.node_ports(&around.here, &this.addresses)
    }

    /// The ports outside.
    pub(crate) fn ports(&self, around: &Surroundings, this: &Node) -> Vec<AddPort> {
        around.ports(&this.pod_cidrs, self.tunnel_port)
    }

    /// What is looked at may mean something else now.
    pub(crate) fn doubt(&mut self) {
        self.standing = Standing::Doubtful;
    }

    /// Whether there is something to [follow](Self::follow); and if that was refused, whether it is to be
    /// tried again once it is due.
    pub(crate) fn has_news(&mut self, is_due: bool) -> Result<bool, OutlookError> {
        if self.watch.has_news()? {
            self.doubt();
        }
        Ok(match self.standing {
            Standing::Current => false,
            Standing::Doubtful => true,
            Standing::Refused => is_due,
        })
    }

    /// Has pods reach what is outside as the host does now; whether that is another way than before.
    pub(crate) fn follow(
        &mut self,
        plane: &Dataplane,
        pods: &mut Pods,
        this: &Node,
        nodes: &BTreeMap<String, Node>,
    ) -> Result<bool, OutlookError> {
        let outcome = pods.look_around(plane, self, this, nodes);
        self.standing = if outcome.is_ok() { Standing::Current } else { Standing::Refused };
        outcome
    }
}

impl Pods {
    /// Knows what is outside as it is now. If that fails it may be asked again.
    fn look_around(
        &mut self,
        plane: &Dataplane,
        outlook: &Outlook,
        this: &Node,
        nodes: &BTreeMap<String, Node>,
    ) -> Result<bool, OutlookError> {
        let around = outlook.surroundings(self.node(), this, nodes)?;
        let before = self.beyond().around.clone();
        if around == before {
            return Ok(false);
        }
        if around.link().is_none() && before.link().is_some() {
            return Err(OutlookError::Lost);
        }
        let (known, wanted) = (outlook.ports(&before, this), outlook.ports(&around, this));
        let there = plane.numbers();
        let (gone, others): (Vec<_>, Vec<_>) = known
            .iter()
            .filter(|port| !wanted.contains(port) && there.contains_key(&port.interface))
            .partition(|port| wanted.iter().all(|it| it.interface != port.interface));
        for port in others {
            remove(plane, port)?;
        }
        let there = plane.numbers();
        let mut refused = Ok(());
        for port in wanted.into_iter().filter(|port| !there.contains_key(&port.interface)) {
            tracing::info!(interface = port.interface, "pods send by it now");
            // the others are followed all the same
            refused = refused.and(plane.add_port(port));
        }
        let is_elsewhere = around.link().map(|it| it.index) != before.link().map(|it| it.index);
        let uplink = around.link().filter(|_| is_elsewhere).cloned();
        self.publisher().lock().serve_node_ports(outlook.node_ports(&around, this));
        self.see(around);
        let followed = self.go_over(plane, uplink, gone).and(refused.map_err(OutlookError::from));
        // whoever asks again finds what is missing still
        followed.inspect_err(|_| self.see(before))?;
        Ok(true)
    }

    /// Has pods send by what there is now, and neighbours on another uplink be told.
    fn go_over<'p>(
        &mut self,
        plane: &Dataplane,
        uplink: Option<Link>,
        gone: impl IntoIterator<Item = &'p AddPort>,
    ) -> Result<(), OutlookError> {
        self.publish(plane)?;
        // what leads elsewhere now has gone there
        gone.into_iter().try_for_each(|port| remove(plane, port))?;
        if let Some(uplink) = uplink {
            let announcer = Announcer::open(uplink, self.ground().1)?;
            self.publisher().lock().announce_by(announcer);
        }
        Ok(())
    }
}

fn remove(plane: &Dataplane, port: &AddPort) -> Result<(), PortError> {
    tracing::info!(interface = port.interface, "pods do not send by it any more");
    match plane.remove_port(&port.interface) {
        Err(PortError::Unknown { .. }) => Ok(()),
        outcome => outcome,
    }
}
