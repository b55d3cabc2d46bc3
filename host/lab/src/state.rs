//! What a lab is made of, in a file, so that any process can ask it and take it down.
//!
//! A reader must not break this: what has to be ended is in the file before it runs. A file is
//! replaced as a whole, so that nobody ever reads half of one.

use std::ffi::OsString;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use millrace_control::PodName;
use serde::{Deserialize, Serialize};

use crate::{AgentCommand, LabError, LabName, Process, Topology};

/// What a lab is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Its name.
    pub name: LabName,
    /// How its nodes are wired.
    pub topology: Topology,
    /// Its nodes, by name.
    pub nodes: Vec<NodeState>,
    /// Its pods, by name; as many as there are so far.
    pub pods: Vec<PodState>,
    /// The host that is not in the cluster.
    pub outside: OutsideState,
    /// What runs in it, in the order of starting.
    pub programs: Vec<Program>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeState {
    /// Its name.
    pub name: String,
    /// Its network namespace, under `/run/netns`.
    pub namespace: String,
    /// On the underlay, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// The admin socket of its agent, if it has one.
    pub socket: Option<PathBuf>,
    /// How that is started, once it was.
    pub agent: Option<AgentState>,
}

/// How the agent of a node is started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentState {
    /// The program, and its arguments.
    pub command: Vec<String>,
    /// What is added to its environment.
    pub environment: Vec<(String, String)>,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodState {
    /// Its name.
    pub name: PodName,
    /// Its node's name.
    pub node: String,
    /// Its network namespace, under `/run/netns`; with `hostNetwork` the node's.
    pub namespace: String,
    /// The addresses that others reach it by; none without an agent.
    pub addresses: Vec<IpAddr>,
}

/// The host that is not in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutsideState {
    /// Its network namespace, under `/run/netns`.
    pub namespace: String,
    /// On the underlay, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// Where the nodes have only their default route to.
    pub world_wide: Vec<IpAddr>,
}

/// Something that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Program {
    /// What for.
    pub role: Role,
    /// It, while it runs.
    pub process: Process,
    /// What it says.
    pub log: PathBuf,
}

/// What a program runs for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Role {
    /// To be the network of a node.
    Agent {
        /// The node's name.
        node: String,
    },
    /// Because a pod says so.
    Container {
        /// The pod's name.
        pod: PodName,
        /// Its name in the pod.
        container: String,
    },
}

impl AgentState {
    pub(crate) fn of(command: &AgentCommand) -> Self {
        let text = |word: &OsString| word.to_string_lossy().into_owned();
        Self {
            command: command.command.iter().map(text).collect(),
            environment: command
                .environment
                .iter()
                .map(|(name, value)| (text(name), text(value)))
                .collect(),
        }
    }
}

impl State {
    /// What runs in a pod.
    pub fn containers<'s>(
        &'s self,
        pod: &'s PodName,
    ) -> impl Iterator<Item = (&'s str, &'s Program)> {
        self.programs.iter().filter_map(move |program| match &program.role {
            Role::Container { pod: its, container } if its == pod => {
                Some((container.as_str(), program))
            }
            _ => None,
        })
    }

    /// The agent of a node, if one was started.
    pub fn agent(&self, node: &str) -> Option<&Program> {
        let is = |role: &Role| matches!(role, Role::Agent { node: its } if its == node);
        self.programs.iter().find(|program| is(&program.role))
    }

    pub(crate) fn save(&self, folder: &Path) -> Result<(), LabError> {
        let (path, next) = (folder.join(FILE), folder.join(NEXT));
        let text = serde_json::to_vec_pretty(self).expect("a state has keys that are texts");
        fs::write(&next, text).map_err(LabError::file(&next))?;
        fs::rename(&next, &path).map_err(LabError::file(path))
    }

    /// Reads it; `None` if whoever made the lab did not get that far.
    pub(crate) fn load(folder: &Path) -> Result<Option<Self>, LabError> {
        let path = folder.join(FILE);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| LabError::File { path, source: error.into() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LabError::file(path)(error)),
        }
    }
}

impl Program {
    /// The end of what it said.
    pub fn last_words(&self) -> String {
        // a log of a program that speaks in bytes is better than none
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

const FILE: &str = "state.json";
const NEXT: &str = "state.json.next";
/// How much of a log one wants to see.
const LINES: usize = 10;
