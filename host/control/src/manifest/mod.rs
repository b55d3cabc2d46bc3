//! Objects as Kubernetes writes them, in YAML or JSON: read into the world's types, and written.
//!
//! - `meta`, `condition`, `node`, `namespace`, `pod`, `service`, `slice`, `range`, `pool`, `policy`,
//!   `cluster_policy`, `policy_terms`, `filter`, `chain`, `modules`, `gateway`, `route`, `grant`,
//!   `selector`: the fields that count, of each kind; all others are passed over
//! - [`schema`]: what the API server checks of our own kinds, as these structs say it
//! - `field`: where in an object a field is
//!
//! The structs are our own, not `k8s-openapi`'s: those take any text for an address or a prefix,
//! and cannot say which field it was. Here a field is checked where it is read, so the reader
//! knows file, line and path of whatever is wrong with it. A source that watches an API server
//! reads the same objects with the same structs.

mod chain;
mod cluster_policy;
mod condition;
pub(crate) mod field;
mod filter;
mod gateway;
mod grant;
mod meta;
mod modules;
mod namespace;
mod node;
mod pod;
mod policy;
mod policy_terms;
mod pool;
mod range;
mod route;
pub mod schema;
mod selector;
mod service;
mod slice;

pub use field::FieldPath;

use serde::Serialize;
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde_norway::Value;

use crate::filter::{Filter, FilterChain, ModuleMap};
use crate::gateway::{Gateway, GatewayClass, ReferenceGrant, Route};
use crate::policy::{ClusterNetworkPolicy, NetworkPolicy};
use crate::{
    AddressPool, EndpointSlice, Namespace, Node, Pod, PodName, Protocol, Service, ServiceRange,
    World,
};
use chain::ChainManifest;
use cluster_policy::ClusterPolicyManifest;
use filter::FilterManifest;
use gateway::{GatewayClassManifest, GatewayManifest};
use grant::GrantManifest;
use modules::{MODULES_LABEL, ModulesManifest};
use namespace::NamespaceManifest;
use node::NodeManifest;
use pod::PodManifest;
use policy::PolicyManifest;
use pool::PoolManifest;
use range::RangeManifest;
use route::RouteManifest;
use service::ServiceManifest;
use slice::SliceManifest;

/// An object that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// `v1 Node`
    Node(Node),
    /// `v1 Namespace`
    Namespace(Namespace),
    /// `v1 Pod`
    Pod(Pod),
    /// `v1 Service`
    Service(Service),
    /// `discovery.k8s.io/v1 EndpointSlice`
    EndpointSlice(EndpointSlice),
    /// `networking.k8s.io/v1 ServiceCIDR`
    ServiceRange(ServiceRange),
    /// `networking.k8s.io/v1 NetworkPolicy`
    NetworkPolicy(NetworkPolicy),
    /// `policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy`
    ClusterNetworkPolicy(ClusterNetworkPolicy),
    /// `millrace.dev/v1alpha1 AddressPool`
    AddressPool(AddressPool),
    /// `millrace.dev/v1alpha1 Filter`
    Filter(Box<Filter>),
    /// `millrace.dev/v1alpha1 FilterChain`
    FilterChain(FilterChain),
    /// `v1 ConfigMap`
    Modules(ModuleMap),
    /// `gateway.networking.k8s.io/v1 GatewayClass`
    GatewayClass(GatewayClass),
    /// `gateway.networking.k8s.io/v1 Gateway`
    Gateway(Gateway),
    /// `gateway.networking.k8s.io/v1 TCPRoute`, or `UDPRoute`
    Route(Route),
    /// `gateway.networking.k8s.io/v1 ReferenceGrant`
    ReferenceGrant(ReferenceGrant),
}

