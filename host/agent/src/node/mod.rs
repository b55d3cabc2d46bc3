//! `millrace node`: a host whose ports are the pods of a cluster's node.
//!
//! - `attach`: pods as ports; `ipam`: their addresses, `link`: their interfaces, `wanted`: what runtimes
//!   choose of them, `check`, `reconcile`: whether all is still there
//! - `state`: what is remembered for the next agent, `host_maps`: what filters know, `flows`: how
//!   flows are kept, `pins`: where
//! - `peers`: the other nodes; `tunnel`: those that are behind one; `uplink`: what is outside,
//!   `outlook`: as the host's routes change
//! - `cleanup`: the end of all of it
//! - `chain`: what the built-in filters are told of them; `filters`: the others of the chain
//! - `source`: where the cluster is known from; `publisher`: what filters are told of it; `follow`:
//!   whenever it changes; `meet`: other nodes that come and go; `report`: what the cluster is told in turn;
//!   `refusals`: what the kernel does not do
//! - `udev`: others leave its links alone; `cni`: has container runtimes call the plugin; `container`: what
//!   an agent in one sees of the node
//! - `reach`: how others come to know where Services are: `virtuals`, the host's own stack, `announcer`,
//!   its neighbours, `health`, load balancers, `liveness`, those that ask
//!   of the node as a whole, both `answering` by HTTP, `processes`, those of the node itself

mod announcer;
mod answering;
mod attach;
pub(crate) mod chain;
mod check;
pub(crate) mod cleanup;
pub(crate) mod cni;
mod container;
mod filters;
mod flows;
mod follow;
mod health;
pub(crate) mod host_maps;
mod ipam;
mod link;
mod liveness;
mod meet;
mod outlook;
mod peers;
pub(crate) mod pins;
mod processes;
mod publisher;
mod reach;
mod reconcile;
mod refusals;
mod report;
mod source;
pub(crate) mod state;
mod tunnel;
mod udev;
mod uplink;
mod virtuals;
mod wanted;

pub(crate) use attach::{AttachError, Pods};
pub(crate) use filters::{ChainStanding, ChainState, FilterStanding};
pub(crate) use follow::Follower;
pub(crate) use ipam::PrefixUse;
pub(crate) use publisher::{Known, LearntAddress, PolicyStatus, Publisher, ServiceStatus};
pub(crate) use refusals::RefusedStatus;
pub(crate) use tunnel::TunnelArgs;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::thread;

use anyhow::Context;
use clap::Args;
use millrace_abi::PortKind;
use millrace_dataplane::control::RESERVED_PORTS;
use millrace_dataplane::control::request::AddPort;
use millrace_dataplane::port::{Hold, Station, Vlans};
use millrace_netns::Namespace;
use serde_json::json;

use crate::api::types::{LoadFilter, Module, Position, Terms};
use crate::config::{Config, LogFormat, StartPlan};
use crate::node::container::ContainerArgs;
use crate::registry::RegistryArgs;
use crate::run::{self, Doors, Succession};
use crate::text::Span;
use announcer::Announcer;
use attach::Beyond;
use cni::CniArgs;
use filters::Kept;
use flows::FlowArgs;
use health::HealthChecks;
use ipam::Ipam;
pub(crate) use link::{GATEWAY_MAC, HOST_MAC, HOST_PORT};
use liveness::Liveness;
use outlook::Outlook;
use reach::Reach;
use source::{Source, SourceArgs};
use state::NodeState;
use uplink::OutsideArgs;
use virtuals::Virtuals;

/// Be the network of a node: its pods, and the node itself.
///
/// Pods are attached over the admin socket. The first packet of a flow goes through the chain
/// (bridge, service-lb, policy, then router); what that decides is kept in the kernel, which carries
/// the rest. Services and policies are read anew whenever the cluster changes.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace node --name worker-1 --manifests /etc/millrace/manifests
  millrace node --name worker-1 --kubeconfig /etc/kubernetes/millrace.conf \
      --cni-bin-dir /opt/cni/bin --conflist /etc/cni/net.d/05-millrace.conflist")]
pub(crate) struct NodeArgs {
    /// The name of the node; its Node object says which addresses its pods get.
    #[arg(long, value_name = "NODE", env = "NODE_NAME")]
    name: String,

    #[command(flatten)]
    source: SourceArgs,

