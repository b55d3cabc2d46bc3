//! Which of a Service's endpoints connections get, against what its algorithm and the endpoints'
//! weights say.

use millrace_filter::Served;

use super::*;

#[test]
fn in_each_round_endpoints_take_as_many_turns_as_they_weigh() {
    let mut rig = weighted(Algorithm::RoundRobin);
    for _ in 0..5 {
        assert_eq!(spread(&mut rig, clients(8)), WEIGHTS.map(u32::from));
    }
    // who opens nothing takes no turn
    let turn =
        |rig: &mut Rig<ServiceLb>| endpoint(&ask(rig, PortKind::Pod, &syn("10.1.0.9:7", VIP)));
    let expected: Vec<_> = (0..8).map(|_| turn(&mut rig)).collect();
    for expected in expected {
        let slot = rig.slot(1, &syn("10.1.0.9:7", VIP));
        let shadow =
            Slot { ingress_kind: PortKind::Pod as u8, origin: Origin::Shadow as u8, ..slot };
        assert!(endpoint(&rig.decide(&shadow)).is_some());
        assert_eq!(turn(&mut rig), expected);
    }
}

#[test]
fn a_client_has_one_endpoint_by_its_source_whatever_its_port() {
    let mut rig = weighted(Algorithm::SourceHash);
    for client in 1..60 {
        let of_port = |port: u32| syn(&format!("10.1.7.{client}:{}", port + 1), VIP);
        let mut rest = (0..20).map(|port| endpoint(&ask(&mut rig, PortKind::Pod, &of_port(port))));
        let first = rest.next().expect("there are some");
        assert!(rest.all(|it| it == first), "10.1.7.{client}");
    }
}

#[test]
fn whoever_has_the_fewest_connections_for_its_weight_gets_the_next() {
    let mut rig = weighted(Algorithm::LeastConnections);
    let mut open = [0u32; 3];
    // some go on, of others the first endpoint's end at once, or the last one's
    for (nth, client) in clients(400).enumerate() {
        let load = |at: usize| f64::from(open[at] + 1) / f64::from(WEIGHTS[at]);
        let least = (0..3).map(load).fold(f64::INFINITY, f64::min);
        let at = asked(&mut rig, &client);
        assert!(load(at) <= least, "{at} with {open:?}");
        open[at] += 1;
        let ends = [usize::MAX, 0, 2, at][nth / 100];
        if ends < 3 && open[ends] > 0 {
            open[ends] -= 1;
        }
        rig.connect(&served(ends.min(2)), open[ends.min(2)].into());
        rig.connect(&served(at), open[at].into());
        rig.advance(Duration::from_micros(20));
    }
}

#[test]
fn what_one_call_gives_away_counts_before_it_is_open_and_no_longer() {
    let mut rig = weighted(Algorithm::LeastConnections);
    // a burst of openings has one time
    assert_eq!(spread(&mut rig, clients(16)), WEIGHTS.map(|weight| 2 * u32::from(weight)));
    // a policy behind has dropped them all: they have never been connections
    rig.advance(Duration::from_micros(20));
    assert_eq!(spread(&mut rig, clients(8)), WEIGHTS.map(u32::from));
}

#[test]
fn of_very_many_endpoints_some_are_looked_at_and_none_is_left_out() {
    let set = EndpointSet(9);
    let service = Service { algorithm: Algorithm::LeastConnections, cluster: set, ..service(1) };
    let mut tables = tables(&[(frontend(VIP, Protocol::Tcp), service)]);
    let endpoints: Vec<_> = (0..300u32)
        .map(|n| Endpoint { address: (0x0a02_0000 + n).to_be_bytes().into(), port: 8080 })
        .collect();
    let octets = Endpoint::encode_all(&endpoints);
    tables.put(&Row::Endpoints(set, Endpoints::new(&octets).expect("they are in order")));
    let mut rig = Rig::<ServiceLb>::new("{}");
    rig.publish(&tables).expect("they fit together");
    let mut open: BTreeMap<IpAddr, u64> = BTreeMap::new();
    for client in clients(3000) {
        let (address, port) =
            endpoint(&ask(&mut rig, PortKind::Pod, &syn(&client, VIP))).expect("one");
        let count = open.entry(address).or_default();
        *count += 1;
        rig.connect(&Served::new(address, port, Protocol::Tcp as u8), *count);
        rig.advance(Duration::from_micros(20));
    }
    let (least, most) = (open.values().min(), open.values().max());
    assert_eq!(open.len(), 300);
    assert!(least >= Some(&9) && most <= Some(&11), "10 each would be: {least:?} to {most:?}");
}

