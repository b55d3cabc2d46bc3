//! The namespace that a check makes, and what it does there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use millrace_control::PodName;
use millrace_kube::{ClusterError, Session};
use millrace_lab::client::{AT_ONCE, Answer};
use millrace_lab::server;
use serde_json::Value;

use super::interruption::Interruption;
use super::objects::{self, Image, Role};
use super::plan::{Client, Server, Servers, Service};
use crate::text::Span;

/// A namespace; it goes with this.
pub(super) struct Ground<'s> {
    session: &'s Session,
    interruption: &'s Interruption,
    image: Image,
    name: String,
    is_removed: bool,
}

/// What a client has said, and from which addresses it has asked.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) addresses: Vec<IpAddr>,
    /// By the numbers of questions.
    pub(super) answers: BTreeMap<usize, Answer>,
}

impl<'s> Ground<'s> {
    /// Makes the namespace.
    pub(super) fn make(
        session: &'s Session,
        interruption: &'s Interruption,
        image: Image,
    ) -> anyhow::Result<Self> {
        let made = session.create(NAMESPACES, &objects::namespace())?;
        let name = made["metadata"]["name"].as_str().context("a namespace without a name")?;
        let name = name.to_owned();
        eprintln!("millrace: the namespace {name} is made, for pods of {}", image.name);
        Ok(Self { session, interruption, image, name, is_removed: false })
    }

    /// Makes the Service and the policy.
    pub(super) fn publish(&self) -> anyhow::Result<Service> {
        let policies =
            format!("/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies", self.name);
        self.session.create(&policies, &objects::policy())?;
        let service = self.session.create(&self.collection("services"), &objects::service())?;
        let spec = &service["spec"];
        let port = |number: usize| spec["ports"][number]["nodePort"].as_u64();
        let port = |number| port(number).and_then(|port| u16::try_from(port).ok());
        let ports = port(0).zip(port(1)).context("the Service has got no node ports")?;
        Ok(Service { addresses: addresses(&spec["clusterIPs"], |it| it), node_ports: ports })
    }

    /// Starts servers on nodes, and waits until they have addresses.
    pub(super) fn serve(&self, nodes: &[String], patience: Duration) -> anyhow::Result<Servers> {
        let deadline = Instant::now() + patience;
        let on_nodes = |role: Role| {
            let nodes = nodes.iter().enumerate();
            nodes.map(move |(number, node)| (role, role.name(number), node))
        };
        let all: Vec<_> = SERVERS.into_iter().flat_map(on_nodes).collect();
        for (role, name, node) in &all {
            let pod = PodName::new(&self.name, name);
            let services =
                [server::Service::TcpEcho(objects::PORT), server::Service::UdpEcho(objects::PORT)];
            let services = services.map(|it| it.to_string());
            let words = ["lab".to_owned(), "serve".to_owned(), pod.to_string()];
            let words: Vec<_> = words.into_iter().chain(services).collect();
            self.start(objects::pod(name, *role, node, &self.image, &words), deadline)?;
        }
        let pods = self.await_pods(&SERVERS, all.len(), "Running", deadline)?;
        let of = |role: Role| {
            let servers = all.iter().filter(|(it, ..)| *it == role).map(|(_, name, node)| Server {
                pod: PodName::new(&self.name, name),
                node: (*node).clone(),
                addresses: pods.get(name).cloned().unwrap_or_default(),
            });
            servers.collect()
        };
        Ok(Servers { open: of(Role::Server), guarded: of(Role::Guarded) })
    }

    /// Has clients ask, and waits until they have.
    pub(super) fn ask(
        &self,
        clients: &[Client],
        patience: Span,
        start: Duration,
    ) -> anyhow::Result<Vec<Said>> {
        // one after the other, some at a time, for as long as each may take
        let turns =
            clients.iter().map(|it| it.questions.len().div_ceil(AT_ONCE)).max().unwrap_or(0);
        let asking = patience.duration().saturating_mul(u32::try_from(turns).unwrap_or(u32::MAX));
        let longest = Duration::from_secs(objects::ENDS_AFTER);
        // servers have taken as long to start, at most
        if start.saturating_mul(2).saturating_add(asking) > longest {
            bail!(
                "to ask may take {turns} times {patience}, and pods of a check are there for an hour at \
                 most: give it less `--patience`, or fewer nodes"
            );
        }
        let deadline = Instant::now() + start;
        let words = ["lab", "ask", "--patience"].map(str::to_owned);
        for client in clients {
            let questions = client.questions.iter().map(|it| serde_json::to_string(&it.question));
            let questions = questions.collect::<Result<Vec<_>, _>>()?;
            let words = words.iter().cloned().chain([patience.to_string()]).chain(questions);
            let words: Vec<_> = words.collect();
            let pod = objects::pod(&client.name, client.role, &client.node, &self.image, &words);
            self.start(pod, deadline)?;
        }
        let pods = self.await_pods(&CLIENTS, clients.len(), "Succeeded", deadline + asking)?;
        let said = clients.iter().map(|client| {
            let log = self.session.log(&self.name, &client.name)?;
            let answers = log.lines().filter_map(|line| serde_json::from_str::<Answer>(line).ok());
            let answers = answers.map(|answer| (answer.number, answer)).collect();
            let addresses = pods.get(&client.name).cloned().unwrap_or_default();
            Ok(Said { addresses, answers })
        });
        said.collect()
    }

