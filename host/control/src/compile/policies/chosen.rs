//! The policies that are for a pod of this node.

use crate::policy::{
    ClusterNetworkPolicy, ClusterTier, NetworkPolicy, PolicyDirection, PolicyMode, PolicyTerms,
    RefusedConnections, Selector,
};
use crate::{PodName, QualifiedName, World};

use super::people::Likeness;

/// Which policies count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// Those that are enforced.
    Enforced,
    /// Those that are audited, too.
    All,
}

/// The policies that are for a pod in a direction, in the order in which they are asked.
#[derive(Default)]
pub(super) struct Chosen<'w> {
    pub(super) admin: Vec<&'w ClusterNetworkPolicy>,
    /// By name: their order says nothing.
    pub(super) namespaced: Vec<&'w NetworkPolicy>,
    /// None where there is a NetworkPolicy.
    pub(super) baseline: Vec<&'w ClusterNetworkPolicy>,
}

impl<'w> Chosen<'w> {
    /// Those for a pod. Of one that is not known all are that may be.
    pub(super) fn of(
        world: &'w World,
        pod: &PodName,
        likeness: Option<&Likeness>,
        direction: PolicyDirection,
        counted: Counted,
    ) -> Self {
        let counts =
            |terms: &PolicyTerms| counted == Counted::All || terms.mode == PolicyMode::Enforce;
        let namespace = &pod.namespace;
        let selects = |selector: &Selector| {
            likeness.is_none_or(|likeness| selector.selects(&likeness.labels))
        };
        let first = QualifiedName::new(namespace.clone(), "");
        let policies = world.policies.range(first..).map(|(_, policy)| policy);
        let policies = policies.take_while(|policy| policy.name.namespace == *namespace);
        let policies = policies
            .filter(|it| counts(&it.terms) && it.rules(direction).is_some() && selects(&it.pods));
        let namespaced: Vec<_> = policies.collect();

        let labels = world.namespaces.get(namespace).map(|it| &it.labels);
        let mut of_cluster: Vec<_> = world
            .cluster_policies
            .values()
            .filter(|policy| {
                counts(&policy.terms)
                    && !policy.rules(direction).is_empty()
                    && labels.is_none_or(|it| policy.subject.namespaces.selects(it))
                    && selects(&policy.subject.pods)
            })
            .collect();
        of_cluster.sort_by_key(|policy| policy.order());
        let (admin, mut baseline): (Vec<_>, Vec<_>) =
            of_cluster.into_iter().partition(|policy| policy.tier == ClusterTier::Admin);
        if !namespaced.is_empty() {
            baseline.clear();
        }
        Self { admin, namespaced, baseline }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.terms().next().is_none()
    }

    /// Whether some are audited.
    pub(super) fn has_audited(&self) -> bool {
        self.terms().any(|terms| terms.mode == PolicyMode::Audit)
    }

    /// What becomes of live connections that no rule of NetworkPolicies allows, as far as these say:
    /// the strictest counts.
    pub(super) fn on_refused(&self) -> Option<RefusedConnections> {
        let each = || self.namespaced.iter().map(|policy| policy.terms.on_refused);
        let strictest = each().flatten().max()?;
        // one that says nothing has not said that they are kept
        let is_kept = strictest == RefusedConnections::Keep;
        (!is_kept || each().all(|it| it.is_some())).then_some(strictest)
    }

    fn terms(&self) -> impl Iterator<Item = &PolicyTerms> {
        let of_cluster = self.admin.iter().chain(&self.baseline).map(|policy| &policy.terms);
        of_cluster.chain(self.namespaced.iter().map(|policy| &policy.terms))
    }
}
