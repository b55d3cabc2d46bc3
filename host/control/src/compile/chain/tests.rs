use tempfile::tempdir;

use super::*;
use crate::source::Manifests;

/// The world of these manifests, and what is complained of.
fn world(text: &str) -> (World, Vec<String>) {
    let folder = tempdir().unwrap();
    std::fs::write(folder.path().join("a.yaml"), text).unwrap();
    let (world, complaints) = Manifests::open(folder.path()).unwrap().read().unwrap();
    (world, complaints.iter().map(ToString::to_string).collect())
}

/// Two nodes, a filter in a ConfigMap, and these.
fn cluster(chains: &str) -> World {
    let (world, _) = world(&format!("{CLUSTER}---\n{chains}"));
    world
}

fn chain_yaml(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: millrace.dev/v1alpha1, kind: FilterChain, metadata: {{name: {name}}}, \
         spec: {{{spec}}}}}\n---\n"
    )
}

fn names(plan: &ChainPlan) -> Vec<(&str, usize)> {
    plan.stages.iter().map(|stage| (&*stage.name, stage.behind)).collect()
}

const CLUSTER: &str = "
{apiVersion: v1, kind: Node, metadata: {name: east, labels: {zone: a}}, spec: {podCIDRs: [10.1.0.0/24]}}
---
{apiVersion: v1, kind: Node, metadata: {name: west, labels: {zone: b}}, spec: {podCIDRs: [10.2.0.0/24]}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: modules, namespace: net,
  labels: {millrace.dev/filters: modules}}, binaryData: {quiet.wasm: AGFzbQ==}}
---
{apiVersion: millrace.dev/v1alpha1, kind: Filter, metadata: {name: quiet},
 spec: {source: {configMap: {namespace: net, name: modules, key: quiet.wasm}}}}
---
{apiVersion: millrace.dev/v1alpha1, kind: Filter, metadata: {name: loud}, spec: {source: {file: /a.wasm}}}
";

#[test]
fn a_chain_is_for_the_nodes_that_it_selects_and_its_stages_are_where_it_says() {
    let stages = "stages: [{filter: loud, after: policy}, {filter: quiet, before: bridge}, \
                  {filter: other, before: router, shadow: true}]";
    let of_east = format!("nodeSelector: {{matchLabels: {{zone: a}}}}, {stages}");
    let world = cluster(&chain_yaml("edge", &of_east));
    let none = ChainPlan::default();
    let plan = chain(&world, "east", &none);
    assert_eq!(plan.chain.as_deref(), Some("edge"));
    // behind the third and before the fourth is one place, in the order of the chain
    assert_eq!(names(&plan), [("quiet", 0), ("loud", 3), ("other", 3)]);
    let [quiet, loud, other] = &plan.stages[..] else { panic!("{plan:?}") };
    let module = ModuleBytes::from(b"\0asm".to_vec());
    assert_eq!(quiet.filter.as_ref().unwrap().module, PlannedModule::Bytes(module));
    assert_eq!(loud.filter.as_ref().unwrap().module, PlannedModule::File("/a.wasm".into()));
    assert!(other.filter.as_ref().unwrap_err().contains("there is no Filter `other`"));
    assert_eq!((loud.mode, other.mode), (StageMode::Enforce, StageMode::Shadow));
    assert_eq!(chain(&world, "west", &none), none);
    assert_eq!(chain(&world, "north", &none), none, "there is no such node");
}

#[test]
fn of_two_chains_for_a_node_the_higher_priority_counts_and_then_the_name() {
    let one = chain_yaml("b", "priority: 1, stages: [{filter: loud, after: policy}]");
    let two = chain_yaml("a", "stages: [{filter: quiet, after: policy}]");
    let plan = chain(&cluster(&(one.clone() + &two)), "east", &ChainPlan::default());
    assert_eq!((plan.chain.as_deref(), &*plan.overridden), (Some("b"), &["a".to_owned()][..]));
    assert_eq!(names(&plan), [("loud", 3)]);
    let one = one.replace("priority: 1", "priority: 0");
    let plan = chain(&cluster(&(one + &two)), "east", &ChainPlan::default());
    assert_eq!((plan.chain.as_deref(), &*plan.overridden), (Some("a"), &["b".to_owned()][..]));
}

#[test]
fn a_chain_that_cannot_be_read_stays_as_it_is_and_one_that_is_deleted_does_not() {
    let whole = chain_yaml("edge", "stages: [{filter: loud, after: policy}]");
    let before = chain(&cluster(&whole), "east", &ChainPlan::default());
    let broken = cluster(&chain_yaml("edge", "stages: [{filter: loud}]"));
    assert_eq!(chain(&broken, "east", &before), before);
    assert_eq!(chain(&broken, "east", &ChainPlan::default()), ChainPlan::default());
    assert_eq!(chain(&cluster(""), "east", &before), ChainPlan::default());
}

#[test]
fn a_module_that_is_not_there_is_named_with_where_it_should_be() {
    let stages = chain_yaml("edge", "stages: [{filter: quiet, after: policy}]");
    for (found, wanted, complaint) in [
        (
            "name: modules, namespace: net",
            "name: modules, namespace: other",
            "there is no ConfigMap",
        ),
        ("millrace.dev/filters: modules", "a: b", "and the label `millrace.dev/filters`"),
        (
            "quiet.wasm: AGFz",
            "loud.wasm: AGFz",
            "no `quiet.wasm` in its `binaryData`, but `loud.wasm`",
        ),
    ] {
        let (world, _) = world(&format!("{CLUSTER}---\n{stages}").replace(found, wanted));
        let plan = chain(&world, "east", &ChainPlan::default());
        let planned = plan.stages[0].filter.as_ref().unwrap();
        let PlannedModule::Nowhere(reason) = &planned.module else { panic!("{planned:?}") };
        assert!(reason.contains(complaint), "{reason}");
    }
}
