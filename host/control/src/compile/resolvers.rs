//! Whose answers say which addresses names have: the cluster's DNS servers, by the addresses that
//! pods are given, and those that an operator names.
//!
//! A reader must not break this: who may make a Service anywhere is not believed. Those of the
//! system's namespace are, where they have the label that every installer of a cluster gives them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use millrace_abi::Tag;
use millrace_tables::{Draft, Key, Row};

use super::Publication;
use crate::service::{ClusterIps, QualifiedName};
use crate::{Service, World};

/// The resolvers that filters were told of.
#[derive(Clone, Debug, Default)]
pub(super) struct Resolvers {
    /// Those that an operator names.
    pub(super) stated: BTreeSet<IpAddr>,
    told: BTreeSet<IpAddr>,
}

impl Resolvers {
    /// Follows what there is now. Flows to those that come or go are to be decided anew: somebody
    /// may want to see their answers.
    pub(super) fn follow(
        &mut self,
        world: &World,
        draft: &mut Draft,
        publication: &mut Publication,
    ) {
        let mut now = self.stated.clone();
        now.extend(of_cluster(world));
        for address in now.symmetric_difference(&self.told) {
            match now.contains(address) {
                true => draft.put(&Row::Resolver(*address)),
                false => draft.remove(&Key::Resolver(*address)),
            }
            publication.tags.push(Tag::of_address(*address));
        }
        self.told = now;
    }
}

fn of_cluster(world: &World) -> impl Iterator<Item = IpAddr> {
    let first = QualifiedName { namespace: NAMESPACE.to_owned(), name: String::new() };
    let services = world.services.services.range(first..);
    let services = services.take_while(|(name, _)| name.namespace == NAMESPACE);
    let is_resolver = |service: &&Service| service.labels.get(LABEL).is_some_and(|it| it == ROLE);
    let resolvers = services.map(|(_, service)| service).filter(is_resolver);
    resolvers.flat_map(|service| match &service.cluster_ips {
        ClusterIps::Addresses(addresses) => addresses.clone(),
        ClusterIps::Unallocated | ClusterIps::Headless => Vec::new(),
    })
}

const NAMESPACE: &str = "kube-system";
const LABEL: &str = "k8s-app";
const ROLE: &str = "kube-dns";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use millrace_tables::{Change, Table, Update};

    use super::*;
    use crate::compile::Compiler;
    use crate::manifest::{Kind, Object};

    fn service(
        namespace: &str,
        name: &str,
        labels: &str,
        addresses: &str,
    ) -> (QualifiedName, Service) {
        let text = format!(
            "{{metadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}, \
             spec: {{clusterIPs: [{addresses}], ports: [{{port: 53, protocol: UDP}}]}}}}"
        );
        let value = serde_norway::from_str(&text).expect("it is YAML");
        let Ok(Object::Service(service)) = Kind::Service.read(value) else { panic!("{text}") };
        (service.name.clone(), service)
    }

    fn told(compiler: &Compiler) -> Vec<String> {
        let all = compiler.draft.tables().whole(&[Table::Resolvers], 1, usize::MAX).concat();
        let resolver = |change| match change {
            Ok(Change::Upsert(Row::Resolver(address))) => Some(address.to_string()),
            _ => None,
        };
        Update::new(&all).changes().filter_map(resolver).collect()
    }

    #[test]
    fn k4_the_clusters_resolvers_are_those_of_the_system_that_have_the_label_and_who_is_stated() {
        let role = "k8s-app: kube-dns";
        let services = [
            service("kube-system", "kube-dns", role, "10.96.0.53, 'fd96::53'"),
            service("kube-system", "headless", role, "None"),
            service("kube-system", "other", "k8s-app: other", "10.96.0.54"),
            // anybody may make these
            service("default", "kube-dns", role, "10.96.0.55"),
            service("kube-systems", "kube-dns", role, "10.96.0.56"),
        ];
        let mut world = World::default();
        world.services.services = BTreeMap::from(services);
        let mut compiler = Compiler::new("a");
        compiler.trust_resolvers(["169.254.20.10".parse().expect("an address")]);
        compiler.learn(world);
        compiler.compile();
        assert_eq!(told(&compiler), ["10.96.0.53", "169.254.20.10", "fd96::53"]);

        compiler.adopt();
        compiler.learn(World::default());
        let tags = compiler.compile().tags.clone();
        assert_eq!(told(&compiler), ["169.254.20.10"]);
        for address in ["10.96.0.53", "fd96::53"] {
            let tag = Tag::of_address(address.parse().expect("an address"));
            assert!(tags.contains(&tag), "flows to {address} are decided anew");
        }
    }
}
