//! The kernel as a router between the pods, with connection tracking: what a node does for its
//! pods without a bridge, and without anybody's dataplane.
//!
//! Each pod is given a route to the other one through a gateway that its port answers for, so that
//! what the pods remember of each other stays as it is for the peers that bridge.

use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use millrace_netns::{Namespace, Neighbour, Netlink, Route};
use millrace_traffic::End;

use super::{GATEWAY_ADDRESS, POD_LINK};
use crate::veth::ground::Ground;

/// The router; all of it is taken away when this is dropped.
pub struct Routed {
    undo: Vec<Box<dyn FnOnce() -> Result<()> + Send>>,
}

impl Routed {
    /// Starts between the ends of the ground.
    ///
    /// # Errors
    /// If the kernel refuses, or `nft` is missing.
    pub fn start(ground: &Ground) -> Result<Self> {
        let mut this = Self { undo: Vec::new() };
        let [a, b] = ground.ports();
        for (port, own, other) in
            [(a, ground.near(), ground.far()), (b, ground.far(), ground.near())]
        {
            this.lead(ground.host(), port, own, other.address)?;
        }
        this.track(ground.host())?;
        Ok(this)
    }

    /// Leads from a pod to its port, and back.
    fn lead(&mut self, host: &Namespace, port: &str, pod: End<'_>, other: IpAddr) -> Result<()> {
        let (out, inside) = (host.netlink()?, pod.namespace.netlink()?);
        let mac = |net: &Netlink, link: &str| -> Result<[u8; 6]> {
            net.link(link)?.mac.with_context(|| format!("`{link}` has no MAC address"))
        };
        let (pod_mac, port_mac) = (mac(&inside, POD_LINK)?, mac(&out, port)?);
        let gateway = IpAddr::V4(GATEWAY_ADDRESS);
        self.add(
            out,
            Neighbour::permanent(port, pod.address, pod_mac),
            Route::to(pod.address.into()).link(port),
        )?;
        let through = Route::to(other.into()).via(gateway).link(POD_LINK).onlink();
        self.add(inside, Neighbour::permanent(POD_LINK, gateway, port_mac), through)
    }

    fn add(&mut self, net: Netlink, neighbour: Neighbour, route: Route) -> Result<()> {
        net.add_neighbour(&neighbour)?;
        net.add_route(&route)?;
        self.undo.push(Box::new(move || {
            net.remove_route(&route)?;
            Ok(net.remove_neighbour(&neighbour.link, neighbour.address)?)
        }));
        Ok(())
    }

    /// Forwards, and tracks what is forwarded: the kernel does so once a rule asks for it.
    fn track(&mut self, host: &Namespace) -> Result<()> {
        host.set_sysctl(FORWARDING, "1")?;
        load(host.command("nft").args(["-f", "-"]), RULES)?;
        let mut undo = host.command("nft");
        let forwarding = Namespace::open_path(host.path())?;
        self.undo.push(Box::new(move || {
            undo.args(["delete", "table", "inet", "bench"]);
            ensure!(undo.status()?.success(), "the rules stay");
            Ok(forwarding.set_sysctl(FORWARDING, "0")?)
        }));
        Ok(())
    }
}

impl Drop for Routed {
    fn drop(&mut self) {
        for undo in self.undo.drain(..).rev() {
            if let Err(error) = undo() {
                eprintln!("something of the router stays: {error:#}");
            }
        }
    }
}

/// Has a command load rules that it reads from its input.
pub(crate) fn load(command: &mut Command, rules: &str) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let child = command.stdin(Stdio::piped()).spawn();
    let mut child = child.with_context(|| format!("running `{name}`; `make setup` installs it"))?;
    child.stdin.take().context("its input is a pipe")?.write_all(rules.as_bytes())?;
    let status = child.wait()?;
    if !status.success() {
        bail!("{name}: {status}");
    }
    Ok(())
}

const RULES: &str = "\
table inet bench {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        ct state new accept
    }
}
";
/// Whether a namespace routes.
pub(crate) const FORWARDING: &str = "net.ipv4.ip_forward";
