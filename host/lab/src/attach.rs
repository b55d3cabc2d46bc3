//! Has the agent of a node attach pods: the same call that a CNI plugin makes.
//!
//! `PUT /v1/pods/NAMESPACE/NAME` over the agent's admin socket with the pod's network namespace,
//! answered with its addresses. There is no way back: a lab is taken down as a whole, agents and
//! all.

use std::path::PathBuf;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use ipnetwork::IpNetwork;
use millrace_control::{Bandwidth, BitRate, Pod};
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

/// Who asks the agent behind a socket.
pub(crate) struct AgentClient {
    socket: PathBuf,
    runtime: Runtime,
}

/// What of an attached pod matters here.
#[derive(Debug, Deserialize)]
pub(crate) struct Attached {
    /// With the length of the node's prefix.
    pub(crate) addresses: Vec<IpNetwork>,
}

/// What of an agent's status matters here.
#[derive(Deserialize)]
struct Answering {
    pid: i32,
}

#[derive(Serialize)]
struct Attach<'p> {
    netns: &'p str,
    interface: &'p str,
    bandwidth: Limits,
}

/// Bits per second, where there is a limit.
#[derive(Serialize)]
struct Limits {
    ingress: Option<u64>,
    egress: Option<u64>,
}

/// Why a pod is not attached.
pub(crate) enum AttachError {
    /// The agent says why.
    Refused(String),
    /// The agent does not say anything, or nothing that is understood.
    Broken,
}

/// Why an agent refuses.
#[derive(Deserialize)]
struct Refusal {
    error: String,
}

impl AgentClient {
    /// A client of the agent behind `socket`. Nothing is connected yet.
    pub(crate) fn new(socket: PathBuf) -> std::io::Result<Self> {
        Ok(Self { socket, runtime: Builder::new_current_thread().enable_all().build()? })
    }

    /// Attaches a pod.
    ///
    /// # Errors
    /// If the agent refuses, or breaks off.
    pub(crate) fn attach(&self, pod: &Pod, netns: &str) -> Result<Attached, AttachError> {
        let rate = |limit: Option<BitRate>| limit.map(|BitRate(rate)| rate);
        let Bandwidth { ingress, egress } = pod.bandwidth;
        let bandwidth = Limits { ingress: rate(ingress), egress: rate(egress) };
        let body = serde_json::to_vec(&Attach { netns, interface: INTERFACE, bandwidth });
        let body = body.expect("an attachment is made of texts and numbers");
        // names of pods are made of what a path may have in it
        let path = format!("/v1/pods/{}/{}", pod.name.namespace, pod.name.name);
        let answer = self.runtime.block_on(self.ask(Method::PUT, &path, body.into()));
        let answer = answer.map_err(|_| AttachError::Broken)?.map_err(AttachError::Refused)?;
        serde_json::from_slice(&answer).map_err(|_| AttachError::Broken)
    }

    /// The number of the process that answers, if one does.
    pub(crate) fn pid(&self) -> Option<i32> {
        let answer = self.runtime.block_on(self.ask(Method::GET, "/v1/status", Bytes::new()));
        let answer = answer.ok()?.ok()?;
        serde_json::from_slice(&answer).ok().map(|Answering { pid }| pid)
    }

    /// The answer, or what the agent has against it.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Result<Bytes, String>, Box<dyn std::error::Error>> {
        let stream = UnixStream::connect(&self.socket).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "millrace");
        let request = request.header("content-type", "application/json").body(Full::new(body))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let answer = response.into_body().collect().await?.to_bytes();
        Ok(if status.is_success() { Ok(answer) } else { Err(reason(status, &answer)) })
    }
}

fn reason(status: StatusCode, answer: &[u8]) -> String {
    match serde_json::from_slice(answer) {
        Ok(Refusal { error }) => error,
        Err(_) => format!("it answers {status}"),
    }
}

/// What a pod calls its interface.
const INTERFACE: &str = "eth0";
