//! Whoever was told of changes one by one knows what somebody does who is told of all at once.

use millrace_tables::{
    Backend, Change, EndpointSet, Row, Service, SourceSet, Table, Tables, Update,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::*;
use crate::Change as OfWorld;
use crate::changes::Changes;
use crate::manifest::{Kind, Object};
use crate::source::News;

/// Something that happens to a small cluster: what there is now in place of what was, or nothing.
fn change() -> impl Strategy<Value = OfWorld> {
    let present = |text: String, kind: Kind, name: String| {
        prop_oneof![4 => Just(Some(text)), 1 => Just(None)].prop_map(move |text| match text {
            Some(text) => {
                let value = serde_norway::from_str(&text).expect("it is YAML");
                OfWorld::Put(Box::new(kind.read(value).expect("it is an object")))
            }
            None => OfWorld::Remove(kind, name.clone()),
        })
    };
    prop_oneof![
        4 => (0..3u8, service()).prop_flat_map(move |(n, spec)| present(
            format!("{{metadata: {{name: s{n}, namespace: x}}, {spec}}}"),
            Kind::Service, format!("x/s{n}"))),
        4 => (0..3u8, 0..4u8, 0..2u8, pod(), 1..3u8).prop_flat_map(move |(n, ip, app, more, weight)| present(
            format!("{{metadata: {{name: p{n}, namespace: x, labels: {{app: a{app}}}, \
                annotations: {{millrace.dev/weight: '{weight}'}}}}, spec: {{nodeName: n{}, {more}}}, \
                status: {{podIPs: [{{ip: 10.1.0.{ip}}}], conditions: [{{type: Ready, status: '{}'}}]}}}}", n % 2, if ip == 0 { "False" } else { "True" }),
            Kind::Pod, format!("x/p{n}"))),
        2 => (0..3u8, 0..3u8, 2..5u8).prop_flat_map(move |(n, of, ip)| present(
            format!("{{metadata: {{name: e{n}, namespace: x, labels: {{kubernetes.io/service-name: s{of}}}}}, addressType: IPv4, \
                ports: [{{port: 8080}}], endpoints: [{{addresses: [10.1.0.{ip}], nodeName: n0, hints: {{forZones: [{{name: z{n}}}]}}, targetRef: {{kind: Pod, name: p{of}}}}}]}}"),
            Kind::EndpointSlice, format!("x/e{n}"))),
        2 => (0..2u8, 1..3u8, 0..2u8, any::<bool>()).prop_flat_map(move |(n, ip, zone, fails)| present(
            format!("{{metadata: {{name: n{n}, labels: {{topology.kubernetes.io/zone: z{zone}}}}}, spec: {{podCIDR: 10.{n}.0.0/24}}, \
                status: {{addresses: [{{type: InternalIP, address: 192.0.2.{ip}}}], conditions: [{{type: Ready, status: '{}'}}]}}}}", if fails { "False" } else { "True" }),
            Kind::Node, format!("n{n}"))),
        1 => (0..2u8).prop_flat_map(move |n| present(
            format!("{{metadata: {{name: pool}}, spec: {{cidrs: [203.0.113.{}/25]}}}}", n * 128),
            Kind::AddressPool, "pool".into())),
        2 => (0..2u8, 0..2u8, 0..2u8).prop_flat_map(move |(n, to, from)| present(
            format!("{{metadata: {{name: y{n}, namespace: x}}, spec: {{podSelector: {{matchLabels: {{app: a{to}}}}}, \
                ingress: [{{from: [{{podSelector: {{matchLabels: {{app: a{from}}}}}}}]}}]}}}}"),
            Kind::NetworkPolicy, format!("x/y{n}"))),
        1 => (0..2u8).prop_flat_map(move |n| present(
            format!("{{metadata: {{name: agent{n}, namespace: x, labels: {{app.kubernetes.io/name: millrace}}}}, \
                spec: {{nodeName: n{n}, hostNetwork: true, containers: [{{name: c}}]}}}}"),
            Kind::Pod, format!("x/agent{n}"))),
        3 => gateways(),
    ]
}

/// Something that happens to what there is of the Gateway API.
fn gateways() -> impl Strategy<Value = OfWorld> {
    let put = |kind: Kind, text: String| {
        let value = serde_norway::from_str(&text).expect("it is YAML");
        OfWorld::Put(Box::new(kind.read(value).expect("it is an object")))
    };
    let gone = prop::sample::select(vec![
        (Kind::GatewayClass, "c".to_owned()),
        (Kind::Gateway, "x/g0".to_owned()),
        (Kind::TcpRoute, "x/r0".to_owned()),
    ]);
    prop_oneof![
        1 => any::<bool>().prop_map(move |ours| put(Kind::GatewayClass, format!(
            "{{metadata: {{name: c}}, spec: {{controllerName: {}}}}}",
            if ours { "millrace.dev/gateway" } else { "example.org/other" }))),
        3 => (0..2u8, 0..3u8, 80..82u16).prop_map(move |(n, ip, port)| put(Kind::Gateway, format!(
            "{{metadata: {{name: g{n}, namespace: x}}, spec: {{gatewayClassName: c, addresses: [{{value: 203.0.113.20{ip}}}], \
                listeners: [{{name: l, port: {port}, protocol: TCP}}]}}}}"))),
        3 => (0..2u8, 0..2u8, 0..3u8, 0..2u32).prop_map(move |(n, to, of, weight)| put(Kind::TcpRoute, format!(
            "{{metadata: {{name: r{n}, namespace: x}}, spec: {{parentRefs: [{{name: g{to}}}], rules: [{{backendRefs: [\
                {{name: s{of}, port: 80, weight: {weight}}}, {{name: s0, port: 80}}]}}]}}}}"))),
        1 => gone.prop_map(|(kind, name)| OfWorld::Remove(kind, name)),
    ]
}

/// Some of the addresses and ports are others' as well.
fn service() -> impl Strategy<Value = String> {
    let kind = prop::sample::select(vec!["ClusterIP", "NodePort", "LoadBalancer"]);
    let policy = prop::sample::select(vec!["Cluster", "Local"]);
    let ranges = prop::sample::select(vec!["", "loadBalancerSourceRanges: [192.0.2.0/24], "]);
    (kind, policy, ranges, 1..4u8, 0..3u8, 0..2u8).prop_map(|(kind, policy, ranges, ip, node, app)| {
        let outside = if kind == "ClusterIP" { String::new() } else { format!("externalTrafficPolicy: {policy}, ") };
        format!(
            "spec: {{type: {kind}, clusterIP: 10.96.0.{ip}, selector: {{app: a{app}}}, {outside}{ranges}\
             externalIPs: [203.0.113.{ip}], ports: [{{port: 80, targetPort: 8080, nodePort: 3008{node}}}]}}, \
             status: {{loadBalancer: {{ingress: [{{ip: 203.0.113.20{node}}}]}}}}"
        )
    })
}

fn pod() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "containers: [{name: c}]",
        "hostNetwork: true, containers: [{name: c}]",
        "containers: [{name: c, ports: [{containerPort: 80, hostPort: 30080}]}]",
    ])
}

