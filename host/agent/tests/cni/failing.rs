//! What goes wrong, and how a runtime is told.

use serde_json::json;

use crate::bed::{Bed, Container};

#[test]
fn c3_each_mistake_has_its_code_on_standard_output_and_nothing_is_attached() {
    let Some(bed) = Bed::new() else { return };
    let _agent = bed.start();
    let container = Container::new();
    let add = || bed.call("ADD", Some(&container));
    let file = bed.socket().with_file_name("file");
    std::fs::write(&file, "").expect("the folder can be written");
    let file = file.display().to_string();
    for (call, code, names) in [
        (add().with("CNI_COMMAND", ""), 4, "CNI_COMMAND"),
        (add().with("CNI_COMMAND", "MUL"), 4, "CNI_COMMAND"),
        (add().with("CNI_CONTAINERID", ""), 4, "CNI_CONTAINERID"),
        (add().with("CNI_NETNS", ""), 4, "CNI_NETNS"),
        (add().with("CNI_IFNAME", "a/b"), 4, "CNI_IFNAME"),
        (add().with("CNI_NETNS", "/nowhere"), 8, "/nowhere"),
        (add().with("CNI_NETNS", &file), 8, &*file),
        (add().with("CNI_NETNS", "/proc/self/ns/net"), 8, "/proc/self/ns/net"),
        (add().saying("{"), 6, "configuration"),
        (add().saying("{}"), 1, "0.1.0"),
        (add().configured("cniVersion", json!("9.9.9")), 1, "9.9.9"),
        (add().configured("name", json!("")), 7, "name"),
        (add().configured("ipam", json!({"type": "host-local"})), 2, "host-local"),
        (add().configured("runtimeConfig", json!({"mac": "01:00:5e:00:00:01"})), 6, "01:00:5e"),
        (add().with("CNI_IFNAME", "lo"), 100, "lo"),
    ] {
        let refused = call.refused();
        assert_eq!(refused["code"], code, "{refused}");
        let words = format!("{} {}", refused["msg"], refused["details"]);
        assert!(words.contains(names), "{refused}");
        assert!(refused["cniVersion"].is_string(), "{refused}");
    }
    assert_eq!(bed.ports(), [""; 0]);
}

#[test]
fn addresses_that_are_used_up_are_named_and_one_that_is_given_back_is_enough() {
    let Some(bed) = Bed::new() else { return };
    let _agent = bed.start();
    // of 64 the first, the gateway's and the last are no pods'
    let containers: Vec<_> = (0..61).map(|_| Container::new()).collect();
    containers.iter().for_each(|container| drop(bed.add(container)));
    let late = Container::new();
    let refused = bed.call("ADD", Some(&late)).refused();
    assert_eq!(refused["code"], 100);
    assert!(refused["details"].to_string().contains("10.1.0.0/26"), "{refused}");
    bed.del(&containers[7]);
    bed.add(&late);
}

#[test]
fn what_cannot_be_remembered_is_not_attached_and_leaves_nothing() {
    let Some(bed) = Bed::new() else { return };
    let _agent = bed.start();
    let (known, other) = (Container::new(), Container::new());
    bed.add(&known);
    // where the next record would be written is a folder
    let next = bed.socket().with_file_name(".node.json.next");
    std::fs::create_dir(&next).expect("nothing is written now");
    let refused = bed.call("ADD", Some(&other)).refused();
    assert!(refused.to_string().contains("node.json"), "{refused}");
    assert_eq!(bed.ports().len(), 1);
    let status = bed.asked("stats");
    assert_eq!(status["addresses"][0]["taken"], 1, "{status}");
    std::fs::remove_dir(&next).expect("it is there");
    bed.add(&other);
    assert_eq!(bed.ports().len(), 2);
    bed.del(&other);
    bed.del(&known);
}
