//! Follows the objects of one kind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, DefaultBackoff, Error, Event, watcher};
use kube::{Api, Client};
use millrace_control::manifest::Kind;
use millrace_control::source::Objects;
use parking_lot::{Condvar, Mutex};
use serde_norway::Value;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::about::{About, Heard, has_status};
use crate::kept::Keeper;
use crate::report::Key;

/// What was told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) objects: Objects,
    /// What else is to be known of those that something may have to be said of.
    pub(crate) abouts: BTreeMap<Key, About>,
    /// What was known when it was read last.
    pub(crate) heard: Heard,
    /// The kinds of which all objects were told at least once.
    whole: BTreeSet<Kind>,
    /// Whether it was said that all of them were.
    is_kept_whole: bool,
    /// Whether nothing was told since it was read.
    pub(crate) is_read: bool,
    /// When it was.
    pub(crate) read_last: Option<Instant>,
}

impl Told {
    pub(crate) fn is_whole(&self) -> bool {
        self.whole.len() == Kind::ALL.len()
    }
}

/// Follows a kind for as long as its runtime lives; `changed` is told of kinds with a status of our own, and
/// `back` of a server that tells again, for those that wait to ask it.
pub(crate) async fn watch(
    client: Client,
    kind: Kind,
    told: Arc<(Mutex<Told>, Condvar)>,
    changed: Arc<Notify>,
    back: Arc<Notify>,
    keeper: Keeper,
) {
    let objects: Api<DynamicObject> = Api::all_with(client, &resource(kind));
    let config = watcher::Config::default();
    let config = match kind.label() {
        Some(label) => config.labels(label),
        None => config,
    };
    let follow = || watcher(objects.clone(), config.clone()).boxed();
    let mut events = follow();
    let mut pauses = DefaultBackoff::default();
    let longest = if kind == Kind::Node { PROBED } else { LONGEST_PAUSE };
    let (mut listed, mut abouts, mut lean) = (Vec::new(), Vec::new(), Vec::new());
    let (mut is_away, mut is_absent) = (false, false);
    let tell = |change: &mut dyn FnMut(&mut Told)| {
        let mut told_now = told.0.lock();
        change(&mut told_now);
        told_now.is_read = false;
        told.1.notify_all();
        if has_status(kind) {
            changed.notify_one();
        }
        if told_now.is_whole() && !std::mem::replace(&mut told_now.is_kept_whole, true) {
            // all that is to be kept of it was said before
            keeper.whole();
        }
    };
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => {
                // it is asked, and has not told anything yet
                listed.clear();
                abouts.clear();
                lean.clear();
                continue;
            }
            Ok(Event::InitApply(object)) => {
                abouts.extend(About::of(kind, &object));
                lean.extend(keeper.lean(kind, &object));
                listed.extend(value(&object));
            }
            Ok(Event::InitDone) => {
                keeper.all(kind, lean.drain(..));
                tell(&mut |told| {
                    told.objects.replace(kind, listed.drain(..));
                    told.abouts.retain(|(of, _), _| *of != kind);
                    told.abouts.extend(abouts.drain(..));
                    told.whole.insert(kind);
                })
            }
            Ok(Event::Apply(object)) => {
                keeper.put(kind, &object);
                tell(&mut |told| {
                    told.abouts.extend(About::of(kind, &object));
                    value(&object).into_iter().for_each(|object| told.objects.put(kind, object));
                })
            }
            Ok(Event::Delete(object)) => {
                keeper.remove(kind, &object);
                tell(&mut |told| {
                    let about = About::of(kind, &object);
                    about.into_iter().for_each(|(key, _)| drop(told.abouts.remove(&key)));
                    value(&object)
                        .into_iter()
                        .for_each(|object| told.objects.remove(kind, &object));
                })
            }
            Err(error) if is_of_nothing(kind, &error) => {
                // the cluster has no such kind, or not yet, or no more; or modules are in files alone
                if !std::mem::replace(&mut is_absent, true) {
                    keeper.all(kind, []);
                    tell(&mut |told| {
                        told.objects.replace(kind, []);
                        told.abouts.retain(|(of, _), _| *of != kind);
                        told.whole.insert(kind);
                    });
                }
                sleep(pause(&mut pauses)).await;
                // where a watch was is nothing that one could go on from
                events = follow();
                continue;
            }
            Err(error) => {
                if !is_away {
                    let kind = kind.name();
                    tracing::warn!(kind, %error, "what the API server said last stays in force");
                }
                is_away = true;
                if is_of_the_past(&error) {
                    pauses.reset();
                    back.notify_waiters();
                }
                // it is away for all kinds, and the first that hears of it again has the others ask at once
                tokio::select! {
                    () = sleep(pause(&mut pauses).min(longest)) => {}
                    () = back.notified() => {}
                }
                continue;
            }
        }
        is_absent = false;
        pauses.reset();
        if std::mem::take(&mut is_away) {
            tracing::info!(kind = kind.name(), "the API server tells again");
            back.notify_waiters();
        }
    }
}