/// A node's tables without the numbers of sets, and all that is said beside them.
#[derive(Debug, PartialEq)]
struct Known {
    services: BTreeMap<Frontend, Reached>,
    rows: Vec<usize>,
    places: Vec<Frontend>,
    announced: BTreeSet<IpAddr>,
    complaints: Vec<String>,
    summaries: BTreeMap<QualifiedName, ServiceSummary>,
    policies: BTreeMap<PolicyName, PolicySummary>,
}

/// What is behind a place, of the cluster and of the node, and whom it is for.
type Reached = (Service, [Vec<Backend>; 2], BTreeSet<Range>);

/// What was said of Services and policies so far.
#[derive(Default)]
struct Said {
    summaries: BTreeMap<QualifiedName, ServiceSummary>,
    policies: BTreeMap<PolicyName, PolicySummary>,
}

impl Said {
    fn hear(&mut self, publication: &Publication) {
        merge(&mut self.summaries, &publication.services);
        merge(&mut self.policies, &publication.policies);
    }
}

fn merge<K: Clone + Ord, V: Clone>(said: &mut BTreeMap<K, V>, news: &BTreeMap<K, Option<V>>) {
    for (name, it) in news {
        match it {
            Some(it) => drop(said.insert(name.clone(), it.clone())),
            None => drop(said.remove(name)),
        }
    }
}

