//! Walk `control` 3/4: compile → **follow** → tables.
//!
//! Follows the cluster: what is known of it becomes what filters are told, and other nodes are met,
//! for as long as the node runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use millrace_control::filter::Filters;
use millrace_control::source::Waited;
use millrace_control::{Node, World};
use millrace_dataplane::control::Dataplane;
use millrace_registry::Registries;
use parking_lot::Mutex;

use crate::api::server::Host;
use crate::node::TunnelArgs;
use crate::node::attach::Pods;
use crate::node::filters::{ChainKeeper, Kept};
use crate::node::outlook::Outlook;
use crate::node::publisher::{Known, Publisher};
use crate::node::refusals::Matter;
use crate::node::report::report;
use crate::node::source::{Reading, Source};

/// Who follows it.
pub(crate) struct Follower {
    node: String,
    source: Source,
    tunnel: TunnelArgs,
    publisher: Arc<Mutex<Publisher>>,
    /// What has become of what it was told.
    cluster: Arc<Mutex<Known>>,
    chain: ChainKeeper,
    /// What was complained of before.
    known: BTreeSet<String>,
    /// The nodes as they were met last.
    met: BTreeMap<String, Node>,
    /// What the chain was made of last.
    filters: Filters,
    /// Whether the cluster knows that the node's network is there.
    is_announced: bool,
    /// What is outside, once the node is there.
    outlook: Option<Outlook>,
    /// Whether the API server had told of everything when that was looked at last.
    was_whole: bool,
}

impl Follower {
    /// Follows a cluster, for a node that is joined to others like this, and whose agent keeps versions
    /// of filters there and asks these registries.
    pub(crate) fn new(
        node: &str,
        source: Source,
        tunnel: TunnelArgs,
        kept: Kept,
        registries: Registries,
    ) -> Self {
        let publisher = Publisher::new(node);
        Self {
            node: node.to_owned(),
            source,
            tunnel,
            chain: ChainKeeper::new(node, kept, registries, publisher.known()),
            cluster: publisher.known(),
            publisher: Arc::new(Mutex::new(publisher)),
            known: BTreeSet::new(),
            met: BTreeMap::new(),
            filters: Filters::default(),
            is_announced: false,
            outlook: None,
            was_whole: false,
        }
    }

    /// Follows what is outside as well.
    pub(crate) fn look_out(&mut self, outlook: Outlook) {
        self.outlook = Some(outlook);
    }

    /// Who tells filters what was read.
    pub(crate) fn publisher(&self) -> Arc<Mutex<Publisher>> {
        Arc::clone(&self.publisher)
    }

    /// Where the cluster is known from, for messages.
    pub(crate) fn place(&self) -> String {
        self.source.place()
    }

    /// What is known first. If it may come yet, what the node needs is waited for.
    pub(crate) fn first(&mut self) -> anyhow::Result<World> {
        let mut awaited = None;
        loop {
            let is_known = self.read()?;
            let publisher = self.publisher.lock();
            let world = publisher.world();
            let lack = match is_known {
                false => Some("the API server has not told of everything yet"),
                true => self.source.lacks(world.nodes.get(&self.node)),
            };
            match lack {
                None => {
                    if !self.source.is_whole() {
                        tracing::warn!("the API server is away: {SAID_BEFORE}");
                    }
                    return Ok(world.clone());
                }
                _ if lack == awaited => {}
                lack => tracing::info!(node = self.node, lack, "waiting"),
            }
            drop(publisher);
            awaited = lack;
            self.source.wait(HEARTBEAT)?;
        }
    }

    /// Has the chain have its filters before it has ports.
    pub(crate) fn furnish(&mut self, plane: &Dataplane, world: &World) {
        self.chain.follow(plane, world);
        self.filters.clone_from(&world.filters);
    }

    /// Has filters be told next what is known now, if it is; what of it does not count is logged, once.
    fn read(&mut self) -> anyhow::Result<bool> {
        let Some(reading) = self.source.read()? else { return Ok(false) };
        let Reading { news, complaints, mark } = reading;
        let complaints: BTreeSet<String> = complaints.iter().map(ToString::to_string).collect();
        for complaint in complaints.difference(&self.known) {
            tracing::warn!("{complaint}");
        }
        self.known = complaints;
        self.chain.hear(self.source.rollouts());
        self.publisher.lock().hear(news, mark);
        Ok(true)
    }

    /// Tells filters whatever changes, and meets other nodes, until it is over.
    pub(crate) fn follow(mut self, host: &Host, ended: &dyn Fn() -> bool) {
        // what was read before there were ports
        self.report();
        while !ended() {
            self.announce();
            match self.source.wait(HEARTBEAT) {
                Ok(Waited::Unchanged) => {
                    if self.chain.look(&host.plane) {
                        self.report();
                    }
                }
                Ok(Waited::Changed) => match self.read() {
                    Ok(_) => {
                        self.follow_others(host);
                        if let Err(error) = self.publisher.lock().tell(&host.plane) {
                            tracing::error!(%error, "Services and policies stay as they were");
                        }
                        self.report();
                    }
                    Err(error) => tracing::error!(%error, "the cluster cannot be read"),
                },
                Err(error) => {
                    tracing::error!(%error, "the cluster is not followed any more");
                    return;
                }
            }
            self.follow_outside(host);
            self.notice_server();
            // what is left of that when an agent leaves its successor does
            if !host.leaving.load(Ordering::Acquire) {
                self.publisher.lock().remind(Instant::now());
            }
            self.look_after(host);
        }
    }

