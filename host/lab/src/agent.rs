//! The program that is a node's network.
//!
//! Owns starting it, in the node's namespace, and waiting until it can be asked. Which program
//! that is, the lab does not know: whoever makes the lab says it, node by node.

use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use millrace_control::Node;

use crate::LabError;
use crate::state::Program;

/// Says how the agent of a node is started.
pub type NodeAgent<'a> = dyn Fn(&NodePlace) -> AgentCommand + 'a;

/// Where an agent is to be: all that it can be told.
#[derive(Clone, Debug)]
pub struct NodePlace {
    /// The node, with the addresses it has on the underlay.
    pub node: Node,
    /// A directory with the manifests of the whole lab: each node with its addresses, each pod
    /// with its node.
    pub manifests: PathBuf,
    /// Where the agent has to answer: its admin socket.
    pub socket: PathBuf,
    /// A folder of the agent's own, which goes with the lab.
    pub folder: PathBuf,
    /// Where the agent may pin what outlives it: a path in a BPF file system, if one is mounted at
    /// the usual place. It goes with the lab.
    pub pins: PathBuf,
}

/// How an agent is started, the first time and again: the next one runs before the former one has
/// ended, and has to take over from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentCommand {
    /// The program, and its arguments.
    pub command: Vec<OsString>,
    /// What is added to its environment.
    pub environment: Vec<(OsString, OsString)>,
}

/// Waits until an agent answers at its socket.
pub(crate) fn await_answer(node: &str, agent: &Program, socket: &PathBuf) -> Result<(), LabError> {
    let failed = |fault| failed(node, agent, fault);
    let deadline = Instant::now() + PATIENCE;
    loop {
        if UnixStream::connect(socket).is_ok() {
            return Ok(());
        }
        if !agent.process.is_running() {
            return Err(failed("has ended"));
        }
        if Instant::now() > deadline {
            return Err(failed("does not answer"));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn failed(node: &str, agent: &Program, fault: &'static str) -> LabError {
    LabError::Program {
        what: format!("the agent of node `{node}`"),
        fault,
        last_words: agent.last_words(),
    }
}

/// It may have to compile its filters first.
const PATIENCE: Duration = Duration::from_secs(120);
