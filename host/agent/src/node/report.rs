//! What the API server is told of a node: what has become there of the cluster's objects.
//!
//! Owns what of it concerns others. `status` of the admin API says more, to who asks the node.

use std::collections::BTreeMap;
use std::net::IpAddr;

use millrace_control::gateway::Judgement;
use millrace_control::manifest::Kind;
use millrace_control::source::FromPools;
use millrace_control::{AddressPool, Agents, Node, Readiness, World};
use millrace_kube::{Key, Report, Standing, State};

use crate::node::filters::{ChainStanding, ChainState, FilterStanding, FilterState};
use crate::node::publisher::Known;

/// What a node says, of what has become of this world.
pub(super) fn report(node: &str, world: &World, known: &Known) -> Report {
    let filters = known
        .filters
        .iter()
        .filter_map(|(name, standing)| Some(((Kind::Filter, name.clone()), of_filter(standing)?)));
    let chains = known.chains.iter().filter_map(|(name, standing)| {
        Some(((Kind::FilterChain, name.clone()), of_chain(standing, known)?))
    });
    let services = known.services.iter().map(|(name, status)| {
        let problems: Vec<String> = status.problems.clone();
        ((Kind::Service, name.clone()), problems)
    });
    let policies = known.policies.iter().map(|(name, status)| {
        // those of a namespace have it in their names
        let kind = match name.contains('/') {
            true => Kind::NetworkPolicy,
            false => Kind::ClusterNetworkPolicy,
        };
        ((kind, name.clone()), status.problems.clone())
    });
    let FromPools { services: addresses, gateways } = FromPools::of(world);
    let troubled = |(_, problems): &(Key, Vec<String>)| !problems.is_empty();
    Report {
        node: node.to_owned(),
        standings: filters.chain(chains).collect(),
        problems: services.chain(policies).filter(troubled).collect(),
        nodes: nodes(world, node),
        assigned: world
            .services
            .pools
            .values()
            .map(|pool| (pool.name.clone(), assigned(world, pool)))
            .collect(),
        addresses,
        gateways: Judgement::of(&gateways, world),
    }
}

/// All nodes; one that is ready is not to be relied on for what one of them says for all, if no agent is
/// there to say it.
fn nodes(world: &World, this: &str) -> BTreeMap<String, Readiness> {
    let agents = Agents::of(world);
    let readiness = |node: &Node| match agents.have(&node.name, this) {
        true => node.readiness,
        false => Readiness::NotReady,
    };
    world.nodes.values().map(|it| (it.name.clone(), readiness(it))).collect()
}

fn of_filter(standing: &FilterStanding) -> Option<Standing> {
    let state = match standing.state {
        FilterState::InForce => State::InForce,
        FilterState::Trying => State::Trying,
        FilterState::Waiting => State::Waiting,
        FilterState::Fetching => State::Fetching,
        FilterState::Behind => State::Behind,
        FilterState::Failed => State::Failed,
        FilterState::Closed => State::Closed,
        FilterState::Missing => State::Missing,
        FilterState::Unused => return None,
    };
    let digest = standing.digest.map(|digest| digest.to_string());
    Some(Standing { state, digest, problem: problem(&standing.problems) })
}

/// A chain is as the worst of its filters.
fn of_chain(chain: &ChainStanding, known: &Known) -> Option<Standing> {
    let of = |state, problem| Some(Standing { state, digest: None, problem });
    match chain.state {
        ChainState::Elsewhere | ChainState::Unread => None,
        ChainState::Overridden => of(State::Overridden, problem(&chain.problems)),
        ChainState::InForce => {
            let filters = chain.filters.iter().filter_map(|name| {
                let standing = of_filter(known.filters.get(name)?)?;
                let problem = standing.problem.map(|it| format!("Filter {name}: {it}"));
                Some((standing.state, problem))
            });
            let worst = filters.max_by_key(|(state, _)| *state);
            let (state, problem) = worst.unwrap_or((State::InForce, None));
            of(state, problem)
        }
    }
}

fn problem(problems: &[String]) -> Option<String> {
    (!problems.is_empty()).then(|| problems.join("; "))
}

/// How many addresses of a pool Services have.
fn assigned(world: &World, pool: &AddressPool) -> usize {
    let services = world.services.services.values();
    let addresses = services.flat_map(|service| &service.load_balancer).map(|it| it.address);
    let is_of_pool = |it: &IpAddr| pool.prefixes.iter().any(|prefix| prefix.contains(*it));
    addresses.filter(is_of_pool).count()
}

