//! Which of a Service's endpoints connections get, against what its algorithm and the endpoints'
//! weights say.

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

/// A Service with this algorithm, whose endpoints have weights.
fn weighted(algorithm: Algorithm) -> Rig<ServiceLb> {
    let set = EndpointSet(9);
    let service = Service { algorithm, cluster: set, ..service(1) };
    let mut tables = tables(&[(frontend(VIP, Protocol::Tcp), service)]);
    let backends: Vec<Backend> = BACKENDS
        .iter()
        .zip(WEIGHTS)
        .map(|(it, weight)| Backend {
            endpoint: Endpoint { address: address(it), port: 8080 },
            weight,
        })
        .collect();
    let octets = Backend::encode_all(&backends);
    tables.put(&Row::Endpoints(set, Endpoints::new(&octets).expect("they are in order")));
    let mut rig = Rig::<ServiceLb>::new("{}");
    rig.publish(&tables).expect("they fit together");
    rig
}

/// So many clients, each with an address of its own.
fn clients(count: u32) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("10.{}.{}.{}:1024", 2 + (n >> 16), (n >> 8) & 255, n & 255))
}

/// How many of their connections each endpoint gets.
fn spread(rig: &mut Rig<ServiceLb>, clients: impl Iterator<Item = String>) -> [u32; 3] {
    let mut seen = [0; 3];
    for client in clients {
        let (address, _) = endpoint(&ask(rig, PortKind::Pod, &syn(&client, VIP))).expect("one");
        let at = BACKENDS.iter().position(|it| super::address(it) == address);
        seen[at.expect("it is of the set")] += 1;
    }
    seen
}

const WEIGHTS: [u16; 3] = [1, 2, 5];
