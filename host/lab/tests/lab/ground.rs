//! What the tests stand on: worlds, and labs that are gone after the test, however it ends.

use std::ffi::OsString;
use std::fs;
use std::ops::Deref;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use millrace_control::{Container, ContainerPort, Node, Pod, PodName, PodNetwork, Protocol, World};
use millrace_lab::{Lab, LabError, LabName, NodeAgent, Settings, Topology};
use millrace_netns::{Namespace, NamespaceError, unique_name};

use crate::roles;

/// A lab that is taken down when this is dropped, if it is up.
pub(crate) struct Ground {
    pub(crate) lab: Lab,
    _guard: Guard,
}

/// Takes down what there is of a lab.
pub(crate) struct Guard(pub(crate) LabName);

impl Ground {
    /// A lab of a world, without agents; `None` without the privilege to make one, unless `CI` is
    /// set.
    pub(crate) fn new(tag: &str, world: World, topology: Topology) -> Option<Self> {
        Self::with_agent(tag, world, topology, None)
    }

    pub(crate) fn with_agent(
        tag: &str,
        world: World,
        topology: Topology,
        agent: Option<&NodeAgent<'_>>,
    ) -> Option<Self> {
        may_run()?;
        let settings = settings(tag, topology);
        let guard = Guard(settings.name.clone());
        let lab = Lab::up(world, &settings, agent).unwrap_or_else(|error| panic!("{error}"));
        Some(Self { lab, _guard: guard })
    }

    /// The network of a pod.
    pub(crate) fn pod(&self, name: &str) -> Namespace {
        let name: PodName = name.parse().unwrap();
        let pod = self.lab.state().pods.iter().find(|pod| pod.name == name).unwrap();
        Namespace::open(&pod.namespace).unwrap()
    }

    /// The network of a node.
    pub(crate) fn node(&self, number: usize) -> Namespace {
        Namespace::open(&self.lab.state().nodes[number].namespace).unwrap()
    }

    pub(crate) fn outside(&self) -> Namespace {
        Namespace::open(&self.lab.state().outside.namespace).unwrap()
    }
}

impl Deref for Ground {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        match Lab::down(&self.0) {
            Ok(()) | Err(LabError::NotUp { .. }) => {}
            // a second panic would hide the first
            Err(error) => eprintln!("{error}"),
        }
    }
}

/// Whether labs can be made.
pub(crate) fn may_run() -> Option<()> {
    match Namespace::create_unique("lab-ground") {
        Err(error @ NamespaceError::Denied { .. }) if std::env::var_os("CI").is_none() => {
            eprintln!("not run: {error}");
            None
        }
        outcome => {
            outcome.unwrap();
            Some(())
        }
    }
}

/// How a lab with a name of its own is made.
pub(crate) fn settings(tag: &str, topology: Topology) -> Settings {
    let name = unique_name(tag).parse().unwrap();
    Settings { name, topology, mtu: 1500, server: roles::command(roles::SERVER) }
}

/// Nodes `a`, `b` and so on, with prefixes of both families.
pub(crate) fn nodes(count: u8) -> World {
    let mut world = World::default();
    for number in 1..=count {
        let name = char::from(b'a' - 1 + number).to_string();
        let pod_cidrs = [format!("10.{number}.0.0/24"), format!("fd01:{number}::/64")];
        let pod_cidrs = pod_cidrs.map(|prefix| prefix.parse().unwrap()).into();
        world.nodes.insert(name.clone(), Node { name, pod_cidrs, ..Node::default() });
    }
    world
}

/// A pod with one server.
pub(crate) fn pod(name: &str, node: &str) -> Pod {
    Pod {
        name: name.parse().unwrap(),
        labels: <_>::default(),
        node: Some(node.to_owned()),
        network: PodNetwork::Own,
        bandwidth: <_>::default(),
        weight: <_>::default(),
        containers: vec![server("server", &[])],
        status: <_>::default(),
    }
}

/// A container that runs the lab's server.
pub(crate) fn server(name: &str, ports: &[(Protocol, u16)]) -> Container {
    let port =
        |&(protocol, port): &(_, _)| ContainerPort { name: None, protocol, port, host: None };
    Container {
        name: name.to_owned(),
        command: Vec::new(),
        ports: ports.iter().map(port).collect(),
    }
}

/// A container that runs a script.
pub(crate) fn script(name: &str, script: &str) -> Container {
    let command = ["bash", "-c", script].map(str::to_owned).into();
    Container { name: name.to_owned(), command, ports: Vec::new() }
}

/// Adds pods to a world.
pub(crate) fn with(mut world: World, pods: impl IntoIterator<Item = Pod>) -> World {
    world.pods.extend(pods.into_iter().map(|pod| (pod.name.clone(), pod)));
    world
}

/// Whether an address answers to a ping.
pub(crate) fn pings(from: &Namespace, address: impl ToString) -> bool {
    let mut ping = from.command("ping");
    let output = ping.args(["-c", "1", "-W", "5", &address.to_string()]).output().unwrap();
    output.status.success()
}

/// The names of a lab's namespaces that there are, sorted.
pub(crate) fn namespaces(lab: &LabName) -> Vec<String> {
    let names = fs::read_dir("/run/netns").unwrap().map(|name| name.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name.starts_with(&lab.prefix()));
    names.sort();
    names
}

/// Waits until there is something.
pub(crate) fn await_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The first line of a file, once it has one.
pub(crate) fn await_line(path: &PathBuf) -> String {
    await_some(&format!("no line comes in {}", path.display()), || {
        let text = fs::read_to_string(path).ok()?;
        text.split_once('\n').map(|(line, _)| line.to_owned())
    })
}

/// A command line as a command.
pub(crate) fn command(words: Vec<OsString>) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}