#[cfg(test)]
mod tests {
    use millrace_control::source::Manifests;

    use super::*;
    use crate::node::publisher::ServiceStatus;

    fn filter(state: FilterState, problem: Option<&str>) -> FilterStanding {
        let problems = problem.map(str::to_owned).into_iter().collect();
        FilterStanding { state, chain: Some("edge".into()), digest: None, problems }
    }

    #[test]
    fn a_chain_is_as_the_worst_of_its_filters_and_those_for_other_nodes_are_not_spoken_of() {
        let chain = |state, filters: &[&str]| ChainStanding {
            state,
            filters: filters.iter().map(|&it| it.to_owned()).collect(),
            problems: Vec::new(),
        };
        let mut known = Known {
            filters: BTreeMap::from([
                ("good".to_owned(), filter(FilterState::InForce, None)),
                ("late".to_owned(), filter(FilterState::Behind, Some("it is no module"))),
                ("gone".to_owned(), filter(FilterState::Missing, Some("there is none"))),
                ("other".to_owned(), filter(FilterState::Unused, None)),
            ]),
            ..Known::default()
        };
        for (filters, state, problem) in [
            (&["good"][..], State::InForce, None),
            (&["good", "late"], State::Behind, Some("Filter late: it is no module")),
            (&["gone", "late", "good"], State::Missing, Some("Filter gone: there is none")),
            (&[], State::InForce, None),
        ] {
            known.chains.insert("edge".into(), chain(ChainState::InForce, filters));
            known.chains.insert("core".into(), chain(ChainState::Elsewhere, filters));
            let report = report("east", &World::default(), &known);
            let standing = &report.standings[&(Kind::FilterChain, "edge".to_owned())];
            assert_eq!((standing.state, standing.problem.as_deref()), (state, problem));
            let names: Vec<_> = report.standings.keys().map(|(_, name)| &**name).collect();
            assert_eq!(names, ["gone", "good", "late", "edge"]);
        }
    }

    #[test]
    fn a_node_without_an_agent_is_not_relied_on_where_agents_are_known() {
        let node = |name: &str, number: usize| {
            format!(
                "{{apiVersion: v1, kind: Node, metadata: {{name: {name}}}, \
                 spec: {{podCIDRs: [10.1.{number}.0/24]}}}}\n---\n"
            )
        };
        let pod = |node: &str, name: &str, network: bool| {
            format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}-{node}, \
                 labels: {{app.kubernetes.io/name: {name}}}}}, spec: {{nodeName: {node}, \
                 hostNetwork: {network}, containers: [{{name: c}}]}}}}\n---\n"
            )
        };
        let folder = tempfile::tempdir().unwrap();
        let text = [
            node("a", 0),
            node("b", 1),
            node("c", 2),
            pod("a", "millrace", true),
            pod("b", "millrace", true),
            // others are named so, too
            pod("c", "millrace", false),
            pod("c", "other", true),
        ];
        std::fs::write(folder.path().join("a.yaml"), text.concat()).unwrap();
        let manifests = Manifests::open(folder.path()).unwrap();
        let (world, complaints) = manifests.read().unwrap();
        assert_eq!(complaints, []);
        let ready = |this: &str| {
            let nodes = nodes(&world, this).into_iter();
            let ready = nodes.filter(|(_, it)| *it == Readiness::Ready);
            ready.map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(ready("a"), ["a", "b"]);
        // an agent that is no pod does not know of others
        assert_eq!(ready("c"), ["a", "b", "c"]);
    }

    #[test]
    fn what_is_wrong_with_services_is_reported_and_nothing_of_those_that_are_right() {
        let wrong = vec!["10.96.0.1:80/TCP is Service shop/a's already".to_owned()];
        let of =
            |problems: &[String]| ServiceStatus { problems: problems.to_vec(), ..<_>::default() };
        let known = Known {
            services: BTreeMap::from([
                ("shop/a".to_owned(), of(&[])),
                ("shop/b".to_owned(), of(&wrong)),
            ]),
            ..Known::default()
        };
        let report = report("east", &World::default(), &known);
        let expected = BTreeMap::from([((Kind::Service, "shop/b".to_owned()), wrong)]);
        assert_eq!(report.problems, expected);
    }
}