/// How long a server is not asked that has failed to answer.
fn pause(pauses: &mut DefaultBackoff) -> Duration {
    pauses.next().map_or(LONGEST_PAUSE, |it| it.min(LONGEST_PAUSE))
}

/// Whether a server says that it has no such kind. Of a group that is not there it says no more than the
/// code; and an account that may not list modules has none.
fn is_of_nothing(kind: Kind, error: &Error) -> bool {
    match error {
        Error::InitialListFailed(kube::Error::Api(status)) => {
            status.code == NOT_FOUND || status.code == FORBIDDEN && kind == Kind::Modules
        }
        Error::WatchStartFailed(kube::Error::Api(status)) => status.code == NOT_FOUND,
        _ => false,
    }
}

/// Whether a server is back that knows no more of what happened since: all is to be asked for anew.
fn is_of_the_past(error: &Error) -> bool {
    matches!(error, Error::WatchError(status) if status.code == GONE)
}

/// How the API server calls the objects of a kind.
pub(crate) fn resource(kind: Kind) -> ApiResource {
    let (group, version) = kind.api_version().split_once('/').unwrap_or(("", kind.api_version()));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind.name()))
}

/// The object as manifests have it.
fn value(object: &DynamicObject) -> Option<Value> {
    match serde_norway::to_value(object) {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::error!(name = object.metadata.name, %error, "it cannot be read");
            None
        }
    }
}

/// How long a kind is not asked for that is not there, or whose server is not.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The same of the kind that is asked for on behalf of all, to know that a server is back.
const PROBED: Duration = Duration::from_secs(5);
/// RFC 9110 section 15.5.11.
const GONE: u16 = 410;
/// RFC 9110 section 15.5.4.
const FORBIDDEN: u16 = 403;
/// RFC 9110 section 15.5.5.
const NOT_FOUND: u16 = 404;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_asked_for_by_the_names_that_the_api_server_has_for_them() {
        let paths: Vec<_> = Kind::ALL.map(resource).into_iter().collect();
        let names: Vec<_> =
            paths.iter().map(|it| format!("{}/{}", it.api_version, it.plural)).collect();
        for (name, is_there) in [
            ("v1/nodes", true),
            ("v1/pods", true),
            ("discovery.k8s.io/v1/endpointslices", true),
            ("networking.k8s.io/v1/servicecidrs", true),
            ("networking.k8s.io/v1/networkpolicies", true),
            ("policy.networking.k8s.io/v1alpha2/clusternetworkpolicies", true),
            ("millrace.dev/v1alpha1/addresspools", true),
            ("millrace.dev/v1alpha1/filters", true),
            ("millrace.dev/v1alpha1/filterchains", true),
            ("v1/configmaps", true),
            ("gateway.networking.k8s.io/v1/gatewayclasses", true),
            ("gateway.networking.k8s.io/v1/gateways", true),
            ("gateway.networking.k8s.io/v1/tcproutes", true),
            ("gateway.networking.k8s.io/v1/udproutes", true),
            ("gateway.networking.k8s.io/v1/referencegrants", true),
        ] {
            assert_eq!(names.iter().any(|it| it == name), is_there, "{names:?}");
        }
    }
}
