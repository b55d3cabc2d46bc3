//! An agent that leaves everything to the kernel: veths and routes, no filters. It shows that a
//! lab asks agents as it should, and what a lab is without a dataplane in the way.

use std::fs;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::put;
use axum::{Json, Router};
use ipnetwork::IpNetwork;
use millrace_cni::{Attach, Attached, AttachmentId};
use millrace_control::source::Manifests;
use millrace_control::{Node, World};
use millrace_lab::{AgentCommand, NodePlace};
use millrace_netns::{Namespace, Netlink, Route, VethSpec};
use serde_json::json;
use tokio::net::UnixListener;

use crate::roles;

/// How it is started on a node.
pub(crate) fn command(place: &NodePlace) -> AgentCommand {
    let mut command = roles::command(roles::AGENT);
    command.push(place.node.name.clone().into());
    command.extend([place.manifests.clone().into(), place.socket.clone().into()]);
    let environment = vec![("GREETING".into(), place.folder.clone().into_os_string())];
    AgentCommand { command, environment }
}

/// Is the network of a node. A pod that is called `unwanted` is refused, one
/// that is called `deadly` is the end.
pub(crate) fn run(mut arguments: impl Iterator<Item = String>) {
    let mut argument = || arguments.next().unwrap();
    let (node, manifests, socket) = (argument(), argument(), argument());
    let (world, complaints) = Manifests::open(manifests).unwrap().read().unwrap();
    assert_eq!(complaints, []);
    route_to_others(&world, &node);
    fs::write(format!("{}/greeted", std::env::var("GREETING").unwrap()), "").unwrap();

    let plane: &Plane = Box::leak(Box::new(Plane::new(world.nodes[&node].clone())));
    let attach = move |Path((container, interface)): Path<(String, String)>,
                       Json(request): Json<Attach>| async move {
        match container.as_str() {
            "default.deadly" => {
                eprintln!("\nthis was too much");
                std::process::exit(1);
            }
            "default.unwanted" => {
                (StatusCode::CONFLICT, Json(json!({"error": "it is not wanted here"})))
            }
            _ => (
                StatusCode::OK,
                Json(json!(plane.attach(AttachmentId { container, interface }, request))),
            ),
        }
    };
    let app = Router::new().route("/v1/attachments/{container}/{interface}", put(attach));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = UnixListener::bind(socket).unwrap();
        axum::serve(listener, app).await.unwrap();
    });
}

struct Plane {
    node: Node,
    /// One change of links at a time.
    netlink: Mutex<Netlink>,
    last: AtomicU32,
}

impl Plane {
    fn new(node: Node) -> Self {
        Self { node, netlink: Mutex::new(Netlink::host().unwrap()), last: AtomicU32::new(1) }
    }

    /// Gives a pod the next addresses: a veth, and routes at both ends of it.
    fn attach(&self, id: AttachmentId, request: Attach) -> Attached {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let pod = Namespace::open_path(&request.netns).unwrap();
        let interface = &id.interface;
        let (near, port) = (self.netlink.lock().unwrap(), format!("pod{number}"));
        near.add_veth(&VethSpec::new(&port, interface).peer_namespace(&pod)).unwrap();
        near.set_up(&port).unwrap();
        let far = pod.netlink().unwrap();
        far.set_up(interface).unwrap();

        let (mut addresses, mut gateways) = (Vec::new(), Vec::new());
        for prefix in &self.node.pod_cidrs {
            let (gateway, own) = (host(prefix, 1), host(prefix, number));
            let single = IpNetwork::from;
            near.add_address(&port, single(gateway)).unwrap();
            near.add_route(&Route::to(single(own)).link(&port)).unwrap();
            far.add_address(interface, single(own)).unwrap();
            far.add_route(&Route::to(single(gateway)).link(interface)).unwrap();
            let anywhere = IpNetwork::new(zero(own), 0).unwrap();
            far.add_route(&Route::to(anywhere).via(gateway)).unwrap();
            addresses.push(IpNetwork::new(own, prefix.prefix()).unwrap());
            gateways.push(IpNetwork::new(gateway, prefix.prefix()).unwrap());
        }
        let Attach { netns, pod, network, bandwidth, .. } = request;
        let (mac, mtu, port_mappings) = ("02:00:00:00:00:01".to_owned(), 1500, Vec::new());
        Attached {
            id,
            pod,
            network,
            netns,
            port,
            mac,
            addresses,
            gateways,
            mtu,
            port_mappings,
            bandwidth,
        }
    }
}

/// Pods of other nodes are behind these nodes.
fn route_to_others(world: &World, own: &str) {
    let netlink = Netlink::host().unwrap();
    for node in world.nodes.values().filter(|node| node.name != own) {
        for (prefix, address) in node.pod_cidrs.iter().zip(&node.addresses) {
            netlink.add_route(&Route::to(*prefix).via(*address)).unwrap();
        }
    }
}

fn host(prefix: &IpNetwork, number: u32) -> IpAddr {
    match prefix.network() {
        IpAddr::V4(first) => IpAddr::V4((first.to_bits() + number).into()),
        IpAddr::V6(first) => IpAddr::V6((first.to_bits() + u128::from(number)).into()),
    }
}

fn zero(family: IpAddr) -> IpAddr {
    match family {
        IpAddr::V4(_) => IpAddr::from([0; 4]),
        IpAddr::V6(_) => IpAddr::from([0u16; 8]),
    }
}