    #[command(flatten)]
    cni: CniArgs,

    /// Bytes of the largest IP packet between nodes; by default that of the interface with the
    /// node's address, and no more than 1500. Pods get what a tunnel leaves of it.
    #[arg(long, value_name = "BYTES")]
    mtu: Option<u32>,

    #[command(flatten)]
    tunnel: TunnelArgs,

    #[command(flatten)]
    outside: OutsideArgs,

    #[command(flatten)]
    registries: RegistryArgs,

    /// Take over from the agent of this node that runs, if one does: nothing is lost, and it ends.
    /// One that does not answer any more is killed. Without this, an agent that runs is left alone.
    #[arg(long)]
    take_over: bool,

    /// When another agent has taken over, wait to be told to end: whatever starts agents may start one
    /// again that ends by itself.
    #[arg(long, requires = "take_over")]
    linger: bool,

    #[command(flatten)]
    container: ContainerArgs,

    /// Workers; one for each core by default, which serves what misses on that core.
    #[arg(long, value_name = "N")]
    workers: Option<usize>,

    /// Serve Prometheus metrics at http://ADDR/metrics, /healthz, and /readyz, which says whose answer
    /// it is; nowhere by default.
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,

    /// Answer /healthz and /livez as kube-proxy does, at this port of all addresses of the node; 0 for
    /// nowhere.
    #[arg(long, value_name = "PORT", default_value_t = 10_256)]
    health_port: u16,

    /// Believe what these DNS servers, too, answer to pods with ClusterNetworkPolicies that are about
    /// names of domains; by default those that Services in kube-system with the label k8s-app=kube-dns
    /// lead to. An address is that which pods ask at.
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    resolvers: Vec<IpAddr>,

    /// The admin socket; /run/millrace/millrace.sock by default.
    #[arg(long, value_name = "PATH", env = "MILLRACE_SOCKET")]
    socket: Option<PathBuf>,

    /// Keep compiled filters in this folder, so that they start in milliseconds.
    #[arg(long, value_name = "FOLDER")]
    module_cache: Option<PathBuf>,

    /// Keep the last good version of each Filter in this folder, for an agent that starts where its module
    /// is not to be had; by default in `modules` beside the admin socket, which no boot outlives.
    #[arg(long, value_name = "FOLDER")]
    kept_filters: Option<PathBuf>,

    /// What is logged, to standard error: error, warn, info (the default), debug or trace.
    #[arg(long, value_name = "FILTER", env = "MILLRACE_LOG")]
    log: Option<String>,

    /// How it is logged: `text` (the default) or `json`.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,

    #[command(flatten)]
    flows: FlowArgs,
}

