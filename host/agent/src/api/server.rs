//! Answers requests: the routes, what handlers share, and requests that are no JSON.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::routing::{delete, get, post, put};
use millrace_abi::ABI_VERSION;
use millrace_dataplane::control::{Dataplane, PortError};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};

use crate::api::error::ApiError;
use crate::api::types::{FateStatus, HostStatus, MAX_BODY, Pauses, RuleDrops, Stats, WorkerStatus};
use crate::api::{
    attachments, capture, filters, flows, logs, maps, policies, ports, redecide, services,
    succession, trace,
};
use crate::node::chain::POLICY;
use crate::node::cni::CniArgs;
use crate::node::host_maps::KeptMaps;
use crate::node::{Known, Pods};
use crate::output::quoted_names;

/// What requests are about.
pub(crate) struct Host {
    /// The dataplane.
    pub(crate) plane: Dataplane,
    /// The pods, if this is a node of a cluster.
    pub(crate) pods: Option<Mutex<Pods>>,
    /// What has become of Services and policies, if this is a node of a cluster.
    pub(crate) known: Option<Arc<Mutex<Known>>>,
    /// What is installed for container runtimes, if this is a node of a cluster.
    pub(crate) cni: Option<CniArgs>,
    /// Host maps as the next one finds them, if this is a node of a cluster.
    pub(crate) maps: Option<Mutex<KeptMaps>>,
    /// Whether another host is taking over.
    pub(crate) leaving: AtomicBool,
    /// Told when another host has taken over.
    pub(crate) relieved: Notify,
    /// Told when the node is not the one any more that it was started for.
    pub(crate) outdated: Notify,
    /// Since when it runs.
    pub(crate) started: Instant,
    /// Where its metrics are, if anywhere.
    pub(crate) metrics: Option<String>,
    /// What ends the captures and live traces that go on.
    pub(crate) looking_on: Mutex<Vec<Weak<capture::End>>>,
    /// True once the host is to end: whoever streams stops then.
    pub(crate) ended: watch::Receiver<bool>,
}

/// A host, as handlers get it.
pub(super) type Shared = State<Arc<Host>>;

/// An answer in JSON.
pub(super) type Answer<T> = Result<Json<T>, ApiError>;

/// A request's body: JSON, whatever its content type says.
pub(super) struct Body<T>(pub(super) T);

/// Everything that can be asked.
pub(crate) fn routes(host: Arc<Host>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/stats", get(stats))
        .route("/v1/fates", get(fates))
        .route("/v1/fates/rules", get(drops_by_rule))
        .route("/v1/workers", get(workers))
        .route("/v1/pauses", get(pauses))
        .route("/v1/ports", get(ports::list).post(ports::add))
        .route("/v1/ports/{port}", delete(ports::remove))
        .route("/v1/attachments", get(attachments::list))
        .route(
            "/v1/attachments/{container}/{interface}",
            get(attachments::show).put(attachments::attach).delete(attachments::detach),
        )
        .route("/v1/attachments/{container}/{interface}/check", post(attachments::check))
        .route("/v1/services", get(services::list))
        .route("/v1/policies", get(policies::list))
        .route("/v1/succession/leave", post(succession::leave))
        .route("/v1/succession/drain", post(succession::drain))
        .route("/v1/succession/stay", post(succession::stay))
        .route("/v1/flows", get(flows::list))
        .route("/v1/redecide", post(redecide::redecide))
        .route("/v1/trace", post(trace::trace))
        .route("/v1/trace/live", get(capture::live))
        .route("/v1/capture", get(capture::capture).delete(capture::end))
        .route("/v1/filters", get(filters::list).post(filters::load))
        .route("/v1/filters/{name}", get(filters::show).delete(filters::remove))
        .route("/v1/filters/{name}/module", put(filters::swap))
        .route("/v1/filters/{name}/config", put(filters::configure))
        .route("/v1/filters/{name}/mode", put(filters::set_mode))
        .route("/v1/filters/{name}/position", put(filters::move_to))
        .route("/v1/filters/{name}/rollback", post(filters::roll_back))
        .route(
            "/v1/filters/{name}/canary",
            put(filters::start_canary).delete(filters::abandon_canary),
        )
        .route("/v1/filters/{name}/canary/promote", post(filters::promote_canary))
        .route("/v1/filters/{name}/logs", get(logs::logs))
        .route("/v1/filters/{name}/maps", get(maps::list))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(host)
}

impl Host {
    /// Asks the dataplane on a thread that may block.
    pub(super) async fn ask<T, E>(
        self: &Arc<Self>,
        question: impl FnOnce(&Self) -> Result<T, E> + Send + 'static,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        E: Send + 'static,
        ApiError: From<E>,
    {
        let host = Arc::clone(self);
        let asked = tokio::task::spawn_blocking(move || question(&host)).await;
        let broken = |error| {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("broken off: {error}"))
        };
        Ok(asked.map_err(broken)??)
    }

    /// The pods, if there can be any.
    pub(super) fn pods(&self) -> Result<&Mutex<Pods>, ApiError> {
        let none = || ApiError::not_found("this host has no pods: it is no `millrace node`");
        self.pods.as_ref().ok_or_else(none)
    }

