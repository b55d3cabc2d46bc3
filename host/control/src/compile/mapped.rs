//! Ports of the node that runtimes want for containers (CNI's `portMappings`): as the cluster's own word
//! for pods, and never twice.

use millrace_tables::Table;

use super::*;
use crate::manifest::Kind;
use crate::source::News;
use crate::{Change, ContainerPort, HostPort, PodName, Protocol};

const NODE: &str = "{metadata: {name: a}, spec: {podCIDR: 10.1.0.0/24}, \
                    status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}}";
const POD: &str = "{metadata: {name: web, namespace: x}, spec: {nodeName: a, containers: [{name: c, \
                   ports: [{containerPort: 80, hostPort: 8080}]}]}, \
                   status: {podIPs: [{ip: 10.1.0.9}]}}";

fn hear(compiler: &mut Compiler, kind: Kind, text: &str) {
    let value = serde_norway::from_str(text).expect("it is YAML");
    let object = kind.read(value).expect("it is an object");
    compiler.hear(News::Changes(vec![Change::Put(Box::new(object))]));
}

fn knowing_its_node() -> Compiler {
    let mut compiler = Compiler::new("a");
    hear(&mut compiler, Kind::Node, NODE);
    compiler
}

/// A container of the pod `x/web`, or of none, that wants a port of the node.
fn mapped(pod: Option<&str>, address: &str, host: (Option<&str>, u16)) -> Mapped {
    let host = HostPort { address: host.0.map(|it| it.parse().expect("an address")), port: host.1 };
    let (name, protocol) = (None, Protocol::Tcp);
    Mapped {
        pod: pod.map(|name| PodName::new("x", name)),
        addresses: vec![address.parse().expect("an address")],
        ports: vec![ContainerPort { name, protocol, port: 80, host: Some(host) }],
    }
}

fn note(compiler: &mut Compiler, mapped: &[(&str, &Mapped)]) {
    let mapped = mapped.iter().map(|(id, it)| ((*id).to_owned(), (*it).clone())).collect();
    compiler.note(Local { mapped, ..Local::default() });
}

/// Where the node has ports, but for what stands in for its addresses.
fn places(compiler: &Compiler) -> Vec<String> {
    let stand_ins = compiler.stand_ins();
    let places = compiler.places().filter(|it| stand_ins.values().all(|own| *own != it.address));
    places.map(|it| it.to_string()).collect()
}

/// What filters are told of places, and of who is behind them.
fn services(compiler: &Compiler) -> Vec<Vec<u8>> {
    let tables = [Table::Services, Table::Endpoints, Table::Sources];
    compiler.draft.tables().whole(&tables, 1, usize::MAX)
}

#[test]
fn s27_c8_a_port_that_a_runtime_wants_is_there_once_whoever_else_says_so() {
    let mut compiler = knowing_its_node();
    let web = mapped(Some("web"), "10.1.0.9", (None, 8080));
    note(&mut compiler, &[("c1:eth0", &web)]);
    compiler.compile();
    assert_eq!(places(&compiler), ["192.0.2.1:8080/TCP"]);
    let told = services(&compiler);
    compiler.adopt();

    // the cluster says it, too: nothing changes, and nobody is complained of
    hear(&mut compiler, Kind::Pod, POD);
    assert_eq!(compiler.compile().complaints, [""; 0]);
    assert_eq!(services(&compiler), told);
    assert_eq!(compiler.unmapped("c1:eth0"), [""; 0]);

    // whoever says it last still does
    note(&mut compiler, &[]);
    compiler.compile();
    assert_eq!(services(&compiler), told);
    note(&mut compiler, &[("c1:eth0", &web)]);
    compiler.hear(News::Changes(vec![Change::Remove(Kind::Pod, "x/web".to_owned())]));
    compiler.compile();
    assert_eq!(services(&compiler), told);
    note(&mut compiler, &[]);
    compiler.compile();
    assert_eq!(places(&compiler), [""; 0]);
}

#[test]
fn s27_c8_of_two_that_want_the_same_port_one_has_it_and_of_the_other_it_is_said() {
    let mut compiler = knowing_its_node();
    hear(&mut compiler, Kind::Pod, POD);
    let (other, elsewhere) =
        (mapped(None, "10.1.0.8", (None, 8080)), mapped(None, "10.1.0.7", (Some("192.0.2.9"), 81)));
    note(&mut compiler, &[("c2:eth0", &other), ("c3:eth0", &elsewhere)]);
    compiler.compile();
    let said = "192.0.2.1:8080/TCP is pod x/web's already";
    let complaints = &compiler.publication().complaints;
    assert_eq!(complaints, &[format!("container c2:eth0: {said}")]);
    assert_eq!(compiler.unmapped("c2:eth0"), [said]);
    assert_eq!(compiler.unmapped("c3:eth0"), ["port 81/TCP: the node has no 192.0.2.9 for it"]);

    // once it is free, it is had
    compiler.hear(News::Changes(vec![Change::Remove(Kind::Pod, "x/web".to_owned())]));
    assert_eq!(compiler.compile().complaints, [""; 0]);
    assert_eq!(compiler.unmapped("c2:eth0"), [""; 0]);
    assert_eq!(places(&compiler), ["192.0.2.1:8080/TCP"]);
}
