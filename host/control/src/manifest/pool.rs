//! `millrace.dev/v1alpha1 AddressPool`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::AddressPool;
use crate::manifest::is_default;
use crate::manifest::meta::{Metadata, Subdomain};
use crate::manifest::node::Prefix;
use crate::service::Announcement;

#[derive(Serialize, Deserialize)]
pub(super) struct PoolManifest {
    metadata: Metadata<Subdomain>,
    spec: PoolSpec,
}

/// Addresses for Services of type LoadBalancer.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct PoolSpec {
    /// The prefixes whose addresses Services get. They are no pods' and no ClusterIPs'.
    #[schemars(extend("minItems" = 1, "maxItems" = 64, "x-kubernetes-list-type" = "set"))]
    cidrs: Vec<Prefix>,
    /// Whether a node answers its neighbours for the addresses, by ARP and Neighbour Discovery.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = Announced::default()))]
    announcement: Announced,
}

#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
enum Announced {
    #[default]
    Neighbours,
    None,
}

impl From<PoolManifest> for AddressPool {
    fn from(manifest: PoolManifest) -> Self {
        Self {
            name: manifest.metadata.name.0,
            prefixes: manifest.spec.cidrs.into_iter().map(|it| it.0).collect(),
            announcement: match manifest.spec.announcement {
                Announced::Neighbours => Announcement::Neighbours,
                Announced::None => Announcement::None,
            },
        }
    }
}

impl From<&AddressPool> for PoolManifest {
    fn from(pool: &AddressPool) -> Self {
        Self {
            metadata: Metadata::new(
                Subdomain(pool.name.clone()),
                None,
                &<_>::default(),
                <_>::default(),
            ),
            spec: PoolSpec {
                cidrs: pool.prefixes.iter().copied().map(Prefix).collect(),
                announcement: match pool.announcement {
                    Announcement::Neighbours => Announced::Neighbours,
                    Announcement::None => Announced::None,
                },
            },
        }
    }
}
