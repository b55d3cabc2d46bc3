use serde_norway::Value;

use crate::Protocol;
use crate::manifest::{Kind, Object};
use crate::policy::{
    ClusterAction, ClusterNetworkPolicy, ClusterPeer, ClusterPort, ClusterTier, ClusterTraffic,
    DomainName, PodSelector, PolicyPort, PortRange, Selector,
};

fn value(spec: &str) -> Value {
    let text = format!(
        "{{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, \
         metadata: {{name: all}}, spec: {{{spec}}}}}"
    );
    serde_norway::from_str(&text).expect("it is YAML")
}

/// What counts of it, and what is said of it.
fn read(spec: &str) -> (ClusterNetworkPolicy, Option<String>) {
    match Kind::ClusterNetworkPolicy.read_or_close(value(spec)) {
        (Some(Object::ClusterNetworkPolicy(policy)), error) => {
            (policy, error.map(|it| it.to_string()))
        }
        other => panic!("{spec}: {other:?}"),
    }
}

const HEAD: &str = "tier: Baseline, priority: 7, subject: {namespaces: {}}";

fn labelled(key: &str, value: &str) -> Selector {
    let labels = [(key.to_owned(), value.to_owned())].into();
    Selector { labels, expressions: Vec::new() }
}

#[test]
fn k1_k3_a_policy_says_when_it_is_asked_and_whom_it_is_for() {
    let (policy, error) = read(&format!("{HEAD}, egress: []"));
    assert_eq!(error, None);
    assert_eq!(policy.order(), (ClusterTier::Baseline, 7, "all"));
    assert_eq!(policy.subject, PodSelector::default());
    let (policy, error) = read(
        "tier: Admin, priority: 1000, subject: {pods: {namespaceSelector: {matchLabels: {a: b}}, \
         podSelector: {matchLabels: {c: d}}}}",
    );
    assert_eq!((error, policy.tier), (None, ClusterTier::Admin));
    let subject = PodSelector { namespaces: labelled("a", "b"), pods: labelled("c", "d") };
    assert_eq!(policy.subject, subject);
    assert!(policy.ingress.is_empty() && policy.egress.is_empty());
}

#[test]
fn k2_k4_k5_a_rule_has_an_action_peers_and_ports() {
    let (policy, error) = read(&format!(
        "{HEAD}, ingress: [{{name: first, action: Pass, from: [{{namespaces: {{}}}}]}}], \
         egress: [{{action: Deny, to: [{{nodes: {{matchLabels: {{a: b}}}}}}, {{networks: [10.0.0.0/8, \
         'fd00::/8']}}], protocols: [{{tcp: {{destinationPort: {{number: 80}}}}}}, {{sctp: \
         {{destinationPort: {{range: {{start: 1, end: 65535}}}}}}}}]}}, \
         {{action: Accept, to: [{{pods: {{}}}}], protocols: [{{destinationNamedPort: web}}]}}]"
    ));
    assert_eq!(error, None);
    let [ingress] = &policy.ingress[..] else { panic!("{policy:?}") };
    assert_eq!((ingress.name.as_deref(), ingress.action), (Some("first"), ClusterAction::Pass));
    let anybody = ClusterPeer::Pods(PodSelector::default());
    let about = ClusterTraffic::With { peers: vec![anybody.clone()], ports: Vec::new() };
    assert_eq!(ingress.about, about);
    let networks = ["10.0.0.0/8", "fd00::/8"].map(|it| it.parse().unwrap()).to_vec();
    let of = |protocol, first, last| {
        ClusterPort::Of(PolicyPort { protocol, ports: PortRange::Numbers(first, last) })
    };
    let about = ClusterTraffic::With {
        peers: vec![ClusterPeer::Nodes(labelled("a", "b")), ClusterPeer::Networks(networks)],
        ports: vec![of(Protocol::Tcp, 80, 80), of(Protocol::Sctp, 1, 65535)],
    };
    assert_eq!(policy.egress[0].about, about);
    let named = vec![ClusterPort::Named("web".to_owned())];
    let about = ClusterTraffic::With { peers: vec![anybody], ports: named };
    assert_eq!(policy.egress[1].about, about);
}

