//! What is to be written into the status of objects of the Gateway API.
//!
//! Owns its form. One node writes all of it, which is the one that gives addresses, too: of Gateways
//! they are part of it.

use millrace_control::gateway::{
    GatewayClass, JudgedGateway, JudgedListener, JudgedParent, ObjectKind, ParentRef, RouteName,
};
use millrace_control::manifest::Kind;
use millrace_control::{Protocol, Verdict};
use serde_json::{Map, Value, json};

use crate::about::Subject;
use crate::conditions::conditions;

/// What this node has to change of an object's status, if anything.
pub(crate) fn patch(subject: Subject<'_>) -> Option<Value> {
    let Subject { key, about, generation, heard, report, now } = subject;
    if !report.gives_addresses() || generation != about.generation {
        return None;
    }
    let (kind, name) = key;
    let judgement = &report.gateways;
    let written = Written { status: &about.status, generation, now };
    let wanted = match kind {
        Kind::GatewayClass => written.class(judgement.classes.get(name)?),
        Kind::Gateway => written.gateway(judgement.gateways.get(&name.parse().ok()?)?),
        Kind::TcpRoute | Kind::UdpRoute => {
            // one that a complaint is about is as it was
            if heard.complaints.contains_key(key) {
                return None;
            }
            let protocol = if *kind == Kind::TcpRoute { Protocol::Tcp } else { Protocol::Udp };
            let route = RouteName { protocol, name: name.parse().ok()? };
            written.route(judgement.routes.get(&route).map_or(&[][..], Vec::as_slice))
        }
        _ => return None,
    };
    let is_other = |(field, value): &(String, Value)| about.status.get(field) != Some(value);
    let status: Map<_, _> = wanted.into_iter().filter(is_other).collect();
    // lists go as a whole: whoever has changed one meanwhile has to be heard first
    let metadata = json!({ "resourceVersion": about.version });
    (!status.is_empty()).then(|| json!({ "metadata": metadata, "status": status }))
}

/// What is written of an object of this generation.
struct Written<'o> {
    status: &'o Value,
    generation: i64,
    now: &'o str,
}

impl Written<'_> {
    fn class(&self, verdicts: &[Verdict]) -> Vec<(String, Value)> {
        let conditions = self.conditions(&self.status["conditions"], verdicts);
        let features = FEATURES.map(|name| json!({ "name": name }));
        fields([("conditions", conditions), ("supportedFeatures", json!(features))])
    }

    fn gateway(&self, gateway: &JudgedGateway) -> Vec<(String, Value)> {
        let conditions = self.conditions(&self.status["conditions"], &gateway.verdicts);
        let addresses = gateway.addresses.iter();
        let addresses = addresses.map(|it| json!({ "type": "IPAddress", "value": it }));
        let listeners = gateway.listeners.iter().map(|it| self.listener(it));
        fields([
            ("conditions", conditions),
            ("addresses", addresses.collect()),
            ("listeners", listeners.collect()),
        ])
    }

    fn listener(&self, listener: &JudgedListener) -> Value {
        let before = self.status["listeners"].as_array().into_iter().flatten();
        let mut before = before.filter(|it| it["name"] == *listener.name);
        let before = before.next().map_or(&Value::Null, |it| &it["conditions"]);
        let kinds = listener.kinds.iter();
        let kinds = kinds.map(|ObjectKind { group, kind }| json!({ "group": group, "kind": kind }));
        json!({
            "name": listener.name,
            "attachedRoutes": listener.routes.len(),
            "supportedKinds": kinds.collect::<Value>(),
            "conditions": self.conditions(before, &listener.verdicts),
        })
    }

    /// What others say of a route stays.
    fn route(&self, parents: &[JudgedParent]) -> Vec<(String, Value)> {
        let before = || self.status["parents"].as_array().into_iter().flatten();
        let is_ours = |it: &&Value| it["controllerName"] == GatewayClass::CONTROLLER;
        let ours = parents.iter().map(|JudgedParent { parent, verdicts }| {
            let parent = parent_ref(parent);
            let mut same = before().filter(is_ours).filter(|it| it["parentRef"] == parent);
            let same = same.next().map_or(&Value::Null, |it| &it["conditions"]);
            json!({
                "parentRef": parent,
                "controllerName": GatewayClass::CONTROLLER,
                "conditions": self.conditions(same, verdicts),
            })
        });
        let others = before().filter(|it| !is_ours(it)).cloned();
        let parents: Vec<_> = others.chain(ours).collect();
        // of whom nobody says anything that need not be said
        match parents.is_empty() && self.status["parents"].is_null() {
            true => Vec::new(),
            false => fields([("parents", json!(parents))]),
        }
    }

    fn conditions(&self, before: &Value, verdicts: &[Verdict]) -> Value {
        conditions(before, self.generation, verdicts, self.now)
    }
}

/// As its route has it, with what the API server says where that says nothing.
fn parent_ref(parent: &ParentRef) -> Value {
    let ParentRef { of: ObjectKind { group, kind }, namespace, name, section, port } = parent;
    let mut written = json!({ "group": group, "kind": kind, "name": name });
    let said = [
        ("namespace", namespace.as_ref().map(|it| json!(it))),
        ("sectionName", section.as_ref().map(|it| json!(it))),
        ("port", port.map(|it| json!(it))),
    ];
    for (field, value) in said {
        if let Some(value) = value {
            written[field] = value;
        }
    }
    written
}

fn fields<const N: usize>(all: [(&str, Value); N]) -> Vec<(String, Value)> {
    all.map(|(field, value)| (field.to_owned(), value)).into()
}

/// What of the API is served, by the names that it has for that, in their order.
const FEATURES: [&str; 6] = [
    "Gateway",
    "GatewayAddressEmpty",
    "GatewayStaticAddresses",
    "ReferenceGrant",
    "TCPRoute",
    "UDPRoute",
];
