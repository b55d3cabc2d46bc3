//! Least connections with real ones, held, ended, and counted again by the next agent.

use std::collections::BTreeMap;

use millrace_netns::Namespace;

use crate::bed::{Bed, NODES, until};
use crate::talk::Talk;

#[test]
fn whoever_has_the_fewest_open_connections_gets_the_next_also_from_the_next_agent() {
    let pods = [("client", "east"), ("one", "east"), ("two", "east"), ("three", "west")].map(pod);
    let manifests = [("nodes.yaml", NODES), ("pods.yaml", &*pods.concat()), ("s.yaml", SERVICE)];
    let Some(bed) = Bed::of(&manifests, &[]) else { return };
    let mut held = Held::new(&bed);

    // the node counts from soon after the first one on, which goes to anybody
    held.open(1);
    held.await_counts();
    held.open(11);
    assert_eq!(held.counts(), [("one", 3), ("three", 3), ("two", 6)].into());
    held.await_counts();

    // who has ended all of its own is the one to get as many
    held.end("two");
    held.await_counts();
    held.open(6);
    assert_eq!(held.counts(), [("one", 3), ("three", 3), ("two", 6)].into());

    // what goes on without an agent counts for the next one
    for (change, each) in [(&["restart", "east", "--kill"][..], 4), (&["restart", "east"], 5)] {
        held.bed.done(change);
        held.open(1);
        held.await_counts();
        held.open(3);
        assert_eq!(held.counts(), [("one", each), ("three", each), ("two", 2 * each)].into());
    }
}

/// Connections of the client, by the server that has got them.
struct Held<'b> {
    bed: &'b Bed,
    client: Namespace,
    /// Each server's address.
    servers: BTreeMap<&'static str, String>,
    talks: BTreeMap<&'static str, Vec<Talk>>,
}

impl<'b> Held<'b> {
    fn new(bed: &'b Bed) -> Self {
        let address = |name: &'static str| (name, bed.pod(name).1[0].to_string());
        let servers = ["one", "two", "three"].map(address).into();
        Self { bed, client: bed.pod("client").0, servers, talks: BTreeMap::new() }
    }

    /// Opens so many more, one after the other.
    fn open(&mut self, count: usize) {
        for _ in 0..count {
            let place = "10.96.0.20:7".parse().expect("an address");
            let mut talk = Talk::open(&self.client, place).expect("somebody listens");
            let server = talk.say("who").expect("it answers").server;
            let named = |name: &&&str| server == format!("default/{name}");
            let name = self.servers.keys().find(named).expect("it is of the Service");
            self.talks.entry(*name).or_default().push(talk);
        }
    }

    /// Ends all of a server's.
    fn end(&mut self, server: &str) {
        self.talks.remove(server).expect("it has some");
    }

    fn counts(&self) -> BTreeMap<&str, usize> {
        self.talks.iter().map(|(server, talks)| (*server, talks.len())).collect()
    }

    /// Waits until the node has counted what there is.
    fn await_counts(&self) {
        let expected: BTreeMap<&str, u64> = self
            .counts()
            .into_iter()
            .map(|(name, count)| (&*self.servers[name], count as u64))
            .collect();
        until(|| {
            let map = self.bed.asked("east", &["filter", "table", "service-lb", "connections"]);
            let row = |row: &serde_json::Value| {
                let cells = &row["cells"];
                (
                    cells[0].as_str().expect("an address").to_owned(),
                    cells[4].as_u64().expect("a number"),
                )
            };
            let counted: BTreeMap<_, _> = map["rows"].as_array()?.iter().map(row).collect();
            let counted: BTreeMap<_, _> = counted.iter().map(|(it, n)| (&**it, *n)).collect();
            (counted == expected).then_some(())
        });
    }
}

fn pod((name, node): (&str, &str)) -> String {
    let labels = if name == "client" { "{}" } else { "{app: web}" };
    let weight = if name == "two" { "{millrace.dev/weight: '2'}" } else { "{}" };
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {labels}, annotations: \
         {weight}}}, spec: {{nodeName: {node}, containers: [{{name: server, image: none}}]}}}}\n---\n"
    )
}

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata:
  name: web
  annotations: {millrace.dev/algorithm: least-connections}
spec:
  clusterIPs: [10.96.0.20]
  selector: {app: web}
  ports: [{port: 7}]
";
