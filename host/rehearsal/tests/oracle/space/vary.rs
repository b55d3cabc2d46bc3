//! Cases of one step: something of the usual policy is another, or policies contradict each other.

use millrace_control::policy::{
    NetworkPolicy, PolicyDirection, PolicyPeer, PolicyPort, PolicyRule, PortRange, Selector,
};
use millrace_control::{Namespace, Protocol};

use super::Case;
use super::town::{
    at, block, called, dns, label, named, numbered, of, one_of, policy, rule, rules, tcp, town,
    usual, with,
};

pub(super) fn cases() -> impl Iterator<Item = Case> {
    let both = PolicyDirection::ALL.into_iter();
    let of_directions =
        both.flat_map(|it| rules_of(it).chain(peers(it)).chain(ports(it)).chain(namespaces(it)));
    targets().chain(of_directions).chain(conflicts())
}

fn case(name: String, policies: impl IntoIterator<Item = NetworkPolicy>) -> Case {
    Case { name, steps: vec![with(town(), policies)] }
}

fn targets() -> impl Iterator<Item = Case> {
    let namespaces = ["x", "y", "z"].into_iter().map(|namespace| {
        let mut policy = usual();
        policy.name.namespace = namespace.to_owned();
        case(format!("target: namespace {namespace}"), [policy])
    });
    let selectors = [Selector::default(), label("pod", "a"), one_of("pod", &["a", "b"])];
    let selectors = selectors
        .into_iter()
        .map(|pods| case(format!("target: {pods:?}"), [NetworkPolicy { pods, ..usual() }]));
    namespaces.chain(selectors)
}

/// The usual policy with another first rule, or other rules, of a direction.
fn with_rules(
    name: String,
    direction: PolicyDirection,
    change: impl FnOnce(&mut Vec<PolicyRule>),
) -> Case {
    let mut policy = usual();
    change(rules(&mut policy, direction));
    case(name, [policy])
}

fn rules_of(direction: PolicyDirection) -> impl Iterator<Item = Case> {
    [("none", Vec::new()), ("an empty one", vec![PolicyRule::default()])].into_iter().map(
        move |(what, all)| {
            with_rules(format!("rules: {direction}, {what}"), direction, |rules| *rules = all)
        },
    )
}

/// Peers in the forms that they can have. A block is one of each IP version.
fn forms() -> Vec<(&'static str, Vec<PolicyPeer>)> {
    let (everything, c) = (Selector::default, || label("pod", "c"));
    let x = || Some(label("ns", "x"));
    let namespaces = || Some(everything());
    // those of z, and of them c
    let [v4, part_of_v4] = ["10.1.122.0/24", "10.1.122.32/28"];
    let [v6, part_of_v6] = ["fd01::7a:0/120", "fd01::7a:20/124"];
    vec![
        ("all pods here", vec![of(None, everything())]),
        ("pods here", vec![of(None, c())]),
        ("all namespaces", vec![of(namespaces(), Selector::default())]),
        ("all pods of all namespaces", vec![of(namespaces(), everything())]),
        ("pods of all namespaces", vec![of(namespaces(), c())]),
        ("a namespace", vec![of(x(), Selector::default())]),
        ("all pods of a namespace", vec![of(x(), everything())]),
        ("pods of a namespace", vec![of(x(), c())]),
        ("a block", vec![block(v4, &[]), block(v6, &[])]),
        ("a block but for a part", vec![block(v4, &[part_of_v4]), block(v6, &[part_of_v6])]),
    ]
}

fn peers(direction: PolicyDirection) -> impl Iterator<Item = Case> {
    let mut all = vec![("none".to_owned(), Vec::new())];
    let forms = forms();
    for (number, (name, peers)) in forms.iter().enumerate() {
        all.push(((*name).to_owned(), peers.clone()));
        for (other, more) in &forms[number + 1..] {
            all.push((format!("{name} and {other}"), [peers.clone(), more.clone()].concat()));
        }
    }
    all.into_iter().map(move |(name, peers)| {
        with_rules(format!("peers: {direction}, {name}"), direction, |rules| {
            rules[0] = at(rule(&peers), &[tcp(80)]);
        })
    })
}