#[test]
fn k4_names_of_domains_are_the_same_in_any_case_and_with_a_dot_at_the_end() {
    let (policy, error) = read(&format!(
        "{HEAD}, egress: [{{action: Accept, to: [{{domainNames: [WWW.Example.com., '*.a.b']}}]}}]"
    ));
    assert_eq!(error, None);
    let names = ["www.example.com", "*.a.b"].map(|it| DomainName::new(it).expect("a name"));
    let peers = vec![ClusterPeer::Domains(names.to_vec())];
    assert_eq!(policy.egress[0].about, ClusterTraffic::With { peers, ports: Vec::new() });
}

#[test]
fn k6_a_rule_that_is_not_understood_is_named_and_fails_closed_while_others_count() {
    let good = "{action: Accept, to: [{namespaces: {}}]}";
    let port =
        |text: &str| format!("{{action: Deny, to: [{{namespaces: {{}}}}], protocols: [{text}]}}");
    let peer = |text: &str| format!("{{action: Accept, to: [{text}]}}");
    let many = |what: &str| vec![what; 26].join(", ");
    for (rule, action, said) in [
        (peer("{}"), ClusterAction::Accept, "spec.egress[1].to[0]: state one of"),
        (peer("{novelty: {}}"), ClusterAction::Accept, "spec.egress[1].to[0]: state one of"),
        (peer(""), ClusterAction::Accept, "spec.egress[1].to: state one peer at least"),
        (peer("{pods: {}, nodes: {}}"), ClusterAction::Accept, "spec.egress[1].to[0]: state one"),
        (
            peer("{networks: [10.0.0.0]}"),
            ClusterAction::Accept,
            "to[0].networks[0]: `10.0.0.0` is no",
        ),
        (peer("{networks: []}"), ClusterAction::Accept, "to[0].networks: there are no prefixes"),
        (peer("{domainNames: []}"), ClusterAction::Accept, "to[0].domainNames: there are no names"),
        (
            peer("{domainNames: [a.b, 'www.*.c']}"),
            ClusterAction::Accept,
            "to[0].domainNames[1]: `www.*.c` is no name",
        ),
        (
            peer(&format!("{{domainNames: [{}]}}", many("a.b"))),
            ClusterAction::Accept,
            "to[0].domainNames: there are 26 names, 25",
        ),
        (
            "{action: Deny, to: [{domainNames: [example.com]}]}".into(),
            ClusterAction::Deny,
            "to[0].domainNames: rules that accept alone",
        ),
        (
            "{action: Accept, to: [{domainNames: [a.b]}], protocols: [{destinationNamedPort: web}]}"
                .into(),
            ClusterAction::Accept,
            "protocols[0].destinationNamedPort: pods alone",
        ),
        (peer(&many("{pods: {}}")), ClusterAction::Accept, "egress[1].to: there are 26 peers, 25"),
        ("{action: Drop, to: [{pods: {}}]}".into(), ClusterAction::Deny, "spec.egress[1].action: "),
        (
            "{to: [{pods: {}}]}".into(),
            ClusterAction::Deny,
            "spec.egress[1]: missing field `action`",
        ),
        (port("{}"), ClusterAction::Deny, "spec.egress[1].protocols[0]: state one of `tcp`"),
        (
            port("{icmp: {}}"),
            ClusterAction::Deny,
            "spec.egress[1].protocols[0]: state one of `tcp`",
        ),
        (
            port("{tcp: {}}"),
            ClusterAction::Deny,
            "protocols[0].tcp: missing field `destinationPort`",
        ),
        (
            port("{tcp: {destinationPort: {}}}"),
            ClusterAction::Deny,
            "destinationPort: state one of",
        ),
        (
            port("{tcp: {destinationPort: {number: 0}}}"),
            ClusterAction::Deny,
            "destinationPort.number:",
        ),
        (
            port("{udp: {destinationPort: {range: {start: 9, end: 9}}}}"),
            ClusterAction::Deny,
            "udp.destinationPort.range.end: 9 is not behind `start`, 9",
        ),
        (
            port("{destinationNamedPort: UP}"),
            ClusterAction::Deny,
            "destinationNamedPort: `UP` is no",
        ),
        (
            "{action: Pass, to: [{nodes: {}}], protocols: [{destinationNamedPort: web}]}".into(),
            ClusterAction::Deny,
            "protocols[0].destinationNamedPort: pods alone",
        ),
    ] {
        let (policy, error) = read(&format!("{HEAD}, egress: [{good}, {rule}, {good}]"));
        let error = error.expect("something is wrong");
        assert!(error.contains(said), "{rule}: {error}");
        let known: Vec<_> =
            policy.egress.iter().map(|it| it.about != ClusterTraffic::NotUnderstood).collect();
        assert_eq!(known, [true, false, true], "{rule}");
        assert_eq!(policy.egress[1].action, action, "{rule}");
        assert_eq!(policy.order(), (ClusterTier::Baseline, 7, "all"));
    }
    // who comes has neither a network nor is a node to them
    let (policy, error) =
        read(&format!("{HEAD}, ingress: [{{action: Deny, from: [{{nodes: {{}}}}]}}]"));
    assert!(error.expect("it is wrong").contains("spec.ingress[0].from[0]: state one of"));
    assert_eq!(policy.ingress[0].about, ClusterTraffic::NotUnderstood);
    let (policy, error) = read(&format!("{HEAD}, egress: [{}]", many(good)));
    assert!(error.expect("it is wrong").contains("spec.egress: there are 26 rules"));
    assert_eq!(policy.egress.len(), 26, "what is understood counts");
}

