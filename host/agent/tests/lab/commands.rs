//! Commands in a lab, and its end.

use crate::bed::{Bed, text, until};

#[test]
fn a_command_runs_in_a_pod_and_its_exit_code_is_handed_on() {
    let Some(bed) = Bed::up() else { return };
    let (_, addresses) = bed.pod("shop");
    let shown = bed.done(&["exec", "shop", "--", "ip", "-brief", "address", "show", "eth0"]);
    for address in addresses {
        assert!(shown.contains(&format!("{address}/")), "{address}: {shown}");
    }
    let output = bed.lab(&["exec", "default/bank", "--", "sh", "-c", "exit 7"]);
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    let output = bed.lab(&["exec", "bakery", "--", "true"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("default/bank"), "{}", text(&output.stderr));
}

#[test]
fn a_dump_has_all_that_a_node_says_of_itself() {
    let Some(bed) = Bed::up() else { return };
    bed.done(&["probe", "--patience", "5s"]);
    let dump = bed.asked("east", &["sysdump"]);
    let answers = dump["answers"].as_object().expect("it has answers");
    for (what, answer) in answers {
        assert!(answer.get("error").is_none(), "{what}: {answer}");
    }
    assert!(answers.contains_key("services") && answers.contains_key("fates/rules"));
    let flows = answers["flows"]["flows"].as_array().expect("connections");
    assert!(!flows.is_empty(), "pods were probed");
    assert_eq!(dump["logs"].as_object().expect("of each stage").len(), 4);
    let kernel = dump["kernel"]["/proc/version"].as_str().expect("a text");
    assert!(kernel.starts_with("Linux version"), "{kernel}");
}

#[test]
fn labs_are_side_by_side_and_one_that_is_taken_down_leaves_nothing() {
    let (Some(one), Some(other)) = (Bed::up(), Bed::up()) else { return };
    for bed in [&one, &other] {
        bed.done(&["probe", "--patience", "5s"]);
    }
    one.done(&["down"]);
    until(|| one.traces().is_empty().then_some(()));
    other.done(&["probe", "--patience", "5s"]);
}
