//! An agent that starts while the API server is away.

use std::fs;

use serde_json::{Value, json};

use crate::bed::{Bed, Container, until};

#[test]
fn what_the_server_said_before_does_for_an_agent_that_starts_without_it() {
    let Some(bed) = Bed::new() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let keep = |kind: &str, file: &str, object: Value| {
        let folder = folder.path().join("v1").join(kind);
        fs::create_dir_all(&folder).expect("it can be written");
        fs::write(folder.join(file), object.to_string()).expect("it can be written");
    };
    keep(
        "Node",
        "_here.json",
        json!({
            "metadata": {"name": "here"},
            "spec": {"podCIDRs": ["10.1.0.0/26", "fd01::/64"]},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
        }),
    );
    keep(
        "Pod",
        "shop_web.json",
        json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"nodeName": "here", "containers": [{"name": "web"}]},
        }),
    );
    keep("Node", "_spoiled.json", json!("no object"));
    let whole = folder.path().join("v1/whole");
    fs::write(whole, "").expect("it can be written");
    // nobody is there
    let kubeconfig = json!({
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    });
    let path = folder.path().join("kubeconfig");
    fs::write(&path, kubeconfig.to_string()).expect("it can be written");
    let flags = [
        format!("--kubeconfig={}", path.display()),
        format!("--kept-objects={}", folder.path().display()),
    ];
    let agent = bed.start_from(&flags.each_ref().map(String::as_str));
    assert!(bed.log().contains("the API server is away"), "{}", bed.log());

    let container = Container::new();
    bed.add(&container);
    let addresses = container.addresses("eth0");
    assert!(addresses[0].starts_with("10.1.0."), "{addresses:?}");
    until(|| {
        let status = bed.asked("status");
        status.to_string().contains("is in force").then_some(())
    });
    bed.del(&container);
    drop(agent);
    let removed = bed.asked("cleanup").to_string();
    assert!(removed.contains(&folder.path().display().to_string()), "{removed}");
    assert!(!folder.path().join("v1").exists() && path.exists(), "the rest is not the agent's");
}
