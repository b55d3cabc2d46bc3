//! Names of domains from manifests to the module that ships: tables are made of a cluster, and what a
//! resolver answers lets a pod through (K4).

use std::time::Duration;

use millrace_abi::{Control, Field, Origin, PacketVerdict, PortKind, Slot};
use millrace_control::compile::{Compiler, Publication};
use millrace_control::source::Manifests;
use millrace_filter::testing::frames::{self, Flags};
use millrace_sandbox::{Grant, Instance, Sandbox, Settings};

/// A node's policy filter, as it ships.
struct Node {
    // modules need their engine's clock
    _sandbox: Sandbox,
    instance: Instance,
}

impl Node {
    /// The node of these manifests.
    fn of(manifests: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("all.yaml"), manifests).expect("the folder is there");
        let (world, complaints) =
            Manifests::open(folder.path()).and_then(|it| it.read()).expect("the folder is there");
        assert!(complaints.is_empty(), "{complaints:?}");

        let sandbox = Sandbox::new(&Settings::default()).expect("filters run here");
        let filter = millrace_builtin::find("policy").expect("it is among the built-in filters");
        let memory = millrace_abi::limits::DEFAULT_MEMORY;
        let module = sandbox.load(filter.bytes, memory).expect("it ships");
        let grant = Grant { deadline: Duration::from_secs(10), ..Grant::new("policy") };
        let mut instance = module.instantiate(&grant, "{}").expect("it starts");
        let mut compiler = Compiler::new("a");
        compiler.learn(world);
        let Publication { delta, generation, .. } = compiler.compile();
        let most = millrace_abi::limits::MAX_UPDATE / 4;
        for page in delta.updates(&module.manifest().tables(), *generation, most) {
            instance.update(&page).expect("it takes what it is told");
        }
        Self { _sandbox: sandbox, instance }
    }

    /// Whether the connection that a frame opens goes on, and whether its packets are to be seen.
    fn asks(&mut self, frame: &[u8]) -> (bool, bool) {
        self.instance.slots_mut(1)[0] = slot(frame, POD);
        let decisions = self.instance.flow(1, Origin::New, NOW_NS).expect("it answers");
        let [decision] = decisions else { unreachable!("one slot has one decision") };
        let goes_on = Control::from_u8(decision.control) == Some(Control::Continue);
        (goes_on, decision.stated().contains(Field::Inspect))
    }

    fn sees(&mut self, frame: &[u8], port: u16) {
        assert!(self.instance.push_packet(&slot(frame, port), frame), "there is room for one");
        let mut passes = false;
        let mut take = |_, record: &millrace_abi::PacketRecord, _: &[u8]| {
            passes = record.verdict == PacketVerdict::Pass as u8 && record.flags == 0;
        };
        self.instance.show_packets(Origin::New, NOW_NS, &mut take).expect("it answers");
        assert!(passes, "it is looked at, and no more");
    }
}

fn slot(frame: &[u8], ingress: u16) -> Slot {
    let kind = if ingress == POD { PortKind::Pod } else { PortKind::Remote };
    let mut slot = Slot { ingress, ingress_kind: kind as u8, now_ns: NOW_NS, ..Slot::ZERO };
    millrace_parse::parse(frame, &mut slot).expect("it is well-formed");
    slot
}

#[test]
fn k4_a_name_of_a_manifest_lets_a_pod_through_once_the_clusters_resolver_has_answered() {
    let mut node = Node::of(MANIFESTS);
    let opens = |to: &str| frames::tcp("10.1.0.2:4000", &format!("{to}:443"), Flags::SYN, b"");
    let question = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x03www\x07example\x03com\0\0\x01\0\x01";
    let asks = frames::udp("10.1.0.2:5000", "10.96.0.53:53", question);
    assert_eq!(node.asks(&opens("192.0.2.7")), (false, false));
    assert_eq!(node.asks(&asks), (true, true));
    let elsewhere = frames::udp("10.1.0.2:5000", "10.96.0.54:53", question);
    assert_eq!(node.asks(&elsewhere), (true, false), "what that says is not believed");

    node.sees(&asks, POD);
    let mut answer =
        [question, &b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x07"[..]].concat();
    (answer[2], answer[3], answer[7]) = (0x81, 0x80, 1);
    node.sees(&frames::udp("10.1.1.9:53", "10.1.0.2:5000", &answer), POD + 1);
    assert_eq!(node.asks(&opens("192.0.2.7")), (true, false));
    assert_eq!(node.asks(&opens("192.0.2.8")), (false, false));
}

/// The port that the pod is behind.
const POD: u16 = 1;
const NOW_NS: u64 = 3_600_000_000_000;
const MANIFESTS: &str = "
{apiVersion: v1, kind: Node, metadata: {name: a}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: shop}, spec: {nodeName: a, containers: [{name: c}]},
 status: {podIPs: [{ip: 10.1.0.2}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: kube-dns, namespace: kube-system, labels: {k8s-app: kube-dns}},
 spec: {clusterIP: 10.96.0.53, ports: [{port: 53, protocol: UDP}]}}
---
{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {name: names},
 spec: {tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [
  {action: Accept, to: [{domainNames: ['*.Example.com']}]},
  {action: Accept, to: [{networks: [10.96.0.0/12]}]},
  {action: Deny, to: [{networks: [0.0.0.0/0]}]}]}}
";