fn ports(direction: PolicyDirection) -> impl Iterator<Item = Case> {
    let any = |protocol| PolicyPort { protocol, ports: PortRange::All };
    let by_name = |protocol, port| called(protocol, &named(protocol, port));
    let mut all: Vec<Vec<PolicyPort>> = vec![Vec::new()];
    // a protocol that is not said is TCP
    for protocol in [Protocol::Tcp].into_iter().chain(Protocol::ALL) {
        all.push(vec![any(protocol)]);
        all.extend([80, 81].map(|port| vec![numbered(protocol, port, port)]));
    }
    for protocol in Protocol::ALL {
        all.extend([80, 81].map(|port| vec![by_name(protocol, port)]));
        all.extend([80, 84].map(|last| vec![numbered(protocol, 53, last)]));
    }
    // a name of another protocol, one that nobody has, and a port that nobody serves
    all.push(vec![called(Protocol::Tcp, &named(Protocol::Udp, 81))]);
    all.push(vec![called(Protocol::Tcp, &named(Protocol::Udp, 7981))]);
    all.push(vec![tcp(7981)]);
    let (tcp_80, udp_81) = (|| tcp(80), || by_name(Protocol::Udp, 81));
    all.extend([
        vec![any(Protocol::Tcp), tcp_80()],
        vec![any(Protocol::Tcp), by_name(Protocol::Tcp, 80)],
        vec![any(Protocol::Tcp), any(Protocol::Udp)],
        vec![tcp_80(), tcp(81)],
        vec![tcp_80(), by_name(Protocol::Tcp, 81)],
        vec![tcp_80(), udp_81()],
        vec![numbered(Protocol::Udp, 80, 80), udp_81()],
    ]);
    all.into_iter().map(move |ports| {
        with_rules(format!("ports: {direction}, {ports:?}"), direction, |rules| {
            rules[0] = at(rules[0].clone(), &ports);
        })
    })
}

fn namespaces(direction: PolicyDirection) -> impl Iterator<Item = Case> {
    let z = of(Some(label(Namespace::NAME_LABEL, "z")), Selector::default());
    let name = format!("namespace: {direction}, by its name");
    std::iter::once(with_rules(name, direction, |rules| {
        rules[0] = at(rule(&[z]), &[tcp(80)]);
    }))
}

/// Policies that contradict each other: what one allows is allowed (N2).
fn conflicts() -> impl Iterator<Item = Case> {
    let nowhere = of(Some(label("nobody", "has-this")), Selector::default());
    let everywhere = of(Some(Selector::default()), Selector::default());
    let all_addresses = [block("0.0.0.0/0", &[]), block("::/0", &[])];
    let no_address = [block("0.0.0.0/31", &[]), block("::/127", &[])];
    let nothing = || Vec::new();
    let anything = || vec![PolicyRule::default()];
    let no_pod = || vec![rule(std::slice::from_ref(&nowhere))];
    let all_pods = || vec![rule(std::slice::from_ref(&everywhere))];
    let (by_address, by_none) = (|| vec![rule(&all_addresses)], || vec![rule(&no_address)]);
    let source = |egress| policy("x", label("pod", "b"), None, Some(egress));
    let at_source = |ingress| policy("x", label("pod", "b"), Some(ingress), None);
    let target = |ingress| policy("y", label("pod", "c"), Some(ingress), None);
    let all = [
        vec![source(nothing()), target(anything())],
        vec![source(anything()), target(nothing())],
        vec![source(nothing()), source(anything())],
        vec![target(nothing()), target(anything())],
        vec![source(nothing()), source(all_pods())],
        vec![source(nothing()), source(by_address())],
        vec![source(by_none()), source(all_pods())],
        vec![source(no_pod()), source(by_address())],
        vec![at_source(nothing()), at_source(all_pods())],
        vec![at_source(nothing()), at_source(by_address())],
        vec![at_source(by_none()), at_source(all_pods())],
        vec![at_source(no_pod()), at_source(by_address())],
        vec![source(by_none())],
        vec![source(no_pod())],
        vec![at_source(by_none())],
        vec![at_source(no_pod())],
    ];
    let all = all.map(|mut policies| {
        // whoever may not open all connections may ask for names
        if policies.iter().any(|it| it.egress.is_some()) {
            policies.push(source(vec![dns()]));
        }
        policies
    });
    all.into_iter()
        .enumerate()
        .map(|(number, policies)| case(format!("conflict: {number}"), policies))
}
