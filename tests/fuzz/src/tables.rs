//! Updates of tables. Whatever octets a guest is given, it reads changes of them or learns what is
//! wrong; and what it has read it would read again of what a host publishes of it.

use millrace_tables::{
    Action, Algorithm, Block, Clause, Domain, Endpoint, EndpointSet, Endpoints, Frontend,
    FrontendKind, Identity, List, Otherwise, Owner, Pattern, Peer, Place, Policies, PolicySet,
    Protocol, Range, Row, Selector, Service, SourceSet, Table, Tables, Tier, TrafficPolicy, Update,
};

/// Reads an update, and publishes what it has made.
///
/// # Panics
/// If two guests that were told the same do not know the same.
pub fn run(input: &[u8]) {
    let mut tables = Tables::default();
    let outcome = Update::new(input).apply_to(&mut tables);
    let bad = Update::new(input).changes().filter(Result::is_err).count();
    assert_eq!(bad, usize::from(outcome.is_err()), "nothing follows what is malformed");

    let mut told = Tables::default();
    for page in tables.whole(&Table::ALL, 1, input.len()) {
        Update::new(&page).apply_to(&mut told).expect("what is published is well-formed");
    }
    assert_eq!(told, tables);
}

/// An update with a row of each table, and one that takes them back.
pub fn seeds() -> Vec<Vec<u8>> {
    let address = [10, 96, 0, 10].into();
    let frontend = Frontend { address, port: 80, protocol: Protocol::Tcp };
    let service = Service {
        number: 1,
        port: 80,
        kind: FrontendKind::ClusterIp,
        policy: TrafficPolicy::Cluster,
        cluster: EndpointSet(1),
        local: EndpointSet::NONE,
        affinity_s: 0,
        sources: SourceSet::NONE,
        algorithm: Algorithm::RoundRobin,
    };
    let endpoints = [1, 2].map(|last| Endpoint { address: [10, 1, 0, last].into(), port: 8080 });
    let octets = Endpoint::encode_all(&endpoints);
    let endpoints = Endpoints::new(&octets).expect("they are in order");
    let mut tables = Tables::default();
    tables.put(&Row::Service(frontend, service));
    tables.put(&Row::Endpoints(EndpointSet(1), endpoints));
    tables.put(&Row::Range(Range { address: [10, 96, 0, 0].into(), len: 12 }));
    policies(&mut tables);
    let gone = tables.delta(&Tables::default());
    let all = usize::MAX;
    vec![tables.whole(&Table::ALL, 1, all).concat(), gone.updates(&Table::ALL, 2, all).concat()]
}

/// Puts a row into each table that is for policies.
fn policies(tables: &mut Tables) {
    let (identity, egress, ingress) = (Identity(3), PolicySet(5), PolicySet::NONE);
    let owner = Owner { place: Place::Here, identity, egress, ingress };
    tables.put(&Row::Owner([10, 1, 0, 1].into(), owner));
    let selectors = List::encode(&[1, 2].map(Selector));
    tables.put(&Row::Identity(identity, List::new(&selectors).expect("they are in order")));
    let ranges = [8, 16].map(|len| Range { address: [10, 0, 0, 0].into(), len });
    let ranges = List::encode(&ranges);
    tables.put(&Row::Block(Block(4), List::new(&ranges).expect("they are prefixes")));
    let peers =
        [Peer::Any, Peer::Selected(Selector(1)), Peer::Is(identity), Peer::Within(Block(4))];
    let (tier, action, protocol) = (Tier::Admin, Action::Pass, Some(Protocol::Udp));
    let clause = |peer| Clause { tier, action, peer, protocol, first: 53, last: 54, rule: 9 };
    let clauses = List::encode(&peers.map(clause));
    let clauses = List::new(&clauses).expect("their ports are in order");
    let otherwise = Otherwise { action: Action::Deny, rule: 8 };
    tables.put(&Row::Policies(egress, Policies { otherwise, audit: PolicySet::NONE, clauses }));
    let pattern = Pattern::new("*.example.com").expect("a pattern");
    tables.put(&Row::Domain(Domain(6), pattern));
    tables.put(&Row::Resolver([10, 96, 0, 53].into()));
}
