//! Walk `pod` 2/5: cni → **plugin** → attachments.
//!
//! What is done for each verb, and which code a failure of it has. ADD and CHECK fail while no
//! agent is there; DEL does not, for a container that goes is not to be held up. What holds for
//! any plugin is checked first.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::statfs;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::agent::{Agent, AgentError, Method};
use crate::attachment::ATTACHMENTS;
use crate::call::{Environment, PodArgs};
use crate::departures::{DeparturesError, Noted};
use crate::network::version;
use crate::{
    Attach, Attached, AttachmentId, Call, Code, Departures, Failure, Network, Version, outcome,
};

/// What a plugin does when it is called; says what is to be printed.
pub type CarryOut = fn(Call, &Network) -> Result<Option<Value>, Failure>;

/// Reads a call, and has it carried out; says what is to be printed.
///
/// # Errors
/// What the runtime is to be told, in the version that it speaks.
pub fn run(
    environment: &Environment<'_>,
    input: &[u8],
    carry_out: CarryOut,
) -> Result<Option<Value>, (Version, Failure)> {
    let call = Call::read(environment).map_err(|failure| (spoken(input), failure))?;
    if call == Call::Version {
        return versions(input).map(Some).map_err(|failure| (Version::LATEST, failure));
    }
    let network = Network::read(input)?;
    let carried_out = check_call(&call, &network).and_then(|()| carry_out(call, &network));
    carried_out.map_err(|failure| (network.version, failure))
}

/// Has the node's agent carry a call out.
///
/// # Errors
/// If the agent is away, or refuses.
pub fn ask_agent(call: Call, network: &Network) -> Result<Option<Value>, Failure> {
    let agent = Agent::at(&network.socket);
    match call {
        Call::Add(id, namespace, PodArgs { pod, wanted }) => {
            let attach = Attach {
                netns: namespace,
                pod,
                network: Some(network.name.clone()),
                bandwidth: network.bandwidth,
                wanted: network.wanted.clone().or(wanted),
            };
            add(&agent, &id, &attach).map(|attached| Some(outcome::added(network, &attached)))
        }
        Call::Del(id) => del(&agent, network, &id).map(|()| None),
        Call::Check(id, namespace) => check(&agent, network, &id, &namespace).map(|()| None),
        Call::Gc => gc(&agent, network).map(|()| None),
        Call::Status => {
            let unavailable = |error| Failure::new(Code::Unavailable, "the agent", error);
            list(&agent).map(|_| None).map_err(unavailable)
        }
        Call::Version => Ok(None),
    }
}

/// A call that the version has, about a namespace that there is.
fn check_call(call: &Call, network: &Network) -> Result<(), Failure> {
    match call {
        Call::Add(_, namespace, _) => check_namespace(namespace),
        Call::Check(_, namespace) => {
            needs(network, Version::V0_4_0, "CHECK")?;
            if network.previous.is_none() {
                let details = "CHECK needs the result of ADD";
                return Err(Failure::new(Code::Configuration, "`prevResult` is missing", details));
            }
            check_namespace(namespace)
        }
        Call::Gc => needs(network, Version::V1_1_0, "GC"),
        Call::Status => needs(network, Version::V1_1_0, "STATUS"),
        Call::Del(_) | Call::Version => Ok(()),
    }
}

fn add(agent: &Agent, id: &AttachmentId, attach: &Attach) -> Result<Attached, Failure> {
    let what = format!("container {id} is not attached");
    agent.send(Method::PutNew, &id.path(), attach).map_err(|error| match error {
        AgentError::Refused { status: EXISTS, reason } => {
            Failure::new(Code::Attached, &what, reason)
        }
        error => failed(&what, error),
    })
}

fn del(agent: &Agent, network: &Network, id: &AttachmentId) -> Result<(), Failure> {
    let what = format!("container {id} is still attached");
    let departures = Departures::beside(&network.socket);
    let give_up = Instant::now() + HANDOVER;
    loop {
        match agent.ask(Method::Delete, &id.path()) {
            Ok(IgnoredAny) | Err(AgentError::Refused { status: UNKNOWN, .. }) => return Ok(()),
            Err(AgentError::Absent { .. } | AgentError::Broken { .. }) => {
                match departures.note(id, || agent.is_there()) {
                    Ok(Noted::Left) => return Ok(()),
                    Ok(Noted::AgentIsThere) if Instant::now() < give_up => {}
                    Ok(Noted::AgentIsThere) => {
                        let silent = "the agent takes connections, and does not answer";
                        return Err(Failure::new(Code::TryLater, what, silent));
                    }
                    Err(error @ DeparturesError::Full { .. }) => {
                        return Err(Failure::new(Code::TryLater, what, error));
                    }
                    Err(error) => return Err(Failure::new(Code::Io, what, error)),
                }
            }
            // one agent takes over from another
            Err(AgentError::Refused { status: BUSY, .. }) if Instant::now() < give_up => {}
            Err(error) => return Err(failed(&what, error)),
        }
        thread::sleep(PAUSE);
    }
}

