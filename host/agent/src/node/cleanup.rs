//! `millrace cleanup`: takes away all that a node's agent has made and left.
//!
//! Owns the order: nobody attaches pods any more before they go, and links go before the programs on
//! them, so that no packet of a pod finds its way without. To do it again is to find nothing.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use millrace_cni::{Attached, Departures};
use millrace_fastpath::remove_pins;
use millrace_kube::forget_kept;
use millrace_netns::{Namespace, Route, RouteTable};
use serde::Serialize;

use crate::config::DEFAULT_SOCKET;
use crate::node::cni::plugins::Plugins;
use crate::node::container::ContainerArgs;
use crate::node::filters::Kept as Modules;
use crate::node::host_maps::KeptMaps;
use crate::node::link::{HOST_LINK, PROTOCOL, is_of_pod};
use crate::node::pins::DEFAULT_PINS;
use crate::node::state::NodeState;
use crate::node::{tunnel, udev};
use crate::output::{Output, print};
use crate::run::{self, privileges};

/// Remove all that the agent of this node has left: pods' links, flows, routes, settings, files.
///
/// Stop the agent first. Pods that are still there lose their network. It says what it removed, and
/// finds nothing the second time.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace cleanup
  millrace cleanup --conflist /etc/cni/net.d/05-millrace.conflist --cni-bin-dir /opt/cni/bin")]
pub(crate) struct CleanupArgs {
    /// The admin socket that the agent had; what it remembered is beside it.
    #[arg(long, value_name = "PATH", env = "MILLRACE_SOCKET", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// The folder of a BPF file system where the agent kept its flows.
    #[arg(long, value_name = "FOLDER", default_value = DEFAULT_PINS)]
    pins: PathBuf,
    #[command(flatten)]
    installed: InstalledArgs,
    #[command(flatten)]
    container: ContainerArgs,
    /// Wait to be told to end when nothing is left: a DaemonSet would start it again.
    #[arg(long)]
    linger: bool,
    /// Print lines for people, or JSON for programs.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Output,
}

/// What the agent had put into folders that outlive a boot, unlike what it remembers of them.
#[derive(Args, Debug, Default)]
struct InstalledArgs {
    /// The agent's configuration of CNI, which is removed also if nobody remembers it.
    #[arg(long, value_name = "FILE")]
    conflist: Option<PathBuf>,
    /// The folder of CNI plugins, where those of the agent's are removed also if nobody remembers them.
    #[arg(long, value_name = "FOLDER")]
    cni_bin_dir: Option<PathBuf>,
    /// The folder of compiled filters, which is removed as a whole.
    #[arg(long, value_name = "FOLDER")]
    module_cache: Option<PathBuf>,
    /// The folder where the agent kept what the API server said, also if nobody remembers it.
    #[arg(long, value_name = "FOLDER")]
    kept_objects: Option<PathBuf>,
    /// The folder of last good versions of Filters, which is removed as a whole, too.
    #[arg(long, value_name = "FOLDER")]
    kept_filters: Option<PathBuf>,
}

/// Something that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Removed {
    /// `link`, `route`, `proxy`, `sysctl`, `pins`, `file` or `folder`.
    kind: &'static str,
    /// Which.
    name: String,
    /// What it was for, or is now.
    note: Option<String>,
}

/// Removes everything, and says what there was.
pub(crate) fn run(args: &CleanupArgs) -> anyhow::Result<()> {
    privileges::check()?;
    args.container.look_out()?;
    if UnixStream::connect(&args.socket).is_ok() {
        bail!("an agent answers at {}: stop it first", args.socket.display());
    }
    let removed = clean(args)?;
    match args.output {
        Output::Json => print(&serde_json::to_string_pretty(&removed)?)?,
        Output::Table if removed.is_empty() => print("there was nothing to remove")?,
        Output::Table => {
            let lines: Vec<_> = removed.iter().map(Removed::line).collect();
            print(&lines.join("\n"))?;
        }
    }
    if args.linger { run::await_end() } else { Ok(()) }
}

