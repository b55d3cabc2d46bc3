//! `networking.k8s.io/v1 ServiceCIDR`.

use serde::{Deserialize, Serialize};

use crate::ServiceRange;
use crate::manifest::meta::{Metadata, Subdomain};
use crate::manifest::node::Prefix;

#[derive(Serialize, Deserialize)]
pub(super) struct RangeManifest {
    metadata: Metadata<Subdomain>,
    spec: RangeSpec,
}

#[derive(Serialize, Deserialize)]
struct RangeSpec {
    cidrs: Vec<Prefix>,
}

impl From<RangeManifest> for ServiceRange {
    fn from(manifest: RangeManifest) -> Self {
        let prefixes = manifest.spec.cidrs.into_iter().map(|it| it.0).collect();
        Self { name: manifest.metadata.name.0, prefixes }
    }
}

impl From<&ServiceRange> for RangeManifest {
    fn from(range: &ServiceRange) -> Self {
        let name = Subdomain(range.name.clone());
        let cidrs = range.prefixes.iter().copied().map(Prefix).collect();
        Self {
            metadata: Metadata::new(name, None, &<_>::default(), <_>::default()),
            spec: RangeSpec { cidrs },
        }
    }
}
