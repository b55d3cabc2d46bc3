use crate::manifest::{Kind, Object};
use crate::policy::{
    NetworkPolicy, Operator, Peers, PolicyPeer, PolicyPort, PortRange, Ports, Requirement, Selector,
};
use crate::{Labels, Protocol};

fn value(spec: &str) -> serde_norway::Value {
    let text = format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: web, \
         namespace: shop}}, spec: {{{spec}}}}}"
    );
    serde_norway::from_str(&text).expect("it is YAML")
}

fn policy(spec: &str) -> NetworkPolicy {
    match Kind::NetworkPolicy.read(value(spec)) {
        Ok(Object::NetworkPolicy(policy)) => policy,
        other => panic!("{spec}: {other:?}"),
    }
}

/// The only rule of ingress.
fn rule(spec: &str) -> crate::policy::PolicyRule {
    let rules = policy(&format!("ingress: [{spec}]")).ingress.expect("it isolates");
    let [rule] = &rules[..] else { panic!("{rules:?}") };
    rule.clone()
}

#[test]
fn n1_directions_are_those_that_are_said_and_otherwise_ingress_and_egress_with_rules() {
    for (spec, ingress, egress) in [
        ("", Some(0), None),
        ("podSelector: null", Some(0), None),
        ("egress: [{}]", Some(0), Some(1)),
        ("egress: []", Some(0), None),
        ("policyTypes: [Egress]", None, Some(0)),
        ("policyTypes: [Ingress, Egress], ingress: [{}, {}]", Some(2), Some(0)),
        // rules of a direction that is not said do not count
        ("policyTypes: [Ingress], egress: [{}]", Some(0), None),
    ] {
        let policy = policy(spec);
        let counts = [&policy.ingress, &policy.egress].map(|it| it.as_ref().map(Vec::len));
        assert_eq!(counts, [ingress, egress], "{spec}");
    }
}

#[test]
fn n3_nobody_in_particular_is_everybody_and_an_absent_selector_is_no_empty_one() {
    for spec in ["{}", "{from: []}", "{from: null, ports: null}", "{ports: []}"] {
        let rule = rule(spec);
        assert_eq!((rule.peers, rule.ports), (Peers::All, Ports::All), "{spec}");
    }
    let everything = Selector::default();
    for (peer, namespaces) in [
        ("podSelector: {}", None),
        ("namespaceSelector: {}", Some(everything.clone())),
        ("namespaceSelector: {}, podSelector: {}", Some(everything.clone())),
    ] {
        let expected = PolicyPeer::Pods { namespaces, pods: everything.clone() };
        assert_eq!(rule(&format!("{{from: [{{{peer}}}]}}")).peers, Peers::AnyOf(vec![expected]));
    }
}

#[test]
fn n4_a_selector_has_labels_and_expressions_and_all_of_them_hold() {
    let spec = "podSelector: {matchLabels: {a: x}, matchExpressions: [\
                {key: b, operator: In, values: [x, y]}, {key: c, operator: NotIn, values: [x]}, \
                {key: d, operator: Exists}, {key: e, operator: DoesNotExist, values: []}]}";
    let selector = policy(spec).pods;
    let requirement = |key: &str, operator| Requirement { key: key.to_owned(), operator };
    let values = |them: &[&str]| them.iter().map(|&it| it.to_owned()).collect();
    let expected = [
        requirement("b", Operator::In(values(&["x", "y"]))),
        requirement("c", Operator::NotIn(values(&["x"]))),
        requirement("d", Operator::Exists),
        requirement("e", Operator::DoesNotExist),
    ];
    assert_eq!(selector.expressions, expected);
    for (labels, selected) in [
        ("a=x b=y d=", true),
        ("a=x b=y c=y d=z", true),
        ("b=y d=", false),
        ("a=x b=z d=", false),
        ("a=x d=", false),
        ("a=x b=x c=x d=", false),
        ("a=x b=x", false),
        ("a=x b=x d= e=", false),
    ] {
        let pair = |it: &str| it.split_once('=').map(|(key, value)| (key.into(), value.into()));
        let labels: Labels = labels.split(' ').filter_map(pair).collect();
        assert_eq!(selector.selects(&labels), selected, "{labels:?}");
    }
}

#[test]
fn n6_a_port_is_of_tcp_unless_it_is_said_and_a_number_a_range_a_name_or_any() {
    let port = |protocol, ports| PolicyPort { protocol, ports };
    let spec = "{ports: [{}, {protocol: UDP}, {port: 80}, {port: 80, endPort: 90}, \
                {port: http, protocol: SCTP}, {port: 7, endPort: 7}]}";
    let expected = vec![
        port(Protocol::Tcp, PortRange::All),
        port(Protocol::Udp, PortRange::All),
        port(Protocol::Tcp, PortRange::Numbers(80, 80)),
        port(Protocol::Tcp, PortRange::Numbers(80, 90)),
        port(Protocol::Sctp, PortRange::Named("http".to_owned())),
        port(Protocol::Tcp, PortRange::Numbers(7, 7)),
    ];
    assert_eq!(rule(spec).ports, Ports::AnyOf(expected));
}

