//! A lab as a whole.
//!
//! Owns nothing that runs: a lab outlives the process that made it, and any other can open it by
//! its name, ask it, and take it down.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Command;

use millrace_control::{Pod, PodName, World};
use millrace_netns::Namespace;

use crate::build::Builder;
use crate::folder::{self, Folder};
use crate::state::PodState;
use crate::{
    LabError, LabName, NodeAgent, State, Topology, ground, manifests, process, resolver, schedule,
};

/// How a lab is made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What it is called.
    pub name: LabName,
    /// How its nodes are wired.
    pub topology: Topology,
    /// Bytes of the largest IP packet between nodes.
    pub mtu: u32,
    /// The program that calls [`server::run`](crate::server::run) with the arguments that are
    /// added to these.
    pub server: Vec<OsString>,
}

/// A lab that is up.
#[derive(Clone, Debug)]
pub struct Lab {
    state: State,
}

impl Lab {
    /// Makes a lab of a world, and returns when it can be used: agents answer, pods are attached,
    /// servers serve. Nodes have the addresses that the lab gives them, whatever they say.
    ///
    /// # Errors
    /// Whatever stood in the way. Nothing is left of the lab then.
    pub fn up(
        mut world: World,
        settings: &Settings,
        agent: Option<&NodeAgent<'_>>,
    ) -> Result<Self, LabError> {
        schedule::spread(&mut world)?;
        let layout = settings.topology.layout(world.nodes.len())?;
        for (node, seat) in world.nodes.values_mut().zip(&layout.nodes) {
            node.addresses = seat.ips().into();
        }

        let folder = Folder::make(&settings.name)?;
        match Builder::new(&world, &layout, settings, agent, folder.path()).build() {
            Ok(state) => Ok(Self { state }),
            Err(error) => {
                // the first failure is the one to tell of
                let _ = clear(&settings.name, folder);
                Err(error)
            }
        }
    }

    /// The labs that are up, or were not taken down, by name.
    pub fn list() -> Vec<LabName> {
        folder::names()
    }

    /// Opens a lab that is up.
    ///
    /// # Errors
    /// [`LabError::NotUp`] names those there are.
    pub fn open(name: &LabName) -> Result<Self, LabError> {
        let state = State::load(&name.folder())?;
        let state = state.ok_or(LabError::NotUp { lab: name.clone(), existing: Self::list() })?;
        Ok(Self { state })
    }

    /// Takes a lab down, or what there is of it: ends its programs, and removes its namespaces and
    /// its folder. What others have started in its namespaces is left to them.
    ///
    /// # Errors
    /// If there is no such lab, somebody else is at it, or something of it does not go away.
    pub fn down(name: &LabName) -> Result<(), LabError> {
        clear(name, Folder::open(name)?)
    }

    /// Has the agents of a lab know another world: its Services, policies and filters, and what it says
    /// of the nodes and pods that there are. Those stay where they were made; the names of pods that the lab has and
    /// the world has not, or the reverse, are returned.
    ///
    /// # Errors
    /// If there is no such lab, or somebody else is at it.
    pub fn apply(name: &LabName, world: World) -> Result<Vec<PodName>, LabError> {
        let folder = Folder::open(name)?;
        let lab = Self::open(name)?;
        let mut next = manifests::read(folder.path())?;
        let made = &lab.state.pods;
        let missing = made.iter().filter(|pod| !world.pods.contains_key(&pod.name));
        let mut others: Vec<PodName> = missing.map(|pod| pod.name.clone()).collect();
        next.pods.clear();
        for (name, pod) in world.pods {
            match made.iter().find(|made| made.name == name) {
                // it stays where it was put
                Some(made) => {
                    next.pods.insert(name, Pod { node: Some(made.node.clone()), ..pod });
                }
                None => others.push(name),
            }
        }
        for (name, node) in &mut next.nodes {
            if let Some(stated) = world.nodes.get(name) {
                node.labels.clone_from(&stated.labels);
                node.readiness = stated.readiness;
                node.tenure = stated.tenure;
            }
        }
        next.namespaces = world.namespaces;
        next.services = world.services;
        next.policies = world.policies;
        next.cluster_policies = world.cluster_policies;
        next.filters = world.filters;
        next.gateways = world.gateways;
        manifests::write(folder.path(), &manifests::with_addresses(&next, &lab.state))?;
        Ok(others)
    }

