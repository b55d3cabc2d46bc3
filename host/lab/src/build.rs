//! From a world to a lab, step by step: ground, agents, pods.
//!
//! A reader must not break this: what has been made is written down before the next step, and
//! what is to run before it runs. Whoever is killed on the way leaves nothing that cannot be
//! found.

use std::ffi::OsString;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use millrace_cni::agent::AgentError;
use millrace_control::{Pod, PodName, PodNetwork, World};
use millrace_netns::Namespace;

use crate::agent::await_answer;
use crate::attach::attach;
use crate::ground::{self, Ground};
use crate::lab::HOSTNAME;
use crate::manifests::{self, MANIFESTS};
use crate::process::Gated;
use crate::resolver;
use crate::topology::{Layout, world_wide};
use crate::{
    AgentCommand, AgentState, LabError, LabName, NodeAgent, NodePlace, NodeState, OutsideState,
    PodState, Program, Role, Settings, State, container, server,
};

/// A lab in the making.
pub(crate) struct Builder<'b> {
    world: &'b World,
    layout: &'b Layout,
    settings: &'b Settings,
    agent: Option<&'b NodeAgent<'b>>,
    folder: &'b Path,
    state: State,
}

impl<'b> Builder<'b> {
    /// Nothing is made yet.
    pub(crate) fn new(
        world: &'b World,
        layout: &'b Layout,
        settings: &'b Settings,
        agent: Option<&'b NodeAgent<'b>>,
        folder: &'b Path,
    ) -> Self {
        let name = &settings.name;
        let nodes = world.nodes.values().enumerate().map(|(number, node)| NodeState {
            name: node.name.clone(),
            namespace: name.node(&node.name),
            addresses: node.addresses.clone(),
            socket: agent.is_some().then(|| node_folder(folder, number).join(SOCKET)),
            agent: None,
        });
        let outside = OutsideState {
            namespace: name.outside(),
            addresses: layout.outside.ips().into(),
            world_wide: world_wide().map(|address| address.ip()).into(),
        };
        let state = State {
            name: name.clone(),
            topology: settings.topology,
            nodes: nodes.collect(),
            pods: Vec::new(),
            outside,
            programs: Vec::new(),
        };
        Self { world, layout, settings, agent, folder, state }
    }

    /// Makes it.
    pub(crate) fn build(mut self) -> Result<State, LabError> {
        self.make_folder(MANIFESTS)?;
        manifests::write(self.folder, self.world)?;
        self.make_folder(LOGS)?;
        resolver::write(self.folder, self.world)?;
        self.state.save(self.folder)?;

        let ground = Ground::lay(self.name(), self.layout, self.settings.mtu)?;
        for (number, (node, seat)) in self.world.nodes.keys().zip(&self.layout.nodes).enumerate() {
            ground.node(node, number, seat)?;
        }
        if let Some(agent) = self.agent {
            self.start_agents(agent)?;
        }
        for pod in self.world.pods.values() {
            self.make_pod(pod)?;
        }
        self.state.save(self.folder)?;
        manifests::write(self.folder, &manifests::with_addresses(self.world, &self.state))?;
        self.await_servers()?;
        Ok(self.state)
    }

    /// Starts all, then waits for all: each has filters to compile.
    fn start_agents(&mut self, agent: &NodeAgent<'_>) -> Result<(), LabError> {
        for (number, node) in self.world.nodes.values().enumerate() {
            let folder = self.make_folder(&format!("node{number}"))?;
            let command = agent(&NodePlace {
                node: node.clone(),
                manifests: self.folder.join(MANIFESTS),
                socket: folder.join(SOCKET),
                folder,
                pins: self.name().pins().join(format!("node{number}")),
            });
            self.state.nodes[number].agent = Some(AgentState::of(&command));
            let namespace = Namespace::open(&self.name().node(&node.name))?;
            let log = self.folder.join(LOGS).join(format!("agent.{}.log", node.name));
            self.start(Role::Agent { node: node.name.clone() }, &namespace, command, log)?;
        }
        for node in &self.state.nodes {
            let (agent, socket) = (self.state.agent(&node.name), node.socket.as_ref());
            let agent = agent.zip(socket).expect("each node's agent was started just now");
            await_answer(&node.name, agent.0, agent.1)?;
        }
        Ok(())
    }