#[test]
fn n5_bits_behind_a_blocks_length_do_not_count() {
    let block = "{from: [{ipBlock: {cidr: 10.1.2.3/8, except: [10.9.9.9/16]}}]}";
    let prefix = |text: &str| text.parse().expect("a prefix");
    let except = vec![prefix("10.9.0.0/16")];
    let expected = PolicyPeer::Block { prefix: prefix("10.0.0.0/8"), except };
    assert_eq!(rule(block).peers, Peers::AnyOf(vec![expected]));
}

#[test]
fn what_is_wrong_is_named_and_the_policy_denies_what_it_can_be_about() {
    let peer =
        |peer: &str| format!("podSelector: {{matchLabels: {{a: b}}}}, egress: [{{to: [{peer}]}}]");
    let port = |port: &str| {
        format!("podSelector: {{matchLabels: {{a: b}}}}, ingress: [{{ports: [{port}]}}]")
    };
    for (spec, field, reason) in [
        (peer("{}"), "spec.egress[0].to[0]", "state one of"),
        (peer("{other: {}}"), "spec.egress[0].to[0]", "state one of"),
        (
            peer("{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}"),
            "spec.egress[0].to[0]",
            "`ipBlock` is no selector's company",
        ),
        (peer("{ipBlock: {}}"), "spec.egress[0].to[0].ipBlock", "missing field `cidr`"),
        (peer("{ipBlock: {cidr: 10.0.0.1}}"), "spec.egress[0].to[0].ipBlock.cidr", "is no prefix"),
        (
            peer("{ipBlock: {cidr: 10.0.0.0/33}}"),
            "spec.egress[0].to[0].ipBlock.cidr",
            "is no prefix",
        ),
        (
            peer("{ipBlock: {cidr: '::ffff:10.0.0.0/104'}}"),
            "spec.egress[0].to[0].ipBlock.cidr",
            "write it as IPv4",
        ),
        (
            peer("{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16, 11.0.0.0/8]}}"),
            "spec.egress[0].to[0].ipBlock.except[1]",
            "is no part of 10.0.0.0/8",
        ),
        (
            peer("{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}"),
            "spec.egress[0].to[0].ipBlock.except[0]",
            "is no part of",
        ),
        (
            peer("{podSelector: {matchExpressions: [{key: a, operator: In}]}}"),
            "spec.egress[0].to[0].podSelector.matchExpressions[0].values",
            "need one value",
        ),
        (
            peer("{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}"),
            "spec.egress[0].to[0].podSelector.matchExpressions[0].values",
            "have no values",
        ),
        (
            peer("{podSelector: {matchExpressions: [{key: a, operator: Like}]}}"),
            "spec.egress[0].to[0].podSelector.matchExpressions[0].operator",
            "unknown variant `Like`",
        ),
        (port("{protocol: ICMP}"), "spec.ingress[0].ports[0].protocol", "unknown variant `ICMP`"),
        (port("{port: 0}"), "spec.ingress[0].ports[0].port", "expected a port's number"),
        (port("{port: 65536}"), "spec.ingress[0].ports[0].port", "expected a port's number"),
        (port("{port: HTTP}"), "spec.ingress[0].ports[0].port", "is no port's name"),
        (
            port("{port: 80, endPort: 79}"),
            "spec.ingress[0].ports[0].endPort",
            "79 is before `port`",
        ),
        (port("{endPort: 79}"), "spec.ingress[0].ports[0].endPort", "there is no `port`"),
        (port("{port: http, endPort: 79}"), "spec.ingress[0].ports[0].endPort", "`port` is a name"),
    ] {
        let error = Kind::NetworkPolicy.read(value(&spec)).expect_err(&spec);
        assert_eq!(error.field.to_string(), field, "{spec}: {error}");
        assert!(error.reason.contains(reason), "{spec}: {error}");
        let closed = Kind::NetworkPolicy.read_closed(&value(&spec));
        let Some(Object::NetworkPolicy(closed)) = closed else { panic!("{spec}: {closed:?}") };
        assert_eq!(closed.name.to_string(), "shop/web");
        assert_eq!(closed.pods.labels.get("a").map(String::as_str), Some("b"), "{spec}");
        assert_eq!((closed.ingress, closed.egress), (Some(vec![]), Some(vec![])), "{spec}");
    }
}

#[test]
fn a_policy_that_does_not_say_clearly_whom_it_is_for_is_for_all_of_its_namespace() {
    for (spec, ingress, egress) in [
        ("podSelector: 7", true, true),
        ("podSelector: {matchExpressions: [{key: a, operator: Like}]}", true, true),
        ("podSelector: 7, policyTypes: [Egress]", false, true),
        ("podSelector: {matchLabels: {a: b}}, policyTypes: [Sideways]", true, true),
    ] {
        Kind::NetworkPolicy.read(value(spec)).expect_err(spec);
        let closed = Kind::NetworkPolicy.read_closed(&value(spec));
        let Some(Object::NetworkPolicy(closed)) = closed else { panic!("{spec}: {closed:?}") };
        assert_eq!(closed.pods == Selector::default(), spec.contains("Like") || spec.contains('7'));
        assert_eq!(
            (closed.ingress.is_some(), closed.egress.is_some()),
            (ingress, egress),
            "{spec}"
        );
    }
}