#[test]
fn in_the_long_run_each_endpoint_gets_its_share_with_every_algorithm() {
    for algorithm in Algorithm::ALL {
        let mut rig = weighted(algorithm);
        let seen = spread(&mut rig, clients(16_000));
        for (seen, weight) in seen.into_iter().zip(WEIGHTS) {
            let due = 2000.0 * f64::from(weight);
            // of 16,000 throws, six standard deviations of the widest
            let off = (f64::from(seen) - due).abs();
            assert!(off < 400.0, "{algorithm:?}: {seen} instead of {due}");
        }
    }
}

#[test]
fn connections_that_nobody_is_to_get_are_refused_and_the_others_served() {
    let somebody = Endpoint { address: address(BACKENDS[0]), port: 8080 };
    let backends = [(Endpoint::NOBODY, 3), (somebody, 1)];
    let backends = backends.map(|(endpoint, weight)| Backend { endpoint, weight });
    let mut rig = served_by(Algorithm::Maglev, &backends);
    let refused = clients(400).filter(|client| {
        let decision = ask(&mut rig, PortKind::Pod, &syn(client, VIP));
        match endpoint(&decision) {
            Some(found) => assert_eq!(found, (somebody.address, somebody.port)),
            None => assert_eq!(end(&decision), (Control::Reject, Reason::NoBackend)),
        }
        endpoint(&decision).is_none()
    });
    let refused = refused.count();
    assert!((280..320).contains(&refused), "{refused} of about 300");
}

/// A Service with this algorithm, whose endpoints have weights.
fn weighted(algorithm: Algorithm) -> Rig<ServiceLb> {
    let backends = BACKENDS.iter().zip(WEIGHTS).map(|(it, weight)| Backend {
        endpoint: Endpoint { address: address(it), port: 8080 },
        weight,
    });
    served_by(algorithm, &backends.collect::<Vec<_>>())
}

/// A Service with these endpoints, in order.
fn served_by(algorithm: Algorithm, backends: &[Backend]) -> Rig<ServiceLb> {
    let set = EndpointSet(9);
    let service = Service { algorithm, cluster: set, ..service(1) };
    let mut tables = tables(&[(frontend(VIP, Protocol::Tcp), service)]);
    let octets = Backend::encode_all(backends);
    tables.put(&Row::Endpoints(set, Endpoints::new(&octets).expect("they are in order")));
    let mut rig = Rig::<ServiceLb>::new("{}");
    rig.publish(&tables).expect("they fit together");
    rig
}

/// So many clients, each with an address of its own.
fn clients(count: u32) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("10.{}.{}.{}:1024", 2 + (n >> 16), (n >> 8) & 255, n & 255))
}

/// Which endpoint a client's connection gets.
fn asked(rig: &mut Rig<ServiceLb>, client: &str) -> usize {
    let (address, _) = endpoint(&ask(rig, PortKind::Pod, &syn(client, VIP))).expect("one");
    let at = BACKENDS.iter().position(|it| super::address(it) == address);
    at.expect("it is of the set")
}

/// How the host knows an endpoint.
fn served(at: usize) -> Served {
    Served::new(address(BACKENDS[at]), 8080, Protocol::Tcp as u8)
}

/// How many of their connections each endpoint gets.
fn spread(rig: &mut Rig<ServiceLb>, clients: impl Iterator<Item = String>) -> [u32; 3] {
    let mut seen = [0; 3];
    for client in clients {
        seen[asked(rig, &client)] += 1;
    }
    seen
}

const WEIGHTS: [u16; 3] = [1, 2, 5];
