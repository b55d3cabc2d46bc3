//! Lists and watches, as an API server has them; `writes` has what else is asked of it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::stream;
use millrace_kube::{Access, Cluster};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use crate::writes;

/// A server, on a port of the loopback.
pub(crate) struct Server {
    told: Arc<Told>,
    runtime: Runtime,
    port: u16,
    folder: tempfile::TempDir,
}

pub(super) struct Told {
    /// What happened, in this order, by resource.
    events: Mutex<Vec<(String, Value)>>,
    /// What was written, in this order: by whom, what it was about, and what it said.
    pub(super) written: Mutex<Vec<(String, Value)>>,
    /// How much of it is told of in lists alone.
    forgotten: AtomicUsize,
    lists: AtomicUsize,
    /// What who asked last has shown.
    asker: Mutex<Option<String>>,
    /// A resource that there is none of, or that may not be asked for, as this code says.
    lacks: Mutex<Option<(String, StatusCode)>>,
    /// A resource whose status may not be written, and how often that was tried.
    pub(super) unwritable: Mutex<(Option<String>, usize)>,
    /// How many events there are; sent once more when connections are to be cut.
    count: watch::Sender<usize>,
    cuts: watch::Sender<usize>,
    is_away: watch::Sender<bool>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a thread");
        let told = Arc::new(Told {
            // versions begin with 1
            events: Mutex::new(vec![(String::new(), Value::Null)]),
            written: Mutex::default(),
            forgotten: AtomicUsize::new(0),
            lists: AtomicUsize::new(0),
            asker: Mutex::default(),
            lacks: Mutex::default(),
            unwritable: Mutex::default(),
            count: watch::Sender::new(0),
            cuts: watch::Sender::new(0),
            is_away: watch::Sender::new(false),
        });
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let routes = Router::new()
            .route("/api/v1/{resource}", get(core))
            // other groups of other versions are not there at all
            .route("/apis/{group}/v1/{resource}", get(grouped))
            .route("/apis/millrace.dev/v1alpha1/{resource}", get(own))
            .merge(writes::routes())
            .with_state(Arc::clone(&told));
        runtime.spawn(async move { axum::serve(listener, routes).await });
        Self { told, runtime, port, folder: tempfile::tempdir().expect("a folder") }
    }

    /// Who follows it.
    pub(crate) fn followed(&self) -> Cluster {
        self.followed_and_kept(None)
    }

    /// Who follows it, and keeps what it says in this folder.
    pub(crate) fn followed_and_kept(&self, kept: Option<&std::path::Path>) -> Cluster {
        let kubeconfig = json!({
            "clusters": [{"name": "c", "cluster": {"server": format!("http://127.0.0.1:{}", self.port)}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        });
        let path = self.folder.path().join("kubeconfig");
        fs::write(&path, kubeconfig.to_string()).expect("the folder can be written");
        Cluster::follow(&Access::Kubeconfig(path), kept).expect("it is a kubeconfig")
    }

    /// Who follows it as a service account with this token.
    pub(crate) fn followed_with(&self, token: &str) -> Cluster {
        let folder = self.folder.path().join("account");
        fs::create_dir(&folder).expect("the folder can be written");
        fs::write(folder.join("token"), token).expect("the folder can be written");
        fs::write(folder.join("ca.crt"), AUTHORITY).expect("the folder can be written");
        let server = format!("http://127.0.0.1:{}", self.port);
        let access = Access::ServiceAccount { server, folder };
        Cluster::follow(&access, None).expect("it is a service account")
    }

    /// As whom it was asked last.
    pub(crate) fn asked_as(&self) -> Option<String> {
        self.told.asker.lock().clone()
    }

    /// There is such an object.
    pub(crate) fn put(&self, resource: &str, name: &str, object: &str) {
        let mut object: Value = serde_json::from_str(object).expect("it is JSON");
        let generation = self.told.versions(resource, name) + 1;
        object["metadata"] = json!({"name": name, "uid": name, "generation": generation});
        if is_in_a_namespace(resource) {
            object["metadata"]["namespace"] = json!("default");
        }
        self.told.happened(resource, "MODIFIED", object);
    }

    /// The status of one of this name, as it is now.
    pub(crate) fn status(&self, resource: &str, name: &str) -> Value {
        self.told.last(resource, name)["status"].clone()
    }

    /// What was written about it, or all of a kind's, as patches or objects.
    pub(crate) fn written(&self, about: &str) -> Vec<Value> {
        let written = self.told.written.lock();
        let found = written.iter().filter(|(it, _)| it.starts_with(about));
        found.map(|(_, what)| what.clone()).collect()
    }

    /// There is none of this name any more.
    pub(crate) fn delete(&self, resource: &str, name: &str) {
        let namespace = is_in_a_namespace(resource).then_some("default");
        let object = json!({"metadata": {"name": name, "namespace": namespace}});
        self.told.happened(resource, "DELETED", object);
    }

    /// Has no such resource.
    pub(crate) fn lack(&self, resource: Option<&str>) {
        *self.told.lacks.lock() = resource.map(|it| (it.to_owned(), StatusCode::NOT_FOUND));
    }

    /// Does not let such a resource be asked for.
    pub(crate) fn forbid(&self, resource: &str) {
        *self.told.lacks.lock() = Some((resource.to_owned(), StatusCode::FORBIDDEN));
    }

    /// Does not let the status of such a resource be written, from now on.
    pub(crate) fn forbid_writing(&self, resource: Option<&str>) {
        self.told.unwritable.lock().0 = resource.map(str::to_owned);
    }

    /// How often that was tried.
    pub(crate) fn refused(&self) -> usize {
        self.told.unwritable.lock().1
    }

    /// Ends all watches.
    pub(crate) fn cut(&self) {
        self.told.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Ends all watches, and remembers nothing of what happened until after `meanwhile`.
    pub(crate) fn forget(&self, meanwhile: impl FnOnce(&Self)) {
        self.told.is_away.send_replace(true);
        meanwhile(self);
        let events = self.told.events.lock().len();
        self.told.forgotten.store(events, Ordering::Release);
        self.told.is_away.send_replace(false);
    }

    /// Ends all watches, and answers nothing.
    pub(crate) fn leave(&self) {
        self.told.is_away.send_replace(true);
    }

    pub(crate) fn come_back(&self) {
        self.told.is_away.send_replace(false);
    }

    /// How many lists it was asked for.
    pub(crate) fn lists(&self) -> usize {
        self.told.lists.load(Ordering::Acquire)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.leave();
        // what is asked meanwhile is not waited for
        let idle = Builder::new_current_thread().build().expect("a runtime");
        std::mem::replace(&mut self.runtime, idle).shutdown_background();
    }
}

impl Told {
    /// How many times there was one.
    fn versions(&self, resource: &str, name: &str) -> usize {
        let events = self.events.lock();
        let same = |(of, event): &&(String, Value)| {
            of == resource && event["object"]["metadata"]["name"] == name
        };
        events.iter().filter(same).count()
    }

    /// An object as it is now.
    pub(super) fn last(&self, resource: &str, name: &str) -> Value {
        let events = self.events.lock();
        let mut same = events
            .iter()
            .rev()
            .filter(|(of, event)| of == resource && event["object"]["metadata"]["name"] == name);
        same.next().map_or(Value::Null, |(_, event)| event["object"].clone())
    }

    pub(super) fn happened(&self, resource: &str, what: &str, mut object: Value) {
        let mut events = self.events.lock();
        object["metadata"]["resourceVersion"] = json!((events.len() + 1).to_string());
        events.push((resource.to_owned(), json!({"type": what, "object": object})));
        self.count.send_replace(events.len());
    }

    fn list(&self, resource: &str) -> Value {
        self.lists.fetch_add(1, Ordering::AcqRel);
        let events = self.events.lock();
        let mut objects = BTreeMap::new();
        for (_, event) in events.iter().filter(|(of, _)| of == resource) {
            let name = event["object"]["metadata"]["name"].to_string();
            match event["type"] == "DELETED" {
                true => objects.remove(&name),
                false => objects.insert(name, event["object"].clone()),
            };
        }
        let items: Vec<_> = objects.into_values().collect();
        let version = events.len().to_string();
        json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items})
    }
}