    /// The pods, if they may be changed.
    pub(super) fn own_pods(&self) -> Result<&Mutex<Pods>, ApiError> {
        if self.leaving.load(Ordering::Acquire) {
            let error = "another host is taking over: ask again in a moment";
            return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error));
        }
        self.pods()
    }

    /// Everything that is counted, now.
    pub(crate) fn stats(&self) -> Result<Stats, PortError> {
        Ok(Stats {
            uptime_ms: self.uptime_ms(),
            cache: self.plane.cache()?,
            ports: self.plane.ports()?,
            pods: self.pods_by_port(),
            workers: self.plane.workers()?,
            filters: self.plane.stages()?,
            fates: self.fates()?,
            refused: self.known.as_ref().map_or_else(Vec::new, |it| it.lock().refusals.status()),
            addresses: self.pods.as_ref().map_or_else(Vec::new, |pods| pods.lock().addresses()),
        })
    }

    /// What became of packets, those in the kernel included.
    fn fates(&self) -> Result<Vec<FateStatus>, PortError> {
        let mut fates = self.plane.fates();
        fates.extend(self.plane.kernel_drops()?);
        Ok(fates)
    }

    /// The pods behind ports, as `namespace/name` by the port's name.
    pub(super) fn pods_by_port(&self) -> BTreeMap<String, String> {
        self.pods.as_ref().map_or_else(BTreeMap::new, |pods| {
            let pods = pods.lock();
            let attached = pods.attached().values();
            attached.map(|pod| (pod.port.clone(), pod.title().to_owned())).collect()
        })
    }

    /// What a rule of a policy is called that a stage has named.
    pub(super) fn policy_rule(&self, stage: Option<&str>, number: u32) -> Option<String> {
        let known = self.known.as_ref().filter(|_| stage == Some(POLICY))?;
        known.lock().rules.get(&number).cloned()
    }

    /// The port of a pod.
    pub(super) fn port_of_pod(&self, pod: &str) -> Result<String, ApiError> {
        let pods = self.pods_by_port();
        let port = pods.iter().find(|(_, name)| *name == pod).map(|(port, _)| port.clone());
        port.ok_or_else(|| {
            let there = quoted_names(pods.values());
            ApiError::not_found(format!("pod `{pod}` is not attached here; there are: {there}"))
        })
    }

    fn uptime_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

async fn status(State(host): Shared) -> Answer<HostStatus> {
    let status = host.ask(|host| {
        Ok::<_, ApiError>(HostStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            abi: ABI_VERSION,
            pid: std::process::id(),
            uptime_ms: host.uptime_ms(),
            metrics: host.metrics.clone(),
            cache: host.plane.cache()?,
            ports: ports::ports(host)?,
            filters: host.plane.stages()?,
            resources: host.known.as_ref().map(|known| known.lock().resources()),
            manifests: host.known.as_ref().and_then(|known| known.lock().manifests.clone()),
            workers: host.plane.workers()?,
            others: host.cni.as_ref().map(CniArgs::others).unwrap_or_default(),
            refused: host.known.as_ref().map_or_else(Vec::new, |it| it.lock().refusals.sentences()),
        })
    });
    Ok(Json(status.await?))
}

async fn stats(State(host): Shared) -> Answer<Stats> {
    Ok(Json(host.ask(|host| host.stats()).await?))
}

async fn fates(State(host): Shared) -> Answer<Vec<FateStatus>> {
    Ok(Json(host.ask(Host::fates).await?))
}

async fn drops_by_rule(State(host): Shared) -> Answer<Vec<RuleDrops>> {
    let named = |host: &Host| {
        let mut drops = host.plane.drops_by_rule();
        drops.extend(host.plane.kernel_drops_by_rule()?);
        for RuleDrops { stage, rule, .. } in &mut drops {
            rule.name = host.policy_rule(Some(stage), rule.id).or(rule.name.take());
        }
        Ok::<_, ApiError>(drops)
    };
    Ok(Json(host.ask(named).await?))
}

async fn workers(State(host): Shared) -> Answer<Vec<WorkerStatus>> {
    Ok(Json(host.ask(|host| host.plane.workers()).await?))
}

async fn pauses(State(host): Shared) -> Answer<Vec<Pauses>> {
    let counts = host.plane.pauses();
    let pauses = counts.buckets().map(|(bounds, count)| Pauses { below_ns: bounds.end, count });
    Ok(Json(pauses.collect()))
}

async fn unknown(uri: Uri) -> ApiError {
    ApiError::not_found(format!("there is no {}; API.md lists what there is", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let error = format!("{} cannot be asked to {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, error)
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes =
            Bytes::from_request(request, state).await.map_err(|rejection| match rejection {
                BytesRejection::FailedToBufferBody(cut)
                    if cut.status() == StatusCode::PAYLOAD_TOO_LARGE =>
                {
                    ApiError::new(cut.status(), format!("a request has at most {MAX_BODY} bytes"))
                }
                other => ApiError::new(other.status(), other.body_text()),
            })?;
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Self).map_err(|error| ApiError::bad_request(format!("the request: {error}")))
    }
}
