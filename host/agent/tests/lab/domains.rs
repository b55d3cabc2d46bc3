//! ClusterNetworkPolicies that are about names of domains, with a real DNS server (K4).

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;

use crate::bed::{Bed, NODES, PATIENCE, PODS, until};
use crate::talk::{ECHO, Talk};

#[test]
fn k4_a_pod_reaches_by_name_what_it_has_asked_for_from_the_answer_on_and_nothing_else() {
    let records = |bank: &[IpAddr]| {
        let edge = format!("host-record=edge.test,{},{},600", bank[0], bank[1]);
        vec![edge, "cname=www.shop.test,edge.test,600".to_owned()]
    };
    let Some((bed, bank)) = town(records) else { return };
    let (shop, _) = bed.pod("shop");
    bed.write(&[("policies.yaml", POLICY)]);
    bed.done(&["apply", &bed.folder()]);
    assert_eq!(bed.asked("east", &["policies"])["names"]["pods"][0], "default/shop");
    assert!(learnt(&bed).is_empty());

    // what an address is called nobody knows who has not asked
    let reached = || -> BTreeSet<String> {
        let output = bed.lab(&["probe", "--patience", "300ms", "-o", "json"]);
        let probes: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        let probes = probes.as_array().expect("a list").clone();
        // a pod always reaches itself
        let of_shop =
            probes.iter().filter(|it| it["from"] == "default/shop" && it["to"] != it["from"]);
        let reached = of_shop.filter(|it| it["reached"] == true && it["by"] == "tcp");
        reached.map(|it| it["to"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(reached(), BTreeSet::new());

    // what the server says before the last is of the other name
    resolve(&bed, "edge.test");
    assert_eq!(reached(), BTreeSet::new(), "the policy is about another name");
    resolve(&bed, "www.shop.test");
    assert_eq!(learnt(&bed), bank);
    for address in &bank {
        let to = SocketAddr::new(*address, ECHO);
        let mut talk = Talk::open(&shop, to).expect("it counts before the answer is here");
        let answer = talk.say("hello").expect("it is open");
        assert_eq!((&*answer.server, &*answer.text), ("default/bank", "hello"));
        assert_eq!(bed.flow("east", &talk.stream)["policy"], RULE, "the kernel carries it");
    }
    assert_eq!(reached(), BTreeSet::from(["default/bank".to_owned()]));

    // without the name in the policy it is another address
    bed.write(&[("policies.yaml", &POLICY.replace("*.shop.test", "*.other.test"))]);
    bed.done(&["apply", &bed.folder()]);
    assert_eq!(reached(), BTreeSet::new());
}

#[test]
fn k4_an_answer_over_tcp_lets_to_its_addresses_and_what_is_open_to_them_goes_on() {
    // an answer of several segments, which does not fit a datagram
    let others = (0..150).map(|it| format!("host-record=many.shop.test,192.0.2.{it},600"));
    let records = |bank: &[IpAddr]| {
        let bank = bank.iter().map(|it| format!("host-record=many.shop.test,{it},600"));
        others.clone().chain(bank).collect()
    };
    let Some((bed, bank)) = town(records) else { return };
    let (shop, _) = bed.pod("shop");
    let mut talks: Vec<_> = bank
        .iter()
        .map(|it| Talk::open(&shop, SocketAddr::new(*it, ECHO)).expect("nothing denies it yet"))
        .collect();
    bed.write(&[("policies.yaml", POLICY)]);
    bed.done(&["apply", &bed.folder()]);
    for talk in &mut talks {
        talk.stream.set_read_timeout(Some(Duration::from_millis(300))).expect("it is a socket");
        let error = talk.say("one").expect_err("its address has no name yet");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }

    resolve(&bed, "many.shop.test");
    let learnt = learnt(&bed);
    assert_eq!(learnt.len(), 152, "{learnt:?}");
    for (talk, address) in talks.iter_mut().zip(&bank) {
        assert!(learnt.contains(address));
        talk.stream.set_read_timeout(Some(PATIENCE)).expect("it is a socket");
        // what was said before is sent again until it arrives
        assert_eq!(talk.say("two").expect("it goes on").text, "one");
        Talk::open(&shop, SocketAddr::new(*address, ECHO)).expect("it has a name");
    }
}

/// A lab whose server knows these records as well, which are about the addresses of `bank`; and those.
fn town(records: impl Fn(&[IpAddr]) -> Vec<String>) -> Option<(Bed, Vec<IpAddr>)> {
    let manifests = |dns| [("nodes.yaml", NODES), ("pods.yaml", PODS), ("dns.yaml", dns)];
    // names of what has an address: each lab gives its pods the same ones
    let before = Bed::of(&manifests(DNS), &[])?;
    let (_, bank) = before.pod("bank");
    drop(before);
    let records = records(&bank).into_iter().map(|it| format!("        - --{it}\n"));
    let records: String =
        ["        - --no-hosts\n".to_owned()].into_iter().chain(records).collect();
    let dns = DNS.replace("        - --no-hosts\n", &records);
    assert_ne!(dns, DNS);
    let bed = Bed::of(&manifests(&dns), &[])?;
    assert_eq!(bed.pod("bank").1, bank);
    Some((bed, bank))
}

/// Has the pod `shop` ask for a name, and be answered; the server may have to start yet.
fn resolve(bed: &Bed, name: &str) {
    until(|| {
        let output = bed.lab(&["exec", "shop", "--", "getent", "ahosts", name]);
        output.status.success().then_some(())
    });
}

/// The addresses that a pod's node has learnt for the policy's name, IPv4 first.
fn learnt(bed: &Bed) -> Vec<IpAddr> {
    let policies = bed.asked("east", &["policies"]);
    let learnt = policies["names"]["domains"]["*.shop.test"].as_array().expect("a list");
    let address = |it: &Value| {
        assert!((1..=600).contains(&it["ttlSeconds"].as_u64().expect("a number")), "{it}");
        serde_json::from_value(it["address"].clone()).expect("an address")
    };
    learnt.iter().map(address).collect()
}

/// Who asks, and by which name it is let through.
const POLICY: &str = "
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: names}
spec:
  tier: Admin
  priority: 1
  subject: {pods: {podSelector: {matchExpressions: [{key: app, operator: DoesNotExist}]},
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: default}}}}
  egress:
    - {action: Accept, to: [{pods: {podSelector: {matchLabels: {k8s-app: kube-dns}}}}],
       protocols: [{udp: {destinationPort: {number: 53}}}, {tcp: {destinationPort: {number: 53}}}]}
    - {action: Accept, to: [{domainNames: ['*.shop.test']}]}
    - {action: Deny, to: [{networks: [0.0.0.0/0, '::/0']}]}
";
const RULE: &str = "ClusterNetworkPolicy names, spec.egress[1]";
const DNS: &str = include_str!("../../../../examples/lab/dns.yaml");
