//! ClusterNetworkPolicies that are about names of domains, with a real DNS server (K4).

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::Value;

use crate::bed::{Bed, NODES, PODS, until};
use crate::talk::{ECHO, Talk};

#[test]
fn k4_a_pod_reaches_by_name_what_it_has_asked_for_from_the_answer_on_and_nothing_else() {
    let manifests = |dns| [("nodes.yaml", NODES), ("pods.yaml", PODS), ("dns.yaml", dns)];
    // names of what has an address: each lab gives its pods the same ones
    let Some(before) = Bed::of(&manifests(DNS), &[]) else { return };
    let (_, bank) = before.pod("bank");
    drop(before);
    let records = format!(
        "        - --host-record=edge.test,{},{},600\n        - --cname=www.shop.test,edge.test,600\n",
        bank[0], bank[1]
    );
    let dns = DNS.replace("        - --no-hosts\n", &format!("        - --no-hosts\n{records}"));
    assert_ne!(dns, DNS);
    let Some(bed) = Bed::of(&manifests(&dns), &[]) else { return };
    assert_eq!(bed.pod("bank").1, bank);
    let (shop, _) = bed.pod("shop");
    bed.write(&[("policies.yaml", POLICY)]);
    bed.done(&["apply", &bed.folder()]);
    assert_eq!(bed.asked("east", &["policies"])["names"]["pods"][0], "default/shop");

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

    // the server may have to start yet; what it says before the last is of the other name
    let resolved = |name: &str| {
        let output = bed.lab(&["exec", "shop", "--", "getent", "ahosts", name]);
        output.status.success().then_some(())
    };
    until(|| resolved("edge.test"));
    assert_eq!(reached(), BTreeSet::new(), "the policy is about another name");
    until(|| resolved("www.shop.test"));
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
       protocols: [{udp: {destinationPort: {number: 53}}}]}
    - {action: Accept, to: [{domainNames: ['*.shop.test']}]}
    - {action: Deny, to: [{networks: [0.0.0.0/0, '::/0']}]}
";
const RULE: &str = "ClusterNetworkPolicy names, spec.egress[1]";
const DNS: &str = include_str!("../../../../examples/lab/dns.yaml");