    /// Removes all of it, and waits until it is gone.
    pub(super) fn remove(mut self) -> anyhow::Result<()> {
        self.is_removed = true;
        let left = || {
            let name = &self.name;
            format!(
                "the namespace {name} stays behind: `kubectl delete namespace {name}` removes it"
            )
        };
        self.session.delete(NAMESPACES, &self.name).with_context(left)?;
        let deadline = Instant::now() + GONE_AFTER;
        while self.session.get(NAMESPACES, &self.name).with_context(left)?.is_some() {
            if Instant::now() > deadline {
                eprintln!("millrace: the namespace {} is still being removed", self.name);
                return Ok(());
            }
            // who interrupts this wants it gone all the more
            if self.interruption.pause(BETWEEN).is_err() {
                thread::sleep(BETWEEN);
            }
        }
        eprintln!("millrace: the namespace {} is removed", self.name);
        Ok(())
    }

    fn collection(&self, resource: &str) -> String {
        format!("/api/v1/namespaces/{}/{resource}", self.name)
    }

    /// Makes a pod. In a new namespace that has to wait for the service account that all pods have.
    fn start(&self, pod: Value, deadline: Instant) -> anyhow::Result<()> {
        loop {
            match self.session.create(&self.collection("pods"), &pod) {
                Ok(_) => return Ok(()),
                Err(ClusterError::Refused { message, .. })
                    if message.contains("serviceaccount") && Instant::now() < deadline =>
                {
                    self.interruption.pause(BETWEEN)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until so many pods of these roles have come so far; their addresses, by their names.
    fn await_pods(
        &self,
        roles: &[Role],
        wanted: usize,
        phase: &str,
        deadline: Instant,
    ) -> anyhow::Result<BTreeMap<String, Vec<IpAddr>>> {
        let (mut said, labels) = (usize::MAX, objects::labels(roles));
        loop {
            let pods = self.session.list(&self.collection("pods"), &labels);
            // a server that is away for a moment is no reason to give up
            let (pods, trouble) = match pods {
                Ok(pods) => (pods, None),
                Err(error) => (Vec::new(), Some(error)),
            };
            if let Some(pod) = pods.iter().find(|pod| pod["status"]["phase"] == "Failed") {
                bail!("{}", standing(pod));
            }
            let there = pods.iter().filter(|pod| pod["status"]["phase"] == phase);
            let there: BTreeMap<_, _> = there.filter_map(named).collect();
            if trouble.is_none() && there.len() != said {
                said = there.len();
                eprintln!("millrace: {said} of {wanted} pods: {phase}");
            }
            if there.len() >= wanted {
                return Ok(there);
            }
            if Instant::now() > deadline {
                if let Some(error) = trouble {
                    return Err(error.into());
                }
                let late = pods.iter().filter(|pod| pod["status"]["phase"] != phase);
                let late: Vec<_> = late.map(standing).collect();
                bail!("pods have not come as far as {phase}: {}", late.join("; "));
            }
            self.interruption.pause(BETWEEN)?;
        }
    }
}

impl Drop for Ground<'_> {
    /// For who leaves early; [`Ground::remove`] says more.
    fn drop(&mut self) {
        if !self.is_removed
            && let Err(error) = self.session.delete(NAMESPACES, &self.name)
        {
            eprintln!("millrace: the namespace {} stays behind: {error}", self.name);
        }
    }
}

/// The name of a pod that has addresses, and these.
fn named(pod: &Value) -> Option<(String, Vec<IpAddr>)> {
    let name = pod["metadata"]["name"].as_str()?.to_owned();
    let addresses = addresses(&pod["status"]["podIPs"], |it| &it["ip"]);
    (!addresses.is_empty()).then_some((name, addresses))
}

fn addresses(list: &Value, address: fn(&Value) -> &Value) -> Vec<IpAddr> {
    let texts = list.as_array().into_iter().flatten().map(address);
    texts.filter_map(|it| it.as_str()?.parse().ok()).collect()
}

/// How far a pod has come, and what keeps it.
fn standing(pod: &Value) -> String {
    let status = &pod["status"];
    let container = &status["containerStatuses"][0]["state"];
    let texts = [
        &pod["status"]["phase"],
        &status["reason"],
        &status["message"],
        &container["waiting"]["reason"],
        &container["waiting"]["message"],
        &container["terminated"]["reason"],
        &container["terminated"]["message"],
    ];
    let texts: Vec<_> = texts.into_iter().filter_map(Value::as_str).collect();
    let name = pod["metadata"]["name"].as_str().unwrap_or("a pod");
    let node = pod["spec"]["nodeName"].as_str().unwrap_or("no node");
    format!("{name} on {node}: {}", texts.join(", "))
}

const SERVERS: [Role; 2] = [Role::Server, Role::Guarded];
const CLIENTS: [Role; 3] = [Role::Stranger, Role::Friend, Role::Host];
const NAMESPACES: &str = "/api/v1/namespaces";
const BETWEEN: Duration = Duration::from_millis(200);
/// How long one waits until a namespace is gone.
const GONE_AFTER: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_that_does_not_start_says_what_keeps_it() {
        let pod = json!({
            "metadata": {"name": "server-0"},
            "spec": {"nodeName": "east"},
            "status": {
                "phase": "Pending",
                "containerStatuses": [{"state": {"waiting": {"reason": "ErrImageNeverPull"}}}],
            },
        });
        assert_eq!(standing(&pod), "server-0 on east: Pending, ErrImageNeverPull");
        assert_eq!(named(&pod), None);
    }
}