    /// Makes a pod, has it attached, and starts what runs in it.
    fn make_pod(&mut self, pod: &Pod) -> Result<(), LabError> {
        let node = pod.node.as_deref().expect("each pod was given a node");
        let (namespace, addresses) = match pod.network {
            PodNetwork::Host => {
                let addresses = &self.world.nodes[node].addresses;
                (Namespace::open(&self.name().node(node))?, addresses.clone())
            }
            PodNetwork::Own => {
                let namespace = ground::pod(self.name(), &pod.name)?;
                let addresses = self.attach(pod, node, &namespace)?;
                (namespace, addresses)
            }
        };
        self.state.pods.push(PodState {
            name: pod.name.clone(),
            node: node.to_owned(),
            namespace: namespace.name().to_owned(),
            addresses,
        });

        let programs = container::programs(pod, &self.settings.server);
        for (container, command) in pod.containers.iter().zip(programs) {
            let role = Role::Container { pod: pod.name.clone(), container: container.name.clone() };
            let PodName { namespace: of, name } = &pod.name;
            let log = format!("pod.{of}.{name}.{}.log", container.name);
            let log = self.folder.join(LOGS).join(log);
            let environment = vec![(HOSTNAME.into(), OsString::from(name))];
            let words = match pod.network {
                PodNetwork::Own => resolver::words(self.folder, &pod.name),
                PodNetwork::Host => Vec::new(),
            };
            let command = [words, command].concat();
            let command = AgentCommand { command, environment };
            self.start(role, &namespace, command, log)?;
        }
        Ok(())
    }

    /// Has a pod attached by its node's agent; without one it has no addresses.
    fn attach(
        &self,
        pod: &Pod,
        node: &str,
        namespace: &Namespace,
    ) -> Result<Vec<IpAddr>, LabError> {
        let failed = |error| match error {
            AgentError::Refused { reason, .. } => {
                LabError::Attach { pod: pod.name.clone(), node: node.to_owned(), reason }
            }
            AgentError::Absent { .. } | AgentError::Broken { .. } => LabError::Program {
                what: format!("the agent of node `{node}`"),
                fault: "has broken off while it was asked to attach a pod",
                // one that has died has said why before
                last_words: self.state.agent(node).map_or_else(String::new, Program::last_words),
            },
        };
        let state = self.state.nodes.iter().find(|state| state.name == node);
        let Some(socket) = state.and_then(|state| state.socket.clone()) else {
            return Ok(Vec::new());
        };
        let attached = attach(&socket, pod, namespace.path()).map_err(failed)?;
        Ok(attached.addresses.iter().map(|address| address.ip()).collect())
    }

    /// Starts a program once it is written down.
    fn start(
        &mut self,
        role: Role,
        namespace: &Namespace,
        program: AgentCommand,
        log: PathBuf,
    ) -> Result<(), LabError> {
        let what = what(&role);
        let failed = |source| LabError::Start { what, source };
        let AgentCommand { command, environment } = program;
        let gated = match Gated::start(namespace, &command, environment, &log) {
            Ok(gated) => gated,
            Err(error) => return Err(failed(error)),
        };
        self.state.programs.push(Program { role, process: gated.process, log });
        self.state.save(self.folder)?;
        gated.open().map(drop).map_err(failed)
    }

    /// Waits until the lab's servers serve.
    fn await_servers(&self) -> Result<(), LabError> {
        let deadline = Instant::now() + PATIENCE;
        for pod in self.world.pods.values() {
            for (container, (_, program)) in
                pod.containers.iter().zip(self.state.containers(&pod.name))
            {
                if container.command.is_empty() {
                    await_server(program, deadline)?;
                }
            }
        }
        Ok(())
    }

    fn make_folder(&self, name: &str) -> Result<PathBuf, LabError> {
        let path = self.folder.join(name);
        fs::create_dir(&path).map_err(LabError::file(&path))?;
        Ok(path)
    }

    fn name(&self) -> &'b LabName {
        &self.settings.name
    }
}

fn await_server(program: &Program, deadline: Instant) -> Result<(), LabError> {
    let failed = |fault| LabError::Program {
        what: what(&program.role),
        fault,
        last_words: program.last_words(),
    };
    while program.last_words().lines().last() != Some(server::READY) {
        if !program.process.is_running() {
            return Err(failed("has ended"));
        }
        if Instant::now() > deadline {
            return Err(failed("does not serve"));
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// As whose a program is spoken of.
fn what(role: &Role) -> String {
    match role {
        Role::Agent { node } => format!("the agent of node `{node}`"),
        Role::Container { pod, container } => format!("container `{container}` of pod {pod}"),
    }
}

fn node_folder(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("node{number}"))
}

const LOGS: &str = "logs";
/// In the folder of a node's agent: a socket's path must be short.
const SOCKET: &str = "agent.sock";
/// How long servers may take to open their sockets.
const PATIENCE: Duration = Duration::from_secs(60);
