//! Writes what a node has to say: status of objects, addresses of Services, Events.
//!
//! Owns the pace. Whatever happens, a node writes an object once in a second at most, and nodes take
//! turns when something concerns all of them; what is refused is tried again by and by. Nothing else
//! waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::{Api, Client, Error};
use millrace_control::manifest::Kind;
use millrace_control::rendezvous;
use parking_lot::{Condvar, Mutex};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, sleep_until};

use crate::about::{About, Heard, Subject};
use crate::events::{Said, Trouble};
use crate::report::{Key, Report};
use crate::watch::{Told, resource};
use crate::{gateways, status};

/// What a node has to say, and what it knew when it said so.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Reported {
    pub(crate) report: Report,
    pub(crate) heard: Heard,
}

/// Who writes.
pub(crate) struct Writer {
    client: Client,
    told: Arc<(Mutex<Told>, Condvar)>,
    /// When an object may be written again.
    rests: BTreeMap<Key, Instant>,
    said: Said,
    /// What was refused last, by what it was about.
    refused: BTreeSet<String>,
}

/// What is to be written now.
#[derive(Default)]
struct Due {
    /// Patches of objects' status.
    patches: Vec<(Key, Value)>,
    events: Vec<(Trouble, About)>,
    /// When there is more to write, if there is.
    again: Option<Instant>,
}

impl Writer {
    pub(crate) fn new(client: Client, told: Arc<(Mutex<Told>, Condvar)>) -> Self {
        let said = Said::nothing(Instant::now());
        Self { client, told, rests: BTreeMap::new(), said, refused: BTreeSet::new() }
    }

    /// Writes for as long as there is something to say: whenever that changes, and whenever objects do.
    pub(crate) async fn write(
        mut self,
        mut reported: watch::Receiver<Arc<Reported>>,
        changed: Arc<Notify>,
    ) {
        let mut again = None;
        loop {
            tokio::select! {
                _ = changed.notified() => {}
                it = reported.changed() => if it.is_err() { return },
                _ = sleep_until(again.unwrap_or_else(Instant::now).into()), if again.is_some() => {}
            }
            let now_said = Arc::clone(&reported.borrow_and_update());
            if now_said.report.node.is_empty() {
                continue;
            }
            sleep(turn(&now_said.report)).await;
            let due = self.due(&now_said);
            again = due.again;
            for (key, patch) in due.patches {
                let outcome = self.patch(&key, &patch).await;
                let rest = if self.went_well(&key, outcome) { PACE } else { PATIENCE };
                self.rests.insert(key, Instant::now() + rest);
                again =
                    Some(again.map_or(Instant::now() + rest, |it| it.min(Instant::now() + rest)));
            }
            for (trouble, about) in due.events {
                let (namespace, event) = trouble.event(&about, &now_said.report.node);
                let outcome = self.create(&namespace, &event).await;
                if self.went_well(&trouble.object, outcome) {
                    self.said.note(trouble);
                } else {
                    again = again.or(Some(Instant::now() + PATIENCE));
                }
            }
        }
    }

    /// What is to be written, of objects that may be.
    fn due(&mut self, Reported { report, heard }: &Reported) -> Due {
        let now = Instant::now();
        let time = Timestamp::now().to_string();
        self.rests.retain(|_, end| *end > now);
        let told = self.told.0.lock();
        let of = |key: &Key| told.abouts.get(key);
        let own = heard.generations.iter().filter_map(|(key, &generation)| {
            let patch = match key.0 {
                Kind::AddressPool | Kind::Filter | Kind::FilterChain => status::patch,
                _ => gateways::patch,
            };
            let about = of(key)?;
            let subject = Subject { key, about, generation, heard, report, now: &time };
            Some((key.clone(), patch(subject)?))
        });
        let given = if report.gives_addresses() { &report.addresses[..] } else { &[] };
        let given = given.iter().filter_map(|(name, addresses)| {
            let key = (Kind::Service, name.to_string());
            let ingress: Vec<_> = addresses.iter().map(|it| json!({ "ip": it })).collect();
            let patch = json!({
                // whoever has changed it meanwhile has perhaps given it one
                "metadata": { "resourceVersion": of(&key)?.version },
                "status": { "loadBalancer": { "ingress": ingress } },
            });
            Some((key, patch))
        });
        let (patches, resting): (Vec<_>, Vec<_>) =
            own.chain(given).partition(|(key, _)| !self.rests.contains_key(key));
        let ends = resting.iter().filter_map(|(key, _)| self.rests.get(key).copied());
        let mut again = ends.min();

        let entries = |key: &Key| {
            of(key).map_or_else(BTreeMap::new, |it| status::entries(key, it, heard, report))
        };
        let mut troubles = Trouble::all(heard, report, entries);
        // one that is gone by now has none any more
        troubles.retain(|it| of(&it.object).is_some());
        let (troubles, is_all) = self.said.due(troubles, now);
        if !is_all {
            again = Some(again.map_or(now + PATIENCE, |it| it.min(now + PATIENCE)));
        }
        let with_about = |it: Trouble| of(&it.object).cloned().map(|about| (it, about));
        Due { patches, events: troubles.into_iter().filter_map(with_about).collect(), again }
    }

    async fn patch(&self, (kind, name): &Key, patch: &Value) -> Result<(), Error> {
        let resource = resource(*kind);
        let client = self.client.clone();
        let (objects, name): (Api<DynamicObject>, _) = match name.split_once('/') {
            Some((namespace, name)) => (Api::namespaced_with(client, namespace, &resource), name),
            None => (Api::all_with(client, &resource), &**name),
        };
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..<_>::default() };
        objects.patch_status(name, &params, &Patch::Merge(patch)).await.map(drop)
    }

    async fn create(&self, namespace: &str, event: &Event) -> Result<(), Error> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        match events.create(&PostParams::default(), event).await {
            // it was said before a restart
            Err(Error::Api(status)) if status.code == CONFLICT => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Whether something was written; if not, that is logged, once.
    fn went_well(&mut self, (kind, name): &Key, outcome: Result<(), Error>) -> bool {
        let what = format!("{} {name}", kind.name());
        match outcome {
            Ok(()) => drop(self.refused.remove(&what)),
            Err(Error::Api(status)) if matches!(status.code, CONFLICT | NOT_FOUND) => {
                // it has changed, or is gone, as will be told
                tracing::debug!(object = what, message = status.message, "not written yet");
                return false;
            }
            Err(error) => {
                if self.refused.insert(what.clone()) {
                    tracing::warn!(object = what, %error, "what is to be said of it is not written");
                }
                return false;
            }
        }
        true
    }
}

/// How long a node waits for others to write: all of them together a while that grows with them.
fn turn(report: &Report) -> Duration {
    let all = SHARE.saturating_mul(u32::try_from(report.nodes.len()).unwrap_or(u32::MAX));
    let part = rendezvous::rank("turn", &report.node) as f64 / u64::MAX as f64;
    all.min(LONGEST_TURN).mul_f64(part)
}

/// Who owns the fields that are written.
const MANAGER: &str = "millrace";
/// How long an object rests that was written.
const PACE: Duration = Duration::from_secs(1);
/// How long one rests that could not be.
const PATIENCE: Duration = Duration::from_secs(5);
/// What each node adds to the while in which all have their turn.
const SHARE: Duration = Duration::from_millis(5);
/// The longest one.
const LONGEST_TURN: Duration = Duration::from_secs(5);
/// RFC 9110 section 15.5.10.
const CONFLICT: u16 = 409;
/// RFC 9110 section 15.5.5.
const NOT_FOUND: u16 = 404;
