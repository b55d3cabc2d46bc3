//! `gateway.networking.k8s.io/v1 GatewayClass` and `Gateway`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};
use serde_norway::Value;

use crate::QualifiedName;
use crate::gateway::{
    GROUP, Gateway, GatewayClass, Listener, ObjectKind, RouteNamespaces, Tls, WantedAddress,
};
use crate::manifest::meta::{Metadata, Subdomain};
use crate::manifest::selector::SelectorSpec;
use crate::manifest::{FieldError, FieldPath, is_default};

#[derive(Serialize, Deserialize)]
pub(super) struct GatewayClassManifest {
    metadata: Metadata<Subdomain>,
    spec: ClassSpec,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClassSpec {
    controller_name: String,
    #[serde(default, skip_serializing_if = "is_default")]
    parameters_ref: Option<ParametersRef>,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct ParametersRef {
    kind: String,
    name: String,
}

#[derive(Serialize, Deserialize)]
pub(super) struct GatewayManifest {
    metadata: Metadata<Subdomain>,
    spec: GatewaySpec,
    #[serde(default, skip_serializing_if = "is_default")]
    status: Status,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GatewaySpec {
    gateway_class_name: String,
    listeners: Vec<ListenerSpec>,
    #[serde(default, skip_serializing_if = "is_default")]
    addresses: Vec<AddressSpec>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListenerSpec {
    name: Subdomain,
    port: NonZeroU16,
    protocol: String,
    #[serde(default, skip_serializing_if = "is_default")]
    tls: Option<Value>,
    #[serde(default, skip_serializing_if = "is_default")]
    allowed_routes: AllowedRoutes,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct AllowedRoutes {
    #[serde(skip_serializing_if = "is_default")]
    namespaces: NamespacesSpec,
    #[serde(skip_serializing_if = "is_default")]
    kinds: Vec<KindSpec>,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct NamespacesSpec {
    from: Whose,
    #[serde(skip_serializing_if = "is_default")]
    selector: Option<SelectorSpec>,
}

#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
enum Whose {
    #[default]
    Same,
    All,
    Selector,
}

/// A kind of objects, of the Gateway API unless it says another group.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct KindSpec {
    #[serde(default = "gateway_group")]
    group: String,
    kind: String,
}

#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct AddressSpec {
    #[serde(rename = "type")]
    kind: AddressType,
    #[serde(skip_serializing_if = "is_default")]
    value: String,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct AddressType(String);

impl Default for AddressType {
    fn default() -> Self {
        Self("IPAddress".to_owned())
    }
}

/// Addresses that it was given.
#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Status {
    #[serde(skip_serializing_if = "is_default")]
    addresses: Vec<AddressSpec>,
}

impl From<GatewayClassManifest> for GatewayClass {
    fn from(manifest: GatewayClassManifest) -> Self {
        let ClassSpec { controller_name, parameters_ref } = manifest.spec;
        let parameters = parameters_ref.map(|it| format!("{} {}", it.kind, it.name));
        Self { name: manifest.metadata.name.0, controller: controller_name, parameters }
    }
}

impl From<&GatewayClass> for GatewayClassManifest {
    fn from(class: &GatewayClass) -> Self {
        let name = Subdomain(class.name.clone());
        let parameters = class.parameters.as_ref().and_then(|it| it.split_once(' '));
        let parameters_ref = parameters
            .map(|(kind, name)| ParametersRef { kind: kind.to_owned(), name: name.to_owned() });
        Self {
            metadata: Metadata::new(name, None, &<_>::default(), <_>::default()),
            spec: ClassSpec { controller_name: class.controller.clone(), parameters_ref },
        }
    }
}

impl TryFrom<GatewayManifest> for Gateway {
    type Error = FieldError;

    fn try_from(manifest: GatewayManifest) -> Result<Self, FieldError> {
        let GatewayManifest { mut metadata, spec, status } = manifest;
        let field = FieldPath::root().key("spec").key("listeners");
        let mut names = BTreeSet::new();
        let listener = |(at, spec): (usize, ListenerSpec)| {
            let field = field.clone().index(at);
            if !names.insert(spec.name.0.clone()) {
                let reason = format!("`{}` is another listener", spec.name.0);
                return Err(FieldError { field: field.key("name"), reason });
            }
            spec.read(&field)
        };
        let listeners = spec.listeners.into_iter().enumerate();
        let given = status.addresses.iter().filter_map(|it| it.value.parse::<IpAddr>().ok());
        Ok(Self {
            listeners: listeners.map(listener).collect::<Result<_, _>>()?,
            name: QualifiedName::new(metadata.take_namespace(), metadata.name.0),
            class: spec.gateway_class_name,
            wanted: spec.addresses.into_iter().map(WantedAddress::from).collect(),
            given: given.map(|it| it.to_canonical()).collect(),
        })
    }
}

impl ListenerSpec {
    fn read(self, field: &FieldPath) -> Result<Listener, FieldError> {
        let AllowedRoutes { namespaces, kinds } = self.allowed_routes;
        let namespaces = match (namespaces.from, namespaces.selector) {
            (Whose::Same, _) => RouteNamespaces::Same,
            (Whose::All, _) => RouteNamespaces::All,
            (Whose::Selector, Some(selector)) => {
                let way = ["allowedRoutes", "namespaces", "selector"];
                let field = way.into_iter().fold(field.clone(), FieldPath::key);
                RouteNamespaces::Selector(selector.read(&field)?)
            }
            (Whose::Selector, None) => {
                let way = ["allowedRoutes", "namespaces", "selector"];
                let field = way.into_iter().fold(field.clone(), FieldPath::key);
                let reason = "`Selector` needs one: `{}` selects all namespaces".to_owned();
                return Err(FieldError { field, reason });
            }
        };
        Ok(Listener {
            name: self.name.0,
            port: self.port.get(),
            protocol: self.protocol,
            tls: if self.tls.is_some() { Tls::Ended } else { Tls::Passed },
            namespaces,
            kinds: kinds.into_iter().map(ObjectKind::from).collect(),
        })
    }
}

impl From<&Listener> for ListenerSpec {
    fn from(listener: &Listener) -> Self {
        let (from, selector) = match &listener.namespaces {
            RouteNamespaces::Same => (Whose::Same, None),
            RouteNamespaces::All => (Whose::All, None),
            RouteNamespaces::Selector(it) => (Whose::Selector, Some(SelectorSpec::from(it))),
        };
        Self {
            name: Subdomain(listener.name.clone()),
            port: NonZeroU16::new(listener.port).expect("port 0 is never read"),
            protocol: listener.protocol.clone(),
            tls: (listener.tls == Tls::Ended).then(|| Value::Mapping(<_>::default())),
            allowed_routes: AllowedRoutes {
                namespaces: NamespacesSpec { from, selector },
                kinds: listener.kinds.iter().map(KindSpec::from).collect(),
            },
        }
    }
}

impl From<&Gateway> for GatewayManifest {
    fn from(gateway: &Gateway) -> Self {
        let name = Subdomain(gateway.name.name.clone());
        let namespace = Some(&*gateway.name.namespace);
        let wanted = gateway.wanted.iter();
        let given = gateway.given.iter();
        Self {
            metadata: Metadata::new(name, namespace, &<_>::default(), <_>::default()),
            spec: GatewaySpec {
                gateway_class_name: gateway.class.clone(),
                listeners: gateway.listeners.iter().map(ListenerSpec::from).collect(),
                addresses: wanted
                    .map(|it| AddressSpec {
                        kind: AddressType(it.kind.clone()),
                        value: it.value.clone(),
                    })
                    .collect(),
            },
            status: Status {
                addresses: given
                    .map(|it| AddressSpec { value: it.to_string(), ..<_>::default() })
                    .collect(),
            },
        }
    }
}

impl From<AddressSpec> for WantedAddress {
    fn from(spec: AddressSpec) -> Self {
        Self { kind: spec.kind.0, value: spec.value }
    }
}

impl From<KindSpec> for ObjectKind {
    fn from(spec: KindSpec) -> Self {
        Self { group: spec.group, kind: spec.kind }
    }
}

impl From<&ObjectKind> for KindSpec {
    fn from(kind: &ObjectKind) -> Self {
        Self { group: kind.group.clone(), kind: kind.kind.clone() }
    }
}

pub(super) fn gateway_group() -> String {
    GROUP.to_owned()
}
