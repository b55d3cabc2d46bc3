//! Which algorithm a Service has, and what the pods behind it weigh.

use millrace_tables::{Algorithm, EndpointSet};

use super::Compiler;
use crate::source::Manifests;

fn compile(manifests: &str) -> Compiler {
    let directory = tempfile::tempdir().expect("a folder");
    std::fs::write(directory.path().join("a.yaml"), manifests).expect("the folder is there");
    let manifests = Manifests::open(directory.path()).expect("a folder");
    let (world, complaints) = manifests.read().expect("it is there");
    assert_eq!(complaints.iter().map(ToString::to_string).collect::<Vec<_>>(), [""; 0]);
    let mut compiler = Compiler::new("a");
    compiler.learn(world);
    compiler.compile();
    compiler
}

fn pod(name: &str, weight: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: web}}, \
         annotations: {{{weight}}}}}, spec: {{containers: [{{name: c}}]}}, \
         status: {{podIPs: [{{ip: 10.1.0.{}}}]}}}}\n---\n",
        name.len()
    )
}

fn service(annotations: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: web, annotations: {{{annotations}}}}}, \
         spec: {{clusterIP: 10.96.0.10, selector: {{app: web}}, ports: [{{port: 80}}]}}}}\n---\n"
    )
}

/// The only Service's algorithm, and the weights of its endpoints.
fn shares(compiler: &Compiler) -> (Algorithm, Vec<(String, u16)>) {
    let tables = compiler.draft.tables().whole(&[millrace_tables::Table::Services], 1, usize::MAX);
    let tables = tables.concat();
    let service = millrace_tables::Update::new(&tables).changes().find_map(|change| match change {
        Ok(millrace_tables::Change::Upsert(millrace_tables::Row::Service(_, service))) => {
            Some(service)
        }
        _ => None,
    });
    let service = service.expect("there is one");
    let EndpointSet(set) = service.cluster;
    let them = compiler.frontends.sets.endpoints.thing(set);
    let weight = |it: &millrace_tables::Backend| (it.endpoint.address.to_string(), it.weight);
    (service.algorithm, them.into_iter().flatten().map(weight).collect())
}

#[test]
fn services_say_how_they_are_balanced_and_pods_what_they_weigh() {
    for (word, algorithm) in [
        ("", Algorithm::Maglev),
        ("millrace.dev/algorithm: maglev", Algorithm::Maglev),
        ("millrace.dev/algorithm: round-robin", Algorithm::RoundRobin),
        ("millrace.dev/algorithm: source-hash", Algorithm::SourceHash),
        ("millrace.dev/algorithm: least-connections", Algorithm::LeastConnections),
    ] {
        let pods = pod("a", "") + &pod("bb", "millrace.dev/weight: '3'");
        let expected = [("10.1.0.1", 1), ("10.1.0.2", 3)].map(|(it, n)| (it.to_owned(), n));
        let (said, weights) = shares(&compile(&(service(word) + &pods)));
        assert_eq!((said, &*weights), (algorithm, &expected[..]), "{word}");

        // as a cluster's slices have it; what the Service does not ask for weighs nothing more
        let endpoint = |name: &str, last: u8| {
            format!("{{addresses: [10.1.0.{last}], targetRef: {{kind: Pod, name: {name}}}}}")
        };
        let slice = format!(
            "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: s, labels: \
             {{kubernetes.io/service-name: web}}}}, addressType: IPv4, ports: [{{port: 80}}], \
             endpoints: [{}, {}, {}]}}\n---\n",
            endpoint("a", 1),
            endpoint("bb", 2),
            endpoint("ccc", 3)
        );
        let other = pod("ccc", "millrace.dev/weight: '9'").replace("app: web", "app: other");
        let (_, weights) = shares(&compile(&(service(word) + &pods + &slice + &other)));
        assert_eq!(weights[..2], expected, "{word}");
        assert_eq!(weights[2], ("10.1.0.3".to_owned(), 1), "{word}");
    }
}
