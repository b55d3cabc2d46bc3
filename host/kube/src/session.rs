//! Asks an API server: plain calls that block, for commands that people run.
//!
//! Owns no opinion of objects: they are JSON, as the server has them, in collections that are named by
//! their path, such as `/api/v1/nodes`. One that is absent is no error.

use std::fmt;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{AttachParams, DeleteParams, GetParams, ListParams, LogParams, PostParams};
use kube::core::Request;
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::{Access, ClusterError};

/// Who asks an API server.
pub struct Session {
    client: Client,
    runtime: Runtime,
}

/// Something that one may have to be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right<'n> {
    /// What is done: `create`.
    pub verb: &'n str,
    /// The API group; the core one has no name.
    pub group: &'n str,
    /// The kind of objects, as paths have it; with a subresource, `pods/log`.
    pub resource: &'n str,
    /// Where; in all namespaces, or of none, if it has no name.
    pub namespace: &'n str,
}

/// What came of a command in a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Executed {
    /// Whether it has ended with 0.
    pub is_success: bool,
    /// What it wrote to standard output.
    pub output: String,
    /// What it wrote to standard error; else what the server says of its end.
    pub error: String,
}

impl Session {
    /// Gets ready. Nothing is asked yet.
    ///
    /// # Errors
    /// If nothing says where the server is, or a file cannot be read.
    pub fn open(access: &Access) -> Result<Self, ClusterError> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mut config = runtime.block_on(access.config())?;
        config.connect_timeout = Some(CONNECTED_AFTER);
        config.read_timeout = Some(ANSWERED_AFTER);
        let client = runtime.block_on(async { Client::try_from(config) })?;
        Ok(Self { client, runtime })
    }

    /// The objects of a collection that have these labels.
    ///
    /// # Errors
    /// As all that is asked: if the server refuses, or is away.
    pub fn list(&self, collection: &str, labels: &str) -> Result<Vec<Value>, ClusterError> {
        let which = ListParams::default().labels(labels);
        let request = Request::new(collection).list(&which).map_err(kube::Error::BuildRequest)?;
        let mut answer: Value = self.ask(self.client.request(request))?;
        Ok(match answer["items"].take() {
            Value::Array(objects) => objects,
            _ => Vec::new(),
        })
    }

    /// An object, if it is there.
    ///
    /// # Errors
    /// If the server refuses, or is away.
    pub fn get(&self, collection: &str, name: &str) -> Result<Option<Value>, ClusterError> {
        let request = Request::new(collection).get(name, &GetParams::default());
        present(self.ask(self.client.request(request.map_err(kube::Error::BuildRequest)?)))
    }

    /// Makes an object, and says what has become of it.
    ///
    /// # Errors
    /// If the server refuses, or is away.
    pub fn create(&self, collection: &str, object: &Value) -> Result<Value, ClusterError> {
        let octets = object.to_string().into_bytes();
        let request = Request::new(collection).create(&PostParams::default(), octets);
        self.ask(self.client.request(request.map_err(kube::Error::BuildRequest)?))
    }

    /// Has an object removed, which may take a while after this.
    ///
    /// # Errors
    /// If the server refuses, or is away.
    pub fn delete(&self, collection: &str, name: &str) -> Result<(), ClusterError> {
        let request = Request::new(collection).delete(name, &DeleteParams::background());
        let request = request.map_err(kube::Error::BuildRequest)?;
        present(self.ask(self.client.request::<Value>(request))).map(drop)
    }

    /// What the only container of a pod has written.
    ///
    /// # Errors
    /// If the server refuses, or is away.
    pub fn log(&self, namespace: &str, pod: &str) -> Result<String, ClusterError> {
        let pods = Request::new(format!("/api/v1/namespaces/{namespace}/pods"));
        let request = pods.logs(pod, &LogParams::default());
        self.ask(self.client.request_text(request.map_err(kube::Error::BuildRequest)?))
    }

    /// Has a container in each of some pods run a command, all at once, and waits for what comes of each.
    ///
    /// # Errors
    /// Of each by itself: if the server refuses, or is away, or if the command does not end.
    pub fn execute(
        &self,
        namespace: &str,
        pods: &[&str],
        container: &str,
        command: &[String],
    ) -> Vec<Result<Executed, ClusterError>> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let params = AttachParams::default().container(container).stdin(false);
        let one = |pod: &&str| {
            let executed = execute(api.clone(), (*pod).to_owned(), command, &params);
            async { timeout(ENDS_AFTER, executed).await.unwrap_or(Err(ClusterError::Late)) }
        };
        let all = stream::iter(pods.iter().map(one)).buffered(AT_ONCE).collect();
        self.runtime.block_on(all)
    }

    /// Whether who asks has a right.
    ///
    /// # Errors
    /// If the server refuses to say so, or is away.
    pub fn may(&self, right: Right<'_>) -> Result<bool, ClusterError> {
        let (resource, subresource) =
            right.resource.split_once('/').unwrap_or((right.resource, ""));
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {
                "verb": right.verb, "group": right.group, "resource": resource,
                "subresource": subresource, "namespace": right.namespace,
            }},
        });
        let answer = self.create(ACCESS_REVIEWS, &review)?;
        Ok(answer["status"]["allowed"] == true)
    }

    fn ask<T>(&self, asked: impl Future<Output = kube::Result<T>>) -> Result<T, ClusterError> {
        self.runtime.block_on(asked).map_err(told)
    }
}

