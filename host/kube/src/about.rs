//! What an API server says of an object beside what it is to be.

use std::collections::BTreeMap;

use kube::core::DynamicObject;
use millrace_control::manifest::Kind;
use millrace_control::source::Complaint;
use serde_json::Value;

use crate::report::{Key, Report};

/// Of one object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct About {
    /// What tells it from others that had its name before.
    pub(crate) uid: String,
    /// What tells it from what it was before.
    pub(crate) version: String,
    /// Counts what it was to be.
    pub(crate) generation: i64,
    /// What was said of it, if we say something.
    pub(crate) status: Value,
}

/// What was known when the world was read last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// The generations of objects that we say something of.
    pub(crate) generations: BTreeMap<Key, i64>,
    /// Why objects do not count.
    pub(crate) complaints: BTreeMap<Key, String>,
}

/// An object of whose status something may have to be written, and all that there is to say of it.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) key: &'a Key,
    pub(crate) about: &'a About,
    /// Which one was read: what is yet to be read is yet to be judged.
    pub(crate) generation: i64,
    pub(crate) heard: &'a Heard,
    pub(crate) report: &'a Report,
    /// The time (RFC 3339).
    pub(crate) now: &'a str,
}

impl About {
    /// Of an object of this kind, if something may have to be said of it.
    pub(crate) fn of(kind: Kind, object: &DynamicObject) -> Option<(Key, Self)> {
        let is_of_concern = has_status(kind)
            || matches!(
                kind,
                Kind::Node | Kind::Service | Kind::NetworkPolicy | Kind::ClusterNetworkPolicy
            );
        let metadata = &object.metadata;
        let name = metadata.name.as_ref().filter(|_| is_of_concern)?;
        let name = match &metadata.namespace {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name.clone(),
        };
        let status = object.data.get("status").filter(|_| has_status(kind));
        let about = Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            version: metadata.resource_version.clone().unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            status: status.cloned().unwrap_or_default(),
        };
        Some(((kind, name), about))
    }
}

impl Heard {
    /// Of these objects, of which some do not count.
    pub(crate) fn of(abouts: &BTreeMap<Key, About>, complaints: &[Complaint]) -> Self {
        let own = abouts.iter().filter(|((kind, _), _)| has_status(*kind));
        let complaints = complaints.iter().filter_map(|complaint| {
            let (kind, name) = complaint.object.as_ref()?.split_once(' ')?;
            let kind = Kind::ALL.into_iter().find(|it| it.name() == kind)?;
            Some(((kind, name.to_owned()), complaint.fault.to_string()))
        });
        Self {
            generations: own.map(|(key, about)| (key.clone(), about.generation)).collect(),
            complaints: complaints.collect(),
        }
    }
}

/// Whether we say what has become of objects of a kind.
pub(crate) fn has_status(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::AddressPool
            | Kind::Filter
            | Kind::FilterChain
            | Kind::GatewayClass
            | Kind::Gateway
            | Kind::TcpRoute
            | Kind::UdpRoute
    )
}