fn clean(args: &CleanupArgs) -> anyhow::Result<Vec<Removed>> {
    let CleanupArgs { socket, pins, installed, .. } = args;
    let node = Namespace::current().context("the node's network namespace")?;
    let state = NodeState::beside(socket)?;
    let mut removed = Vec::new();
    let conflists: BTreeSet<_> = state.kept().conflist.iter().chain(&installed.conflist).collect();
    conflists.into_iter().try_for_each(|conflist| file(conflist, &mut removed))?;
    links(&node, &state, &mut removed)?;
    routes(&node, &state, &mut removed)?;
    proxies(&node, &mut removed)?;
    sysctls(&node, &state, &mut removed)?;
    if pins.exists() {
        remove_pins(pins).with_context(|| format!("{}", pins.display()))?;
        removed.push(Removed::new("pins", pins.display()));
    }
    udev::rules().map(|rules| file(&rules, &mut removed)).transpose()?;
    let folders: BTreeSet<_> = state.kept().plugins.iter().chain(&installed.cni_bin_dir).collect();
    for plugins in folders {
        Plugins::at(plugins).installed().try_for_each(|plugin| file(&plugin, &mut removed))?;
    }
    installed.module_cache.iter().try_for_each(|cache| folder(cache, &mut removed))?;
    let objects: BTreeSet<_> = state.kept().objects.iter().chain(&installed.kept_objects).collect();
    for objects in objects {
        if forget_kept(objects).with_context(|| format!("{}", objects.display()))? {
            removed.push(Removed::new("folder", objects.display()));
        }
    }
    let remembered = state.remove()?;
    removed.extend(remembered.map(|file| Removed::new("file", file.display())));
    Departures::beside(socket).forget()?;
    let kept = installed.kept_filters.clone().map(Modules::at);
    for modules in kept.into_iter().chain([Modules::beside(socket)]) {
        let cleared = modules.clear().context("the modules of filters")?;
        removed.extend(cleared.map(|folder| Removed::new("folder", folder.display())));
    }
    let maps = KeptMaps::beside(socket).context("what filters knew")?;
    let maps = maps.clear().context("what filters knew")?;
    removed.extend(maps.map(|folder| Removed::new("folder", folder.display())));
    for left in [socket.to_owned(), socket.with_extension("next")] {
        file(&left, &mut removed)?;
    }
    Ok(removed)
}

fn file(path: &Path, removed: &mut Vec<Removed>) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => removed.push(Removed::new("file", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("{}", path.display())),
    }
    Ok(())
}

fn folder(path: &Path, removed: &mut Vec<Removed>) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(path) {
        Ok(()) => removed.push(Removed::new("folder", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("{}", path.display())),
    }
    Ok(())
}

/// The links of pods, also of those that are not remembered, and the host's own.
fn links(node: &Namespace, state: &NodeState, removed: &mut Vec<Removed>) -> anyhow::Result<()> {
    let net = node.netlink()?;
    let pods = state.kept().attachments.values();
    for link in net.links()? {
        let pod = pods.clone().find(|pod| pod.port == link.name).map(Attached::title);
        let note = match pod {
            Some(pod) => Some(format!("pod {pod}")),
            None if link.name == HOST_LINK => Some("the host's own".to_owned()),
            None if link.name == tunnel::LINK => Some("tunnels to other nodes".to_owned()),
            None if is_of_pod(&link.name) => None,
            None => continue,
        };
        net.delete_link(&link.name)?;
        removed.push(Removed { note, ..Removed::new("link", &link.name) });
    }
    Ok(())
}

/// The routes to other nodes' pods, if they are as they were made.
fn routes(node: &Namespace, state: &NodeState, removed: &mut Vec<Removed>) -> anyhow::Result<()> {
    let net = node.netlink()?;
    let present = net.routes(RouteTable::MAIN)?;
    for (prefix, via) in &state.kept().routes {
        let is = |route: &&Route| route.destination == *prefix && route.gateway == Some(*via);
        if let Some(route) = present.iter().find(is) {
            net.remove_route(route)?;
            let note = Some(format!("via {via}"));
            removed.push(Removed { note, ..Removed::new("route", prefix) });
        }
    }
    Ok(())
}

/// Nobody answers any more for addresses that are announced elsewhere.
fn proxies(node: &Namespace, removed: &mut Vec<Removed>) -> anyhow::Result<()> {
    let net = node.netlink()?;
    for (link, address) in net.proxies(PROTOCOL)? {
        net.remove_proxy(&link, address)?;
        let note = Some(format!("on `{link}`"));
        removed.push(Removed { note, ..Removed::new("proxy", address) });
    }
    Ok(())
}

/// Settings of the kernel's get their former values.
fn sysctls(node: &Namespace, state: &NodeState, removed: &mut Vec<Removed>) -> anyhow::Result<()> {
    for (key, before) in &state.kept().sysctls {
        if node.sysctl(key)? != *before {
            // the kernel takes an empty line for an empty list
            node.set_sysctl(key, &format!("{before}\n"))?;
            let note = Some(format!("{before} again"));
            removed.push(Removed { note, ..Removed::new("sysctl", key) });
        }
    }
    Ok(())
}

impl Removed {
    fn new(kind: &'static str, name: impl ToString) -> Self {
        Self { kind, name: name.to_string(), note: None }
    }

    fn line(&self) -> String {
        let note = self.note.as_ref().map(|note| format!(" ({note})"));
        format!("{} {}{}", self.kind, self.name, note.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_said_in_a_line() {
        let route = Removed { note: Some("via 192.0.2.1".into()), ..Removed::new("route", "r") };
        assert_eq!(route.line(), "route r (via 192.0.2.1)");
        assert_eq!(Removed::new("pins", "p").line(), "pins p");
    }
}