async fn execute(
    pods: Api<Pod>,
    pod: String,
    command: &[String],
    params: &AttachParams,
) -> Result<Executed, ClusterError> {
    let mut process = pods.exec(&pod, command, params).await.map_err(told)?;
    let (mut output, mut error) = (Vec::new(), Vec::new());
    let out = process.stdout().expect("it is attached unless that is declined");
    let err = process.stderr().expect("it is attached unless that is declined");
    let status = process.take_status().expect("nobody has taken it yet");
    let read = async |mut from: Box<dyn tokio::io::AsyncRead + Unpin>, to: &mut Vec<u8>| {
        from.read_to_end(to).await
    };
    let (status, out, err) =
        tokio::join!(status, read(Box::new(out), &mut output), read(Box::new(err), &mut error));
    out.and(err).map_err(kube::Error::ReadEvents)?;
    let status = status.unwrap_or_default();
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let mut executed = Executed {
        is_success: status.status.as_deref() == Some("Success"),
        output: text(&output),
        error: text(&error),
    };
    if executed.error.is_empty() {
        executed.error = status.message.unwrap_or_default();
    }
    Ok(executed)
}

/// What a server says itself is what counts.
fn told(error: kube::Error) -> ClusterError {
    match error {
        kube::Error::Api(status) => {
            ClusterError::Refused { code: status.code, message: status.message }
        }
        other => other.into(),
    }
}

impl fmt::Display for Right<'_> {
    /// As in `create networkpolicies.networking.k8s.io`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, group, resource, namespace } = self;
        write!(f, "{verb} {resource}")?;
        if !group.is_empty() {
            write!(f, ".{group}")?;
        }
        if !namespace.is_empty() {
            write!(f, " in the namespace {namespace}")?;
        }
        Ok(())
    }
}

/// What was asked for, if it is there.
fn present<T: DeserializeOwned>(
    answer: Result<T, ClusterError>,
) -> Result<Option<T>, ClusterError> {
    match answer {
        Ok(it) => Ok(Some(it)),
        Err(ClusterError::Refused { code: NOT_FOUND, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

const ACCESS_REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
/// RFC 9110 section 15.5.5.
const NOT_FOUND: u16 = 404;
/// How many commands run at the same time.
const AT_ONCE: usize = 32;
/// How long each of them may take.
const ENDS_AFTER: Duration = Duration::from_secs(30);
/// How long a server is tried to be connected to.
const CONNECTED_AFTER: Duration = Duration::from_secs(10);
/// How long it may take to go on with an answer.
const ANSWERED_AFTER: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_is_named_as_who_grants_it_writes_it() {
        let right = Right { verb: "get", group: "", resource: "pods/log", namespace: "" };
        assert_eq!(right.to_string(), "get pods/log");
        let right =
            Right { verb: "list", group: "apps", resource: "daemonsets", namespace: "kube-system" };
        assert_eq!(right.to_string(), "list daemonsets.apps in the namespace kube-system");
    }
}