    /// Has the cluster know that the node's network is there, if it does not.
    fn announce(&mut self) {
        // a server that is away would be waited for
        if self.is_announced || !self.source.is_whole() {
            return;
        }
        match self.source.announce(&self.node) {
            Ok(()) => self.is_announced = true,
            Err(error) => tracing::debug!(%error, "nobody knows yet that the network is there"),
        }
    }

    /// Has the cluster know what has become of its objects here.
    fn report(&self) {
        self.source.report(|| {
            let publisher = self.publisher.lock();
            let known = publisher.known();
            let known = known.lock();
            report(&self.node, publisher.world(), &known)
        });
    }

    /// Knows the other nodes as they are now, and has the chain be as the cluster says. An agent that
    /// leaves meets nobody any more. What fails is tried again with the next change.
    fn follow_others(&mut self, host: &Host) {
        let world = {
            let publisher = self.publisher.lock();
            let World { nodes, filters, .. } = publisher.world();
            if *nodes == self.met && *filters == self.filters {
                drop(publisher);
                self.chain.look(&host.plane);
                return;
            }
            // who attaches pods need not wait
            World { nodes: nodes.clone(), filters: filters.clone(), ..World::default() }
        };
        if let Some(pods) = &host.pods {
            self.stay_with(host, &pods.lock());
        }
        self.meet(host, &world.nodes);
        self.chain.follow(&host.plane, &world);
        self.filters = world.filters;
    }

    /// Ends an agent whose node has other prefixes for pods than it was started with: all that it has
    /// made is made of those. One that has none for a while may get them back.
    fn stay_with(&self, host: &Host, pods: &Pods) {
        let publisher = self.publisher.lock();
        let Some(this) = publisher.world().nodes.get(&self.node) else { return };
        let now: BTreeSet<_> = this.pod_cidrs.iter().copied().collect();
        if !now.is_empty() && now != pods.prefixes().collect() {
            host.outdated.notify_one();
        }
    }

    fn meet(&mut self, host: &Host, nodes: &BTreeMap<String, Node>) {
        let (Some(this), Some(pods)) = (nodes.get(&self.node), &host.pods) else { return };
        if *nodes == self.met || host.leaving.load(Ordering::Acquire) {
            return;
        }
        let met = pods.lock().meet(&host.plane, this, nodes, &self.tunnel);
        if met.is_ok() {
            self.met.clone_from(nodes);
        }
        self.cluster.lock().refusals.note(Matter::Nodes, met);
        // which addresses and prefixes are the cluster's is said by its nodes
        if let Some(outlook) = &mut self.outlook {
            outlook.doubt();
        }
    }

    /// Has pods reach what is outside as the host does. What is refused is tried again when all is
    /// looked after, or with the next change.
    fn follow_outside(&mut self, host: &Host) {
        let (Some(outlook), Some(pods)) = (&mut self.outlook, &host.pods) else { return };
        if host.leaving.load(Ordering::Acquire) {
            return;
        }
        let is_due = self.cluster.lock().refusals.are_due(Instant::now());
        let followed = match outlook.has_news(is_due) {
            Ok(false) => return,
            Ok(true) => {
                let nodes = self.publisher.lock().world().nodes.clone();
                let Some(this) = nodes.get(&self.node) else { return };
                outlook.follow(&host.plane, &mut pods.lock(), this, &nodes)
            }
            Err(error) => Err(error),
        };
        if let Ok(true) = followed {
            // other nodes may be neighbours now, or none any more
            self.met = BTreeMap::new();
        }
        let mut cluster = self.cluster.lock();
        if followed.is_ok() {
            cluster.refusals.hurry(Instant::now());
        }
        cluster.refusals.note(Matter::Outside, followed.map(drop));
    }

    /// Says soon that the API server tells again.
    fn notice_server(&mut self) {
        let is_whole = self.source.is_whole();
        if is_whole && !std::mem::replace(&mut self.was_whole, is_whole) {
            self.cluster.lock().refusals.hurry(Instant::now());
        }
    }

    /// Tries again what the kernel has refused, has the link of tunnels be as it was made, and lets pods go
    /// whose links have gone.
    fn look_after(&mut self, host: &Host) {
        let is_leaving = host.leaving.load(Ordering::Acquire);
        if is_leaving || !self.cluster.lock().refusals.are_due(Instant::now()) {
            return;
        }
        let nodes = {
            let publisher = self.publisher.lock();
            let nodes = &publisher.world().nodes;
            (*nodes != self.met).then(|| nodes.clone())
        };
        match (nodes, &host.pods) {
            (Some(nodes), _) => self.meet(host, &nodes),
            (None, Some(pods)) => {
                let mended = pods.lock().mend(&self.tunnel);
                self.cluster.lock().refusals.note(Matter::Nodes, mended);
            }
            (None, None) => {}
        }
        let told = if self.source.is_whole() { Ok(()) } else { Err(SAID_BEFORE) };
        self.cluster.lock().refusals.note(Matter::Cluster, told);
        if let Some(pods) = &host.pods {
            let reconciled = pods.lock().reconcile(&host.plane);
            self.cluster.lock().refusals.note(Matter::Pods, reconciled);
        }
        if let Err(error) = self.publisher.lock().catch_up(&host.plane) {
            tracing::error!(%error, "Services and policies stay as they were");
        }
        self.cluster.lock().refusals.looked_after(Instant::now());
    }
}

/// What there is before the API server has told of everything.
const SAID_BEFORE: &str = "what it said before the agent started is in force";
/// How soon it is noticed that it is over.
const HEARTBEAT: Duration = Duration::from_millis(200);
