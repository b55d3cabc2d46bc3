//! What filters know when the agent is another one.

use std::fs;
use std::net::SocketAddr;
use std::time::SystemTime;

use crate::bed::{Bed, NODES, until};
use crate::talk::ask;

#[test]
fn s19_clients_keep_their_endpoints_when_an_agent_is_killed_and_when_another_takes_over() {
    let pods = [("client", "east"), ("one", "east"), ("two", "east"), ("three", "west")].map(pod);
    let services = (0..SERVICES).map(service).collect::<String>();
    let manifests = [("nodes.yaml", NODES), ("pods.yaml", &*pods.concat()), ("s.yaml", &services)];
    let Some(bed) = Bed::of(&manifests, &[]) else { return };
    let (client, _) = bed.pod("client");
    let servers = || -> Vec<String> {
        until(|| {
            let services = bed.asked("east", &["services"]);
            let count = |service: u8| {
                services[format!("default/web{service}")]["endpoints"].as_array().map(Vec::len)
            };
            (0..SERVICES).all(|service| count(service) == Some(6)).then_some(())
        });
        let server = |place| ask(&client, place).expect("somebody answers").1.server;
        (0..SERVICES).flat_map(places).map(server).collect()
    };

    let at_first = servers();
    // one that is killed has written them down twice since, the second time as they are now
    for _ in 0..2 {
        let (asked, now) = (SystemTime::now(), servers());
        assert_eq!(now, at_first);
        let file = bed.own_folder("east").join("maps/service-lb:affinity");
        until(|| (fs::metadata(&file).ok()?.modified().ok()? > asked).then_some(()));
    }
    for change in [&["restart", "east", "--kill"][..], &["restart", "east"]] {
        bed.done(change);
        assert_eq!(servers(), at_first, "{change:?}");
    }
}

fn pod((name, node): (&str, &str)) -> String {
    let labels = if name == "client" { "{}" } else { "{app: web}" };
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {labels}}}, \
         spec: {{nodeName: {node}, containers: [{{name: server, image: none}}]}}}}\n---\n"
    )
}

fn service(n: u8) -> String {
    let [v4, v6] = places(n).map(|place| place.ip().to_string());
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: web{n}}}, \
         spec: {{clusterIPs: ['{v4}', '{v6}'], selector: {{app: web}}, \
         sessionAffinity: ClientIP, ports: [{{port: 7, protocol: UDP}}]}}}}\n---\n"
    )
}

/// Where a Service is reached, by family.
fn places(service: u8) -> [SocketAddr; 2] {
    [format!("10.96.0.1{service}:7"), format!("[fd96::1{service}]:7")]
        .map(|place| place.parse().expect("an address"))
}

/// As many as make it sure that nobody gets the same endpoints of all by chance.
const SERVICES: u8 = 8;