/// The kinds of objects that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `v1 Node`
    Node,
    /// `v1 Namespace`
    Namespace,
    /// `v1 Pod`
    Pod,
    /// `v1 Service`
    Service,
    /// `discovery.k8s.io/v1 EndpointSlice`
    EndpointSlice,
    /// `networking.k8s.io/v1 ServiceCIDR`
    ServiceRange,
    /// `networking.k8s.io/v1 NetworkPolicy`
    NetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy`
    ClusterNetworkPolicy,
    /// `millrace.dev/v1alpha1 AddressPool`
    AddressPool,
    /// `millrace.dev/v1alpha1 Filter`
    Filter,
    /// `millrace.dev/v1alpha1 FilterChain`
    FilterChain,
    /// `v1 ConfigMap`
    Modules,
    /// `gateway.networking.k8s.io/v1 GatewayClass`
    GatewayClass,
    /// `gateway.networking.k8s.io/v1 Gateway`
    Gateway,
    /// `gateway.networking.k8s.io/v1 TCPRoute`
    TcpRoute,
    /// `gateway.networking.k8s.io/v1 UDPRoute`
    UdpRoute,
    /// `gateway.networking.k8s.io/v1 ReferenceGrant`
    ReferenceGrant,
}

/// A field that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct FieldError {
    /// Where it is in its object.
    pub field: FieldPath,
    /// What is wrong with it.
    pub reason: String,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 17] = [
        Self::Node,
        Self::Namespace,
        Self::Pod,
        Self::Service,
        Self::EndpointSlice,
        Self::ServiceRange,
        Self::NetworkPolicy,
        Self::ClusterNetworkPolicy,
        Self::AddressPool,
        Self::Filter,
        Self::FilterChain,
        Self::Modules,
        Self::GatewayClass,
        Self::Gateway,
        Self::TcpRoute,
        Self::UdpRoute,
        Self::ReferenceGrant,
    ];

    /// The kind with this name in a group's version, if it counts.
    pub fn find(api_version: &str, kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| (it.api_version(), it.name()) == (api_version, kind))
    }

    /// Its group, if it has one, and version.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::Node | Self::Namespace | Self::Pod | Self::Service | Self::Modules => "v1",
            Self::EndpointSlice => "discovery.k8s.io/v1",
            Self::ServiceRange | Self::NetworkPolicy => "networking.k8s.io/v1",
            Self::ClusterNetworkPolicy => "policy.networking.k8s.io/v1alpha2",
            Self::AddressPool | Self::Filter | Self::FilterChain => "millrace.dev/v1alpha1",
            Self::GatewayClass
            | Self::Gateway
            | Self::TcpRoute
            | Self::UdpRoute
            | Self::ReferenceGrant => "gateway.networking.k8s.io/v1",
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::Namespace => "Namespace",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::ServiceRange => "ServiceCIDR",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::ClusterNetworkPolicy => "ClusterNetworkPolicy",
            Self::AddressPool => "AddressPool",
            Self::Filter => "Filter",
            Self::FilterChain => "FilterChain",
            Self::Modules => "ConfigMap",
            Self::GatewayClass => "GatewayClass",
            Self::Gateway => "Gateway",
            Self::TcpRoute => "TCPRoute",
            Self::UdpRoute => "UDPRoute",
            Self::ReferenceGrant => "ReferenceGrant",
        }
    }

    /// The label of the objects of this kind that count, if not all do.
    pub fn label(self) -> Option<&'static str> {
        (self == Self::Modules).then_some(MODULES_LABEL)
    }

    /// Reads an object of this kind.
    ///
    /// # Errors
    /// The first field that is not as it should be.
    pub fn read(self, object: Value) -> Result<Object, FieldError> {
        match self {
            Self::Node => decode::<NodeManifest>(object)?.try_into().map(Object::Node),
            Self::Namespace => Ok(Object::Namespace(decode::<NamespaceManifest>(object)?.into())),
            Self::Pod => decode::<PodManifest>(object)?.try_into().map(Object::Pod),
            Self::Service => decode::<ServiceManifest>(object)?.try_into().map(Object::Service),
            Self::EndpointSlice => {
                decode::<SliceManifest>(object)?.try_into().map(Object::EndpointSlice)
            }
            Self::ServiceRange => Ok(Object::ServiceRange(decode::<RangeManifest>(object)?.into())),
            Self::AddressPool => Ok(Object::AddressPool(decode::<PoolManifest>(object)?.into())),
            Self::NetworkPolicy => {
                decode::<PolicyManifest>(object)?.try_into().map(Object::NetworkPolicy)
            }
            Self::ClusterNetworkPolicy => decode::<ClusterPolicyManifest>(object)?
                .try_into()
                .map(Object::ClusterNetworkPolicy),
            Self::Filter => {
                let filter = decode::<FilterManifest>(object)?.try_into();
                filter.map(|filter| Object::Filter(Box::new(filter)))
            }
            Self::FilterChain => {
                decode::<ChainManifest>(object)?.try_into().map(Object::FilterChain)
            }
            Self::Modules => decode::<ModulesManifest>(object)?.try_into().map(Object::Modules),
            Self::GatewayClass => {
                Ok(Object::GatewayClass(decode::<GatewayClassManifest>(object)?.into()))
            }
            Self::Gateway => decode::<GatewayManifest>(object)?.try_into().map(Object::Gateway),
            Self::TcpRoute => {
                decode::<RouteManifest>(object)?.read(Protocol::Tcp).map(Object::Route)
            }
            Self::UdpRoute => {
                decode::<RouteManifest>(object)?.read(Protocol::Udp).map(Object::Route)
            }
            Self::ReferenceGrant => {
                Ok(Object::ReferenceGrant(decode::<GrantManifest>(object)?.into()))
            }
        }
    }

    /// Reads an object of this kind, or what has to count in its place; with the first field that is
    /// not as it should be.
    pub fn read_or_close(self, object: Value) -> (Option<Object>, Option<FieldError>) {
        // kept for what may have to be closed
        let closes =
            matches!(self, Self::NetworkPolicy | Self::ClusterNetworkPolicy | Self::FilterChain);
        let copy = closes.then(|| object.clone());
        match self.read(object) {
            Ok(object) => (Some(object), None),
            Err(error) => (copy.and_then(|object| self.read_closed(&object)), Some(error)),
        }
    }

    /// What counts of an object that cannot be [read](Self::read): of a policy, that it denies, and of
    /// a chain, that it stays as it is.
    pub fn read_closed(self, object: &Value) -> Option<Object> {
        match self {
            Self::NetworkPolicy => policy::closed(object).map(Object::NetworkPolicy),
            Self::ClusterNetworkPolicy => {
                cluster_policy::closed(object).map(Object::ClusterNetworkPolicy)
            }
            Self::FilterChain => chain::unread(object).map(Object::FilterChain),
            _ => None,
        }
    }
}

impl Object {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Node(_) => Kind::Node,
            Self::Namespace(_) => Kind::Namespace,
            Self::Pod(_) => Kind::Pod,
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::ServiceRange(_) => Kind::ServiceRange,
            Self::NetworkPolicy(_) => Kind::NetworkPolicy,
            Self::ClusterNetworkPolicy(_) => Kind::ClusterNetworkPolicy,
            Self::AddressPool(_) => Kind::AddressPool,
            Self::Filter(_) => Kind::Filter,
            Self::FilterChain(_) => Kind::FilterChain,
            Self::Modules(_) => Kind::Modules,
            Self::GatewayClass(_) => Kind::GatewayClass,
            Self::Gateway(_) => Kind::Gateway,
            Self::Route(route) => route.name.kind(),
            Self::ReferenceGrant(_) => Kind::ReferenceGrant,
        }
    }

    /// What it is called among its kind.
    pub fn name(&self) -> String {
        match self {
            Self::Node(node) => node.name.clone(),
            Self::Namespace(namespace) => namespace.name.clone(),
            Self::Pod(pod) => pod.name.to_string(),
            Self::Service(service) => service.name.to_string(),
            Self::EndpointSlice(slice) => slice.name.to_string(),
            Self::ServiceRange(range) => range.name.clone(),
            Self::NetworkPolicy(policy) => policy.name.to_string(),
            Self::ClusterNetworkPolicy(policy) => policy.name.clone(),
            Self::AddressPool(pool) => pool.name.clone(),
            Self::Filter(filter) => filter.name.clone(),
            Self::FilterChain(chain) => chain.name.clone(),
            Self::Modules(map) => map.name.to_string(),
            Self::GatewayClass(class) => class.name.clone(),
            Self::Gateway(gateway) => gateway.name.to_string(),
            Self::Route(route) => route.name.name.to_string(),
            Self::ReferenceGrant(grant) => grant.name.to_string(),
        }
    }
}

/// Writes a world as one file of YAML, which reads back the same.
pub fn write(world: &World) -> String {
    let nodes = world.nodes.values().map(|node| text(Kind::Node, NodeManifest::from(node)));
    let namespaces = world.namespaces.values();
    let namespaces = namespaces.map(|it| text(Kind::Namespace, NamespaceManifest::from(it)));
    let pods = world.pods.values().map(|pod| text(Kind::Pod, PodManifest::from(pod)));
    let services = &world.services;
    let ranges = services.ranges.values();
    let ranges = ranges.map(|it| text(Kind::ServiceRange, RangeManifest::from(it)));
    let pools = services.pools.values();
    let pools = pools.map(|it| text(Kind::AddressPool, PoolManifest::from(it)));
    let slices = services.slices.values();
    let slices = slices.map(|it| text(Kind::EndpointSlice, SliceManifest::from(it)));
    let services = services.services.values();
    let services = services.map(|it| text(Kind::Service, ServiceManifest::from(it)));
    let first = nodes.chain(namespaces).chain(pods);
    let policies = world.policies.values();
    let policies = policies.map(|it| text(Kind::NetworkPolicy, PolicyManifest::from(it)));
    let of_cluster = world.cluster_policies.values();
    let of_cluster =
        of_cluster.map(|it| text(Kind::ClusterNetworkPolicy, ClusterPolicyManifest::from(it)));
    let others = ranges.chain(pools).chain(services).chain(slices).chain(policies);
    let filters = world.filters.filters.values();
    let filters = filters.map(|it| text(Kind::Filter, FilterManifest::from(it)));
    // one that could not be read cannot be written
    let chains = world.filters.chains.values().filter(|chain| chain.stages.is_some());
    let chains = chains.map(|it| text(Kind::FilterChain, ChainManifest::from(it)));
    let modules = world.filters.modules.values();
    let modules = modules.map(|it| text(Kind::Modules, ModulesManifest::from(it)));
    let gateways = &world.gateways;
    let classes = gateways.classes.values();
    let classes = classes.map(|it| text(Kind::GatewayClass, GatewayClassManifest::from(it)));
    let grants = gateways.grants.values();
    let grants = grants.map(|it| text(Kind::ReferenceGrant, GrantManifest::from(it)));
    let routes = gateways.routes().map(|it| text(it.name.kind(), RouteManifest::from(it)));
    let gateways = gateways.gateways.values();
    let gateways = gateways.map(|it| text(Kind::Gateway, GatewayManifest::from(it)));
    let gateways = classes.chain(gateways).chain(routes).chain(grants);
    let others = others.chain(of_cluster).chain(modules).chain(filters).chain(chains);
    let others = others.chain(gateways);
    first.chain(others).collect::<Vec<_>>().join("---\n")
}

/// What an object says of itself before its kind is known; for messages about a broken one.
pub(crate) struct Rough<'v> {
    pub(crate) api_version: Option<&'v str>,
    pub(crate) kind: Option<&'v str>,
    namespace: Option<&'v str>,
    name: Option<&'v str>,
}

impl<'v> Rough<'v> {
    /// What there is of it, whatever else there is.
    pub(crate) fn of(object: &'v Value) -> Self {
        let text = |value: Option<&'v Value>| value.and_then(Value::as_str);
        let metadata = object.get("metadata");
        let of_metadata = |key| text(metadata.and_then(|metadata| metadata.get(key)));
        Self {
            api_version: text(object.get("apiVersion")),
            kind: text(object.get("kind")),
            namespace: of_metadata("namespace"),
            name: of_metadata("name"),
        }
    }

    /// `Pod default/web`, as far as it says.
    pub(crate) fn title(&self) -> Option<String> {
        Some(format!("{} {}", self.kind?, self.name()?))
    }

    /// `default/web`, as far as it says.
    pub(crate) fn name(&self) -> Option<String> {
        let name = self.name?;
        Some(match self.namespace {
            Some(namespace) => PodName::new(namespace, name).to_string(),
            None => name.to_owned(),
        })
    }
}

fn decode<T: DeserializeOwned>(mut object: Value) -> Result<T, FieldError> {
    unsay_nulls(&mut object);
    serde_path_to_error::deserialize(object.into_deserializer()).map_err(|error| {
        let field = FieldPath::from(error.path());
        FieldError { field, reason: error.into_inner().to_string() }
    })
}

#[derive(Serialize)]
struct Document<T> {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    #[serde(flatten)]
    object: T,
}

fn text(kind: Kind, object: impl Serialize) -> String {
    let document = Document { api_version: kind.api_version(), kind: kind.name(), object };
    serde_norway::to_string(&document).expect("a manifest has keys that are texts")
}

/// What is null counts as not said, as everywhere in Kubernetes; but for labels, of which it would be
/// the value, and for what a filter is configured with.
fn unsay_nulls(value: &mut Value) {
    match value {
        Value::Mapping(fields) => {
            fields.retain(|_, value| !value.is_null());
            let is_plain = |key: &Value| key.as_str().is_some_and(|key| PLAIN.contains(&key));
            let fields = fields.iter_mut().filter(|(key, _)| !is_plain(key));
            fields.for_each(|(_, value)| unsay_nulls(value));
        }
        Value::Sequence(items) => items.iter_mut().for_each(unsay_nulls),
        _ => {}
    }
}

/// Whether a field need not be written.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The fields in whose values nulls are not ours to judge.
const PLAIN: [&str; 5] = ["labels", "matchLabels", "selector", "annotations", "config"];

#[cfg(test)]
mod tests;
