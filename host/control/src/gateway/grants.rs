//! Whether an object may name one of another namespace.

use super::{Gateways, ObjectKind, RouteName};
use crate::QualifiedName;

/// Whether a route may name an object of a kind: those of its own namespace, and others that a
/// ReferenceGrant there lets it.
pub(super) fn may_name(
    gateways: &Gateways,
    route: &RouteName,
    kind: &ObjectKind,
    object: &QualifiedName,
) -> bool {
    if route.name.namespace == object.namespace {
        return true;
    }
    let this = ObjectKind::of_gateways(route.kind().name());
    let mut grants =
        gateways.grants.values().filter(|grant| grant.name.namespace == object.namespace);
    grants.any(|grant| {
        let mut from = grant.from.iter();
        let mut to = grant.to.iter();
        from.any(|(of, namespace)| *of == this && *namespace == route.name.namespace)
            && to.any(|(of, name)| {
                of == kind && name.as_ref().is_none_or(|name| *name == object.name)
            })
    })
}