async fn core(
    State(told): State<Arc<Told>>,
    Path(resource): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    *told.asker.lock() =
        headers.get(AUTHORIZATION).and_then(|it| it.to_str().ok()).map(str::to_owned);
    answer(told, resource, &query)
}

async fn grouped(
    State(told): State<Arc<Told>>,
    Path((_, resource)): Path<(String, String)>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    answer(told, resource, &query)
}

async fn own(
    State(told): State<Arc<Told>>,
    Path(resource): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    answer(told, resource, &query)
}

fn is_in_a_namespace(resource: &str) -> bool {
    ["pods", "services", "networkpolicies", "gateways", "tcproutes", "udproutes"]
        .contains(&resource)
}

fn answer(told: Arc<Told>, resource: String, query: &BTreeMap<String, String>) -> Response {
    if *told.is_away.borrow() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let lacks = told.lacks.lock().clone();
    if let Some((_, code)) = lacks.filter(|(lacking, _)| *lacking == resource) {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure",
            "reason": code.canonical_reason(), "message": "not to be had", "code": code.as_u16(),
        });
        return (code, axum::Json(status)).into_response();
    }
    let label = query.get("labelSelector").map(String::as_str);
    if label != (resource == "configmaps").then_some("millrace.dev/filters") {
        return StatusCode::BAD_REQUEST.into_response();
    }
    if query.get("watch").is_none_or(|watch| watch != "true") {
        return axum::Json(told.list(&resource)).into_response();
    }
    let since = query.get("resourceVersion").and_then(|it| it.parse::<usize>().ok());
    let since = since.unwrap_or_default();
    if since < told.forgotten.load(Ordering::Acquire) {
        let gone = json!({"type": "ERROR", "object": {
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired",
            "message": "too old resource version", "code": 410,
        }});
        return format!("{gone}\n").into_response();
    }
    Body::from_stream(stream::unfold(Watching::new(told, resource, since), Watching::next))
        .into_response()
}