fn known(compiler: &Compiler, said: &Said) -> Known {
    let tables = compiler.draft.tables();
    let octets = tables.whole(&Table::ALL, 1, usize::MAX).concat();
    let (mut services, mut sets, mut sources) =
        (BTreeMap::new(), BTreeMap::new(), BTreeMap::<_, BTreeSet<_>>::new());
    for change in Update::new(&octets).changes() {
        match change.expect("it is well-formed") {
            Change::Upsert(Row::Service(at, service)) => drop(services.insert(at, service)),
            Change::Upsert(Row::Endpoints(set, of)) => {
                drop(sets.insert(set, of.backends().collect()))
            }
            Change::Upsert(Row::Source(it)) => {
                sources.entry(it.set).or_default().insert(it.range);
            }
            _ => {}
        }
    }
    let members = |set: &EndpointSet| -> Vec<Backend> {
        let none = *set == EndpointSet::NONE;
        sets.get(set).cloned().unwrap_or_else(|| if none { vec![] } else { panic!("{set:?}") })
    };
    let services = services.into_iter().map(|(at, service)| {
        let behind = [members(&service.cluster), members(&service.local)];
        let from = sources.get(&service.sources).cloned().unwrap_or_default();
        let (none, all) = (EndpointSet::NONE, SourceSet::NONE);
        (at, (Service { cluster: none, local: none, sources: all, ..service }, behind, from))
    });
    Known {
        services: services.collect(),
        rows: Table::ALL.map(|table| tables.rows_of(table)).to_vec(),
        places: compiler.places().collect(),
        announced: compiler.announced(),
        complaints: compiler.publication().complaints.clone(),
        summaries: said.summaries.clone(),
        policies: said.policies.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn changes_make_of_tables_what_a_new_world_would(
        steps in prop::collection::vec((prop::collection::vec(change(), 1..4), any::<bool>()), 1..16),
    ) {
        let (mut compiler, mut said) = (Compiler::new("n0"), Said::default());
        let mut guest = Tables::default();
        for (changes, is_taken) in steps {
            let mut world = compiler.world().clone();
            for change in &changes {
                Changes::default().make(&mut world, change.clone());
            }
            compiler.hear(News::Changes(changes));
            prop_assert_eq!(compiler.world(), &world);
            said.hear(compiler.compile());

            let mut other = Compiler::new("n0");
            other.learn(world);
            let mut of_other = Said::default();
            of_other.hear(other.compile());
            prop_assert_eq!(known(&compiler, &said), known(&other, &of_other));

            // what a filter refuses is to be told with the next change
            if is_taken {
                for page in compiler.publication().delta.updates(&Table::ALL, 1, 100) {
                    Update::new(&page).apply_to(&mut guest).expect("it is well-formed");
                }
                prop_assert_eq!(&guest, compiler.draft.tables());
                compiler.adopt();
            }
        }
    }
}

#[test]
fn every_kind_of_object_can_happen() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let kinds: BTreeSet<Kind> = (0..200)
        .map(|_| match change().new_tree(&mut runner).expect("there is one").current() {
            OfWorld::Put(object) => Object::kind(&object),
            OfWorld::Remove(kind, _) => kind,
        })
        .collect();
    assert!(kinds.len() >= 9, "{kinds:?}");
}
