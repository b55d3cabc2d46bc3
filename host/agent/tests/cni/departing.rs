//! Containers that go, and some that come, while no agent is there.

use crate::bed::{Bed, Container};

#[test]
fn c5_a_container_goes_while_no_agent_is_there_and_the_next_one_forgets_it() {
    let Some(bed) = Bed::new() else { return };
    let agent = bed.start();
    let (gone, stays) = (Container::new(), Container::new());
    bed.add(&gone);
    bed.add(&stays);
    agent.kill();
    bed.del(&gone);
    bed.del(&gone);
    let late = bed.call("ADD", Some(&Container::new())).refused();
    assert_eq!(late["code"], 11, "{late}");
    assert_eq!(bed.ports().len(), 2, "nobody is there to take it away");

    let agent = bed.start();
    assert_eq!(bed.ports().len(), 1, "{}", bed.log());
    assert_eq!(stays.addresses("eth0").len(), 2);
    bed.del(&stays);
    assert_eq!(bed.ports(), [""; 0]);
    drop(agent);
}

#[test]
fn a_link_that_leads_to_no_pod_goes_when_an_agent_starts() {
    let Some(bed) = Bed::new() else { return };
    let agent = bed.start();
    let container = Container::new();
    bed.add(&container);
    agent.kill();
    // as one leaves it that is killed while it attaches a pod
    let state = bed.socket().with_file_name("node.json");
    let text = std::fs::read_to_string(&state).expect("it is there");
    let mut kept: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    kept["attachments"] = serde_json::json!({});
    std::fs::write(&state, kept.to_string()).expect("it can be written");
    let _agent = bed.start();
    assert_eq!(bed.ports(), [""; 0]);
    bed.add(&container);
}