#[test]
fn k6_where_it_is_not_clear_whom_a_policy_is_for_no_rule_of_it_accepts() {
    let rules = "egress: [{action: Accept, to: [{pods: {}}]}, {action: Pass, to: [{pods: {}}]}]";
    for (head, said) in [
        ("tier: Mine, priority: 1, subject: {namespaces: {}}", "spec.tier: unknown variant"),
        ("priority: 1, subject: {namespaces: {}}", "spec: missing field `tier`"),
        ("tier: Admin, priority: 1001, subject: {namespaces: {}}", "spec.priority: 1001 is above"),
        ("tier: Admin, priority: -1, subject: {namespaces: {}}", "spec.priority: "),
        ("tier: Admin, priority: 1", "spec: missing field `subject`"),
        ("tier: Admin, priority: 1, subject: {}", "spec.subject: state one of"),
        (
            "tier: Admin, priority: 1, subject: {namespaces: {}, pods: {}}",
            "spec.subject: state one",
        ),
    ] {
        let (policy, error) = read(&format!("{head}, {rules}"));
        let error = error.expect("something is wrong");
        assert!(error.contains(said), "{head}: {error}");
        assert_eq!(policy.subject, PodSelector::default(), "it is for everybody");
        let actions: Vec<_> = policy.egress.iter().map(|it| it.action).collect();
        assert_eq!(actions, [ClusterAction::Accept, ClusterAction::Deny]);
        assert!(policy.egress.iter().all(|it| it.about == ClusterTraffic::NotUnderstood));
    }
}

#[test]
fn a_policy_reads_back_as_it_is_written() {
    let rules = "egress: [{name: a, action: Deny, to: [{pods: {podSelector: {matchLabels: {a: b}}}}, \
                 {nodes: {}}, {networks: ['fd00::/8']}], protocols: [{udp: {destinationPort: {range: \
                 {start: 1, end: 9}}}}, {tcp: {destinationPort: {number: 5}}}]}, {action: Accept, \
                 to: [{pods: {}}], protocols: [{destinationNamedPort: web}]}, \
                 {action: Accept, to: [{domainNames: ['*.Example.com', a.b.]}]}, \
                 {action: Pass, to: [{}]}], ingress: [{action: Accept, from: [{novelty: 1}]}]";
    let (policy, _) = read(&format!("{HEAD}, {rules}"));
    let mut world = crate::World::default();
    world.cluster_policies.insert(policy.name.clone(), policy.clone());
    let text = crate::manifest::write(&world);
    let value: Value = serde_norway::from_str(&text).expect("it is YAML");
    let (read, _) = Kind::ClusterNetworkPolicy.read_or_close(value);
    assert_eq!(read, Some(Object::ClusterNetworkPolicy(policy)));
}