/// A watch.
struct Watching {
    resource: String,
    /// How many events were told.
    told_of: usize,
    count: watch::Receiver<usize>,
    cuts: watch::Receiver<usize>,
    is_away: watch::Receiver<bool>,
    told: Arc<Told>,
}

impl Watching {
    fn new(told: Arc<Told>, resource: String, since: usize) -> Self {
        let (count, mut cuts) = (told.count.subscribe(), told.cuts.subscribe());
        let is_away = told.is_away.subscribe();
        cuts.mark_unchanged();
        Self { resource, told_of: since, count, cuts, is_away, told }
    }

    /// The next event as a line; `None` when the watch is cut.
    async fn next(mut self) -> Option<(Result<String, Infallible>, Self)> {
        loop {
            // who is away tells nothing of what happens meanwhile
            if *self.is_away.borrow() {
                return None;
            }
            let next = self.told.events.lock().get(self.told_of).cloned();
            if let Some((resource, event)) = next {
                self.told_of += 1;
                if resource == self.resource {
                    return Some((Ok(format!("{event}\n")), self));
                }
                continue;
            }
            tokio::select! {
                _ = self.count.changed() => {}
                _ = self.cuts.changed() => return None,
                _ = self.is_away.wait_for(|is_away| *is_away) => return None,
            }
        }
    }
}

/// Whom a client trusts that is not asked to trust anybody: nobody has its key.
const AUTHORITY: &str = "\
-----BEGIN CERTIFICATE-----
MIIBeDCCAR+gAwIBAgIUYaF2NsooHDKMo7b8JacY5OAj04kwCgYIKoZIzj0EAwIw
ETEPMA0GA1UEAwwGbm9ib2R5MCAXDTI2MTEyMjAwNDY1OVoYDzIxMjYxMDI5MDA0
NjU5WjARMQ8wDQYDVQQDDAZub2JvZHkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AATPT0NfK1OyEvXsJJ6UqK3Ifoqx9XZPwkE3B4V5EyNRnh9oQv4r5qiRJTeijSkX
HVOF1ou46IDy3umNTl7jY3cAo1MwUTAdBgNVHQ4EFgQU9bV4oiAzdD4UwRD1PnO4
SOrd09MwHwYDVR0jBBgwFoAU9bV4oiAzdD4UwRD1PnO4SOrd09MwDwYDVR0TAQH/
BAUwAwEB/zAKBggqhkjOPQQDAgNHADBEAiBiV2zQt0MROwN3CIpWArUCTzhcy/67
SneTo+xWybwD7QIgNVe2Qu8gyARcy9rttMyjNQ3fp1+ilafkEEiFcf8AvIs=
-----END CERTIFICATE-----
";
