//! Services in a lab: reached by their addresses from a pod, and changed while they are.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use millrace_netns::Namespace;

use crate::bed::{Bed, NODES, until};
use crate::talk::{Answer, Talk, ask};

#[test]
fn c1_s23_a_service_is_reached_over_tcp_and_udp_with_both_families_and_all_backends_serve() {
    let Some(shop) = Shop::open() else { return };
    let (client, _) = shop.0.pod("client");
    for place in places(7) {
        let tcp = spread(60, || Ok(open(&client, place)?.1));
        let udp = spread(60, || ask_once(&client, place));
        for hits in [tcp, udp] {
            assert_eq!(
                hits.keys().cloned().collect::<BTreeSet<_>>(),
                names(&["one", "two", "three"])
            );
            assert!(hits.values().all(|hits| *hits >= 5), "{place}: {hits:?}");
        }
    }
    // S15: what the Service has not, nobody has
    for place in places(9) {
        let error = open(&client, place).err().expect("nobody is there");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{place}: {error}");
    }
}

#[test]
fn s21_backends_come_and_go_without_a_lost_flow_and_new_ones_go_to_those_there_are() {
    let Some(shop) = Shop::open() else { return };
    let (client, _) = shop.0.pod("client");
    let mut talks: Vec<(Talk, String)> = Vec::new();
    for place in places(7) {
        // one to each of them
        for server in names(&["one", "two", "three"]) {
            let talk = until(|| open(&client, place).ok().filter(|it| it.1 == server));
            talks.push(talk);
        }
    }
    let mut all_go_on = |round: &str| {
        for (talk, server) in &mut talks {
            let answer = talk.say(round).expect("it goes on");
            assert_eq!((&answer.server, answer.client), (&*server, talk.client()), "{round}");
        }
    };
    for (round, serving) in
        [&["one", "three"][..], &["two"], &["one", "two", "three"]].iter().enumerate()
    {
        shop.serve_by(serving);
        all_go_on(&format!("round-{round}"));
        for place in places(7) {
            let now: BTreeSet<_> = spread(40, || Ok(open(&client, place)?.1)).into_keys().collect();
            assert_eq!(now, names(serving), "round {round}");
            let now: BTreeSet<_> = spread(40, || ask_once(&client, place)).into_keys().collect();
            assert_eq!(now, names(serving), "round {round}");
        }
    }

    // S9: nobody is left
    shop.serve_by(&[]);
    for place in places(7) {
        let error = open(&client, place).err().expect("nobody is there");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{place}: {error}");
    }
    all_go_on("end");
}

/// Two nodes, a client, and three pods that serve.
struct Shop(Bed);

impl Shop {
    fn open() -> Option<Self> {
        let pods = pods(&["one", "two", "three"]);
        let manifests = [("nodes.yaml", NODES), ("pods.yaml", &*pods), ("services.yaml", SERVICES)];
        let shop = Self(Bed::of(&manifests, &[])?);
        assert_eq!(shop.endpoints("east"), 6);
        Some(shop)
    }

    /// Has these pods be behind the Service, which all nodes know then.
    fn serve_by(&self, serving: &[&str]) {
        self.0.write(&[("pods.yaml", &*pods(serving))]);
        self.0.done(&["apply", &self.0.folder()]);
        for node in ["east", "west"] {
            assert_eq!(self.endpoints(node), 2 * serving.len(), "{node}");
        }
    }

    /// How many endpoints of the Service a node knows.
    fn endpoints(&self, node: &str) -> usize {
        let services = self.0.asked(node, &["services"]);
        services["default/web"]["endpoints"].as_array().expect("it is there").len()
    }
}

/// A client, and servers of which these are behind the Service.
fn pods(serving: &[&str]) -> String {
    let pod = |(name, node): (&str, &str)| {
        let labels = if serving.contains(&name) { "{app: web}" } else { "{}" };
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {labels}}}, \
             spec: {{nodeName: {node}, containers: [{{name: server, image: none}}]}}}}\n---\n"
        )
    };
    [("client", "east"), ("one", "east"), ("two", "east"), ("three", "west")].map(pod).concat()
}

/// Opens a connection, and returns who has answered on it; the server has seen the client itself
/// (S11).
fn open(client: &Namespace, to: SocketAddr) -> io::Result<(Talk, String)> {
    let mut talk = Talk::open(client, to)?;
    let Answer { server, client, .. } = talk.say("who")?;
    assert_eq!(client, talk.client());
    Ok((talk, server))
}

fn ask_once(client: &Namespace, to: SocketAddr) -> io::Result<String> {
    let (source, answer) = ask(client, to)?;
    assert_eq!(answer.client, source);
    Ok(answer.server)
}

/// Who answers how often, of so many.
fn spread(times: usize, ask: impl Fn() -> io::Result<String>) -> BTreeMap<String, usize> {
    let mut hits = BTreeMap::new();
    for _ in 0..times {
        *hits.entry(ask().expect("somebody answers")).or_insert(0) += 1;
    }
    hits
}

fn names(pods: &[&str]) -> BTreeSet<String> {
    pods.iter().map(|pod| format!("default/{pod}")).collect()
}

fn places(port: u16) -> [SocketAddr; 2] {
    ["10.96.0.10", "fd96::10"].map(|it| SocketAddr::new(it.parse().expect("an address"), port))
}

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  clusterIPs: [10.96.0.10, 'fd96::10']
  selector: {app: web}
  ports:
  - {name: echo, port: 7}
  - {name: echo-udp, port: 7, protocol: UDP}
";
