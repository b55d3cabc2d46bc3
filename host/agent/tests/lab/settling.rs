//! When commands that change a lab return: once all of its nodes know.

use std::process::Command;

use crate::bed::{Bed, NODES, text};

#[test]
fn what_is_applied_and_deleted_is_in_force_on_every_node_and_who_is_behind_is_named() {
    let manifests = [("nodes.yaml", NODES), ("services.yaml", &*service(0))];
    let Some(bed) = Bed::of(&manifests, &[]) else { return };
    let in_force = |nodes: &[&str], port: u16| {
        for node in nodes {
            let web = bed.asked(node, &["services"])["default/web"].clone();
            assert_eq!(
                web["frontends"][0],
                format!("10.96.0.10:{}/TCP", port + 1),
                "{node}: {web:#}"
            );
            assert!(web["generation"].is_u64(), "{node}: {web:#}");
        }
    };
    in_force(&["east", "west"], 0);
    for port in 1..10 {
        bed.write(&[("services.yaml", &service(port))]);
        bed.done(&["apply", &bed.folder()]);
        in_force(&["east", "west"], port);
    }
    let status = ["east", "west"].map(|node| bed.asked(node, &["status"])["manifests"].clone());
    assert!(status[0].is_string() && status[0] == status[1], "{status:?}");

    let state = bed.state();
    let programs = state["programs"].as_array().expect("a list");
    let agent = programs.iter().find(|it| it["role"]["agent"]["node"] == "west");
    let pid = agent.expect("it runs")["process"]["pid"].to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().expect("kill is there").success());
    bed.write(&[("services.yaml", &service(10))]);
    let output = bed.lab(&["apply", &bed.folder()]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    let remedy = "node west: its agent has ended; `millrace lab restart west` starts one";
    assert!(errors.contains(remedy) && !errors.contains("node east"), "{errors}");
    bed.done(&["restart", "west"]);

    // what is not named stays: the nodes, with their agents
    bed.done(&["delete", &bed.folder()]);
    for node in ["east", "west"] {
        assert_eq!(bed.asked(node, &["services"]), serde_json::json!({}), "{node}");
    }
}

fn service(port: u16) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: web}}, \
         spec: {{clusterIP: 10.96.0.10, ports: [{{port: {}}}]}}}}",
        port + 1
    )
}