fn check(
    agent: &Agent,
    network: &Network,
    id: &AttachmentId,
    namespace: &Path,
) -> Result<(), Failure> {
    let what = format!("container {id}");
    let unknown = |error| match error {
        AgentError::Refused { status: UNKNOWN, reason } => {
            Failure::new(Code::Container, &what, reason)
        }
        error => failed(&what, error),
    };
    let attached: Attached = agent.ask(Method::Get, &id.path()).map_err(unknown)?;
    let path = format!("{}/check", id.path());
    let mut faults: Vec<String> = agent.ask(Method::Post, &path).map_err(unknown)?;
    let previous = network.previous.iter();
    let missing = previous.flat_map(|it| outcome::missing(it, &attached, namespace));
    faults.extend(missing.map(|it| format!("{it} is not in `prevResult`")));
    if faults.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Code::Changed, format!("{what} is not as it was made"), faults.join("; ")))
}

/// Detaches whom the runtime does not list. One that stays does not keep the others.
fn gc(agent: &Agent, network: &Network) -> Result<(), Failure> {
    let what = "attachments that nobody has any more";
    let of_this = |it: &Attached| it.network.as_ref() == Some(&network.name);
    let all = list(agent).map_err(|error| failed(what, error))?;
    let stale = all.into_iter().filter(|it| of_this(it) && !network.valid.contains(&it.id));
    let mut left = Vec::new();
    for attached in stale {
        match agent.ask(Method::Delete, &attached.id.path()) {
            Ok(IgnoredAny) | Err(AgentError::Refused { status: UNKNOWN, .. }) => {}
            Err(error) => left.push(format!("{}: {error}", attached.id)),
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Code::TryLater, format!("{what} are left"), left.join("; ")))
}

fn versions(input: &[u8]) -> Result<Value, Failure> {
    let said =
        serde_json::from_slice::<Value>(input).ok().and_then(|it| it.get("cniVersion").cloned());
    let version = match said {
        None => Version::LATEST,
        Some(said) => version(&json!({ "cniVersion": said })).unwrap_or(Version::LATEST),
    };
    let supported = Version::ALL.map(Version::text);
    Ok(json!({ "cniVersion": version.text(), "supportedVersions": supported }))
}

/// The version to say a failure in, if nothing else of the input counts.
fn spoken(input: &[u8]) -> Version {
    let value = serde_json::from_slice(input).unwrap_or(Value::Null);
    version(&value).unwrap_or(Version::LATEST)
}

fn list(agent: &Agent) -> Result<Vec<Attached>, AgentError> {
    agent.ask(Method::Get, ATTACHMENTS)
}

/// A verb that later versions have.
fn needs(network: &Network, since: Version, verb: &str) -> Result<(), Failure> {
    if network.version >= since {
        return Ok(());
    }
    let details = format!("{verb} is there since {since}");
    Err(Failure::new(
        Code::Version,
        format!("CNI version {} has no {verb}", network.version),
        details,
    ))
}

fn failed(what: &str, error: AgentError) -> Failure {
    let code = match &error {
        AgentError::Absent { .. } | AgentError::Broken { .. } => Code::TryLater,
        AgentError::Refused { status: BUSY, .. } => Code::TryLater,
        AgentError::Refused { .. } => Code::Refused,
    };
    Failure::new(code, what, error)
}

/// It has to be a network namespace, and not the one that this runs in.
fn check_namespace(path: &Path) -> Result<(), Failure> {
    let failure = |details: String| {
        let what = format!("the network namespace {}", path.display());
        Failure::new(Code::Namespace, what, details)
    };
    let kind = statfs(path).map_err(|error| failure(io::Error::from(error).to_string()))?;
    if kind.f_type != NSFS_MAGIC {
        return Err(failure("it is no namespace".to_owned()));
    }
    let which = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    let same = which(path).and_then(|it| Ok(it == which(Path::new(OWN_NAMESPACE))?));
    match same {
        Ok(false) => Ok(()),
        Ok(true) => Err(failure("it is the node's own".to_owned())),
        Err(error) => Err(failure(error.to_string())),
    }
}

/// The file system of namespaces (NSFS_MAGIC in include/uapi/linux/magic.h).
const NSFS_MAGIC: rustix::fs::FsWord = 0x6e73_6673;
const OWN_NAMESPACE: &str = "/proc/self/ns/net";

/// Status codes of the agent's answers.
const UNKNOWN: u16 = 404;
const EXISTS: u16 = 412;
const BUSY: u16 = 503;

/// How long one agent may take to take over from another.
const HANDOVER: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(50);