    /// Has the agents of a lab forget what a world names, but for nodes and pods, which come and go with
    /// the lab.
    ///
    /// # Errors
    /// If there is no such lab, or somebody else is at it.
    pub fn delete(name: &LabName, world: &World) -> Result<(), LabError> {
        let folder = Folder::open(name)?;
        let mut next = manifests::read(folder.path())?;
        let (services, filters) = (&mut next.services, &mut next.filters);
        next.namespaces.retain(|it, _| !world.namespaces.contains_key(it));
        services.services.retain(|it, _| !world.services.services.contains_key(it));
        services.slices.retain(|it, _| !world.services.slices.contains_key(it));
        services.ranges.retain(|it, _| !world.services.ranges.contains_key(it));
        services.pools.retain(|it, _| !world.services.pools.contains_key(it));
        next.policies.retain(|it, _| !world.policies.contains_key(it));
        next.cluster_policies.retain(|it, _| !world.cluster_policies.contains_key(it));
        filters.filters.retain(|it, _| !world.filters.filters.contains_key(it));
        filters.chains.retain(|it, _| !world.filters.chains.contains_key(it));
        let (gateways, gone) = (&mut next.gateways, &world.gateways);
        gateways.classes.retain(|it, _| !gone.classes.contains_key(it));
        gateways.gateways.retain(|it, _| !gone.gateways.contains_key(it));
        gateways.tcp_routes.retain(|it, _| !gone.tcp_routes.contains_key(it));
        gateways.udp_routes.retain(|it, _| !gone.udp_routes.contains_key(it));
        gateways.grants.retain(|it, _| !gone.grants.contains_key(it));
        filters.modules.retain(|it, _| !world.filters.modules.contains_key(it));
        manifests::write(folder.path(), &next)
    }

    /// The directory with the manifests of all of it, which its agents follow.
    pub fn manifests(&self) -> PathBuf {
        self.state.name.folder().join(manifests::MANIFESTS)
    }

    pub(crate) fn of(state: State) -> Self {
        Self { state }
    }

    /// What it is made of.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// A command in the network of a pod. It has the terminal of whoever starts it; to hand that
    /// over for good, signals and all, have it replace this process
    /// ([`CommandExt::exec`](std::os::unix::process::CommandExt::exec)).
    ///
    /// # Errors
    /// [`LabError::Unknown`] names those there are.
    pub fn in_pod(&self, pod: &PodName, program: impl AsRef<OsStr>) -> Result<Command, LabError> {
        let mut words = resolver::words(&self.state.name.folder(), pod).into_iter();
        let namespace = self.pod_namespace(pod)?;
        let mut command = match words.next() {
            None => namespace.command(program),
            Some(first) => {
                let mut command = namespace.command(first);
                command.args(words).arg(program.as_ref());
                command
            }
        };
        command.env(HOSTNAME, &pod.name);
        Ok(command)
    }

    /// A command in the network of a node.
    ///
    /// # Errors
    /// [`LabError::Unknown`] names those there are.
    pub fn in_node(&self, node: &str, program: impl AsRef<OsStr>) -> Result<Command, LabError> {
        let Some(state) = self.state.nodes.iter().find(|it| it.name == node) else {
            let nodes = self.state.nodes.iter().map(|node| node.name.clone());
            return Err(self.unknown(format!("node `{node}`"), nodes));
        };
        Ok(Namespace::open(&state.namespace)?.command(program))
    }

    /// A command in the network of the outside host.
    ///
    /// # Errors
    /// If that is gone.
    pub fn in_outside(&self, program: impl AsRef<OsStr>) -> Result<Command, LabError> {
        Ok(Namespace::open(&self.state.outside.namespace)?.command(program))
    }

    /// The network of a pod.
    pub(crate) fn pod_namespace(&self, pod: &PodName) -> Result<Namespace, LabError> {
        let is = |it: &&PodState| it.name == *pod;
        let Some(state) = self.state.pods.iter().find(is) else {
            let pods = self.state.pods.iter().map(|pod| pod.name.to_string());
            return Err(self.unknown(format!("pod `{pod}`"), pods));
        };
        Ok(Namespace::open(&state.namespace)?)
    }

    fn unknown(&self, what: String, existing: impl Iterator<Item = String>) -> LabError {
        LabError::Unknown { lab: self.state.name.clone(), what, existing: existing.collect() }
    }
}

/// Removes all there is of a lab. The folder goes last: with it goes the knowledge of the rest.
fn clear(name: &LabName, folder: Folder) -> Result<(), LabError> {
    if let Some(state) = State::load(folder.path())? {
        let processes = state.programs.iter().map(|program| program.process);
        let undying =
            |process: crate::Process| LabError::Undying { lab: name.clone(), pid: process.pid };
        process::end(processes).map_err(undying)?;
    }
    ground::clear(name)?;
    let pins = name.pins();
    match fs::remove_dir_all(&pins) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(LabError::file(pins)(error));
        }
        _ => {}
    }
    // other labs may have folders there
    let _ = pins.parent().map(fs::remove_dir);
    folder.remove()
}

/// What tells a program in a pod where it is.
pub(crate) const HOSTNAME: &str = "HOSTNAME";