/// Is the network of a node until told to end.
pub(crate) fn run(args: NodeArgs) -> anyhow::Result<()> {
    run::log::start(args.log.as_deref(), args.log_format.unwrap_or_default())?;
    run::privileges::check()?;
    args.container.look_out()?;

    let node = Namespace::current().context("the node's network namespace")?;
    let workers = match args.workers {
        Some(workers) => workers,
        None => thread::available_parallelism().context("the number of cores")?.get(),
    };
    let config = Config {
        workers: Some(workers),
        // who sleeps on the core of the sender is woken at once, and in nobody's way
        spin: Some(Span::new(0)),
        metrics: args.metrics,
        socket: args.socket,
        module_cache: args.module_cache,
        ..Config::default()
    };
    let source = Source::open(&args.source)?;
    // whoever waits for the first other node does not make links smaller once it comes
    let is_open = matches!(source, Source::Cluster(_));
    let mut follower = Follower::new(
        &args.name,
        source,
        args.tunnel,
        args.kept_filters.map_or_else(|| Kept::beside(&config.socket()), Kept::at),
        args.registries.registries(),
    );
    let world = follower.first()?;
    let this = world.nodes.get(&args.name).with_context(|| {
        let names: Vec<_> = world.nodes.keys().map(String::as_str).collect();
        format!(
            "there is no Node `{}` in {}; there is: {}",
            args.name,
            follower.place(),
            names.join(", ")
        )
    })?;
    let mut plan = StartPlan::read(&config)?;
    let succession = match (args.take_over, args.linger) {
        (false, _) => Succession::None,
        (true, false) => Succession::TakeOver,
        (true, true) => Succession::TakeOverAndLinger,
    };
    let doors = Doors::open(&config, succession)?;

    let mut state = NodeState::beside(&config.socket())?;
    let outlook = Outlook::new(&node, args.outside, args.tunnel.udp_port()).context("routes")?;
    let around = outlook.surroundings(&node, this, &world.nodes).context("the underlay")?;
    if around.link().is_none() {
        tracing::warn!(
            addresses = ?this.addresses,
            "no interface has an address of the Node: pods reach what is outside by other \
             interfaces alone"
        );
    }
    let peers = peers::of(this, &world.nodes, args.tunnel.mode, &around.subnets);
    let between = args.mtu.unwrap_or(around.mtu().map_or(MTU, |widest| widest.min(MTU)));
    let ends = peers.iter().filter_map(|peer| peer.tunnel);
    let mtu =
        args.tunnel.mtu(between, ends.chain(this.addresses.first().copied().filter(|_| is_open)));
    let ipam = Ipam::new(this.pod_cidrs.iter().copied());
    let gateways: Vec<_> = ipam.gateways().collect();
    udev::declare()?;
    link::make_host_link(&node, &gateways, mtu).context("the host's own link")?;
    args.tunnel.make_link(&node, &peers, mtu).context("the link of tunnels")?;
    peers::prepare(&node, &gateways, &mut state).context("the way into the dataplane")?;
    let mut reached = Vec::new();
    for peer in peers {
        match peers::lead_to(&node, &gateways, &peer, &mut state) {
            Ok(()) => reached.push(peer),
            // which is tried again when the rest is there
            Err(error) => tracing::error!(node = peer.name, %error, "its pods are not reached"),
        }
    }
    let peers = reached;
    let virtuals = Virtuals::open(node.netlink()?, gateways.clone()).context("routes of before")?;
    let announcer = around.link().cloned().map(|uplink| Announcer::open(uplink, &mut state));
    let announcer = announcer.transpose().context("what is announced on the uplink")?;
    let node_ports = outlook.node_ports(&around, this);
    let health = HealthChecks::new(doors.runtime(), node_ports.at(&this.addresses));
    let health_port = Some(args.health_port).filter(|port| *port != 0);
    let liveness = Liveness::new(doors.runtime(), health_port);
    let publisher = follower.publisher();
    publisher.lock().reach_by(Reach::new(virtuals, announcer, health, liveness));
    publisher.lock().serve_node_ports(node_ports);
    publisher.lock().trust_resolvers(args.resolvers);
    let reserved = node.sysctl(RESERVED_PORTS).context("the ports that are reserved")?;
    state.change(|kept| {
        kept.sysctls.entry(RESERVED_PORTS.to_owned()).or_insert(reserved);
    })?;
    args.cni.remember(&mut state)?;
    args.source.remember(&mut state)?;
    let mut ports = args.tunnel.ports(&peers, &gateways);
    ports.extend(outlook.ports(&around, this));
    follower.look_out(outlook);
    let beyond = Beyond { peers, around };
    let pods = Pods::new(node, ipam, beyond, mtu, state, follower.publisher())
        .context("the pods of before")?;
    pins::prepare(&args.flows.pins)?;

    plan.settings.flow_cache = Some(args.flows.settings());
    let none_yet = BTreeMap::new();
    let configs = BTreeMap::from(chain::configs(&pods, &none_yet));
    let with_config = |name| (name, configs.get(name).cloned().unwrap_or_else(|| json!({})));
    plan.filters = chain::CHAIN.into_iter().map(with_config).map(built_in).collect();
    plan.ports.push(AddPort {
        interface: HOST_PORT.to_owned(),
        kind: PortKind::Host,
        vlans: Vlans::access(0),
        hold: Hold::Cached(Station {
            mac: HOST_MAC,
            gateway: attach::gateway(&peers::strangers(&gateways)),
        }),
        beyond: None,
    });
    plan.ports.extend(ports);
    run::node(plan, pods, follower, doors, args.cni, &world)
}

fn built_in((name, config): (&str, serde_json::Value)) -> LoadFilter {
    LoadFilter {
        name: name.to_owned(),
        module: Module::BuiltIn(name.to_owned()),
        config,
        position: Position::Last,
        terms: Terms::default(),
    }
}

/// Bytes of an IP packet that every underlay carries.
const MTU: u32 = 1500;
