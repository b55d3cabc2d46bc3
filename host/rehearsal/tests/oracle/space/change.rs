//! Cases of several steps: pods, namespaces and policies that come, go, and get other labels (N15).

use millrace_control::policy::{
    NetworkPolicy, Operator, PolicyDirection, PolicyRule, Requirement, Selector,
};
use millrace_control::{Labels, PodName, Protocol, World};

use super::Case;
use super::town::{
    add_namespace, add_pod, at, called, dns, label, named, numbered, of, one_of, owned, policy,
    rule, rules, tcp, town, usual, with,
};

pub(super) fn cases() -> impl Iterator<Item = Case> {
    changes().into_iter().chain([example()]).chain(suite())
}

fn case(name: &str, steps: impl IntoIterator<Item = World>) -> Case {
    Case { name: name.to_owned(), steps: steps.into_iter().collect() }
}

/// The town, changed so.
fn changed(change: impl FnOnce(&mut World)) -> World {
    let mut world = town();
    change(&mut world);
    world
}

fn namespace_labelled(labels: &[(&str, &str)]) -> World {
    changed(|world| add_namespace(world, "y", labels))
}

fn pod_labelled(namespace: &str, name: &str, labels: &[(&str, &str)]) -> World {
    changed(|world| {
        let pod = world.pods.get_mut(&PodName::new(namespace, name)).expect("it is there");
        pod.labels = owned(labels);
    })
}

/// The usual policy with another rule of ingress.
fn usual_from(rule: PolicyRule) -> NetworkPolicy {
    let mut policy = usual();
    rules(&mut policy, PolicyDirection::Ingress)[0] = at(rule, &[tcp(80)]);
    policy
}

fn changes() -> [Case; 6] {
    let always = |worlds: Vec<World>, policy: &NetworkPolicy| {
        worlds.into_iter().map(|it| with(it, [policy.clone()])).collect::<Vec<_>>()
    };
    let mut to_udp = usual();
    let first = &mut rules(&mut to_udp, PolicyDirection::Ingress)[0];
    *first = at(first.clone(), &[called(Protocol::Udp, &named(Protocol::Udp, 81))]);
    let another_namespace = changed(|world| {
        add_namespace(world, "y-2", &[("ns", "y")]);
        ["a", "b"].iter().for_each(|pod| add_pod(world, "y-2", pod, &[("pod", pod)]));
    });
    let another_pod = changed(|world| add_pod(world, "x", "d", &[("pod", "d")]));
    let new_namespaces = usual_from(rule(&[of(Some(label("new-ns", "qrs")), Selector::default())]));
    let new_pods =
        usual_from(rule(&[of(Some(one_of("ns", &["y", "z"])), label("new-label", "abc"))]));
    let relabelled = [("ns", "y"), ("new-ns", "qrs")];
    let pod_relabelled = [("pod", "b"), ("new-label", "abc")];
    [
        case("change: a policy goes", [with(town(), [usual()]), town()]),
        case("change: a policy changes", [with(town(), [usual()]), with(town(), [to_udp])]),
        case(
            "change: a namespace comes and goes",
            always(vec![town(), another_namespace, town()], &usual()),
        ),
        case(
            "change: a namespace has a label for a while",
            always(vec![town(), namespace_labelled(&relabelled), town()], &new_namespaces),
        ),
        case("change: a pod comes and goes", always(vec![town(), another_pod, town()], &usual())),
        case(
            "change: a pod has a label for a while",
            always(vec![town(), pod_labelled("y", "b", &pod_relabelled), town()], &new_pods),
        ),
    ]
}

/// One named port, while a namespace with a pod comes and goes.
fn example() -> Case {
    let empty = changed(|world| add_namespace(world, "w", &[("ns", "w")]));
    let full = changed(|world| {
        add_namespace(world, "w", &[("ns", "w")]);
        add_pod(world, "w", "a", &[("pod", "a")]);
    });
    let steps = [town(), full, empty, town()];
    case("example: a named port", steps.map(|it| with(it, [one_named_port()])))
}

fn one_named_port() -> NetworkPolicy {
    let port = called(Protocol::Tcp, &named(Protocol::Tcp, 81));
    policy("x", Selector::default(), Some(vec![at(PolicyRule::default(), &[port])]), None)
}

/// What Kubernetes' own suite asks.
fn suite() -> Vec<Case> {
    let (all, a) = (Selector::default, || label("pod", "a"));
    let ingress = |pods, rules: Vec<PolicyRule>| policy("x", pods, Some(rules), None);
    let from = |peer| rule(&[peer]);
    let not_x =
        Requirement { key: "ns".to_owned(), operator: Operator::NotIn(vec!["x".to_owned()]) };
    let not_x = Selector { labels: Labels::new(), expressions: vec![not_x] };
    let y = || of(Some(label("ns", "y")), all());
    let from_y = |port| ingress(a(), vec![at(rule(&[y()]), &[tcp(port)])]);
    let closed = || ingress(all(), Vec::new());
    let open = || ingress(all(), vec![PolicyRule::default()]);
    let once = |name, policy| case(name, [with(town(), [policy])]);
    let updated_namespace = ingress(a(), vec![from(of(Some(label("ns2", "updated")), all()))]);
    let updated =
        Selector { labels: owned(&[("pod", "b"), ("pod2", "updated")]), expressions: Vec::new() };
    let updated_pod = ingress(a(), vec![from(of(None, updated))]);
    let isolated = ingress(label("target", "isolated"), Vec::new());
    let xa = || of(Some(label("ns", "x")), a());
    let to_ya = vec![from(of(Some(label("ns", "y")), a())), dns()];
    let to_web = at(PolicyRule::default(), &[tcp(80), numbered(Protocol::Udp, 53, 53)]);
    let both = policy("x", a(), Some(vec![from(of(None, label("pod", "b")))]), Some(vec![to_web]));
    vec![
        once("suite: nothing comes in", closed()),
        once("suite: nothing but names", policy("x", all(), Some(Vec::new()), Some(vec![dns()]))),
        once(
            "suite: pods and namespaces",
            ingress(a(), vec![from(of(Some(not_x), one_of("pod", &["b", "c"])))]),
        ),
        case(
            "suite: one policy on top of the other",
            [with(town(), [from_y(81)]), with(town(), [from_y(81), from_y(80)])],
        ),
        once("suite: everything comes in", open()),
        once("suite: a named port", one_named_port()),
        case("suite: a policy changes", [open(), closed()].map(|it| with(town(), [it]))),
        case(
            "suite: a namespace gets a label",
            [town(), namespace_labelled(&[("ns", "y"), ("ns2", "updated")])]
                .map(|it| with(it, [updated_namespace.clone()])),
        ),
        case(
            "suite: a pod gets a label",
            [town(), pod_labelled("x", "b", &[("pod", "b"), ("pod2", "updated")])]
                .map(|it| with(it, [updated_pod.clone()])),
        ),
        case(
            "suite: a pod gets a label that isolates it",
            [town(), pod_labelled("x", "a", &[("target", "isolated")])]
                .map(|it| with(it, [isolated.clone()])),
        ),
        once("suite: both directions", both),
        case(
            "suite: what the client may not open the server cannot allow",
            [with(
                town(),
                [
                    policy("x", a(), None, Some(to_ya)),
                    policy("y", a(), Some(vec![from(xa())]), None),
                    policy("y", label("pod", "b"), Some(vec![from(xa())]), None),
                ],
            )],
        ),
        case(
            "suite: a policy goes",
            [with(town(), [policy("x", all(), Some(Vec::new()), Some(Vec::new()))]), town()],
        ),
    ]
}
