//! What a runtime chooses of a container's place: the capabilities `ips`, `mac` and `portMappings`.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::attaching::{greet, listen};
use crate::bed::{Bed, Call, Container};

#[test]
fn c8_an_address_and_a_link_layer_address_that_are_chosen_are_had_by_one_container() {
    let Some(bed) = Bed::new() else { return };
    let agent = bed.start();
    let (one, other) = (Container::new(), Container::new());
    let chosen = json!({"ips": ["10.1.0.20/26", "fd01::99"], "mac": "0a:58:0a:01:00:14"});
    let result = adding(&bed, &one, chosen.clone()).done();
    assert_eq!(addresses(&result), ["10.1.0.20/26", "fd01::99/64"]);
    assert_eq!(addresses(&result), one.addresses("eth0"));
    assert_eq!(result["interfaces"][1]["mac"], chosen["mac"]);
    let link = one.namespace.netlink().and_then(|net| net.link("eth0")).expect("it is there");
    assert_eq!(link.mac, Some([0x0a, 0x58, 0x0a, 1, 0, 0x14]));
    assert_eq!(check(&bed, &one, &result).make().silent(), Ok(()));

    // nobody else has them, whoever the agent is
    agent.kill();
    let _agent = bed.start();
    for (wish, why) in [
        (json!({"ips": ["10.1.0.20"]}), "address 10.1.0.20 is taken"),
        (json!({"ips": ["10.1.0.1"]}), "address 10.1.0.1 is no pod's here: those of 10.1.0.0/26"),
        (json!({"ips": ["192.0.2.7"]}), "address 192.0.2.7 is no pod's here"),
        (json!({"ips": ["10.1.0.21", "10.1.0.22"]}), "one address of 10.1.0.0/26"),
        (json!({"mac": "0a:58:0a:01:00:14"}), "link-layer address 0a:58:0a:01:00:14 is shop/web's"),
    ] {
        let refused = adding(&bed, &other, wish).refused();
        assert_eq!(refused["code"], 100, "{refused}");
        let details = refused["details"].as_str().expect("a text");
        assert!(details.contains(why), "{refused}");
    }
    let call = adding(&bed, &other, json!({"mac": "01:00:5e:00:00:01"}));
    assert_eq!(call.code(), 6, "it is a group's");
    let call = bed.call("ADD", Some(&other)).with("CNI_ARGS", "IP=10.1.0");
    assert_eq!(call.code(), 4);
    assert_eq!(bed.ports().len(), 1, "nothing is left of those");

    bed.del(&one);
    let result = adding(&bed, &other, chosen).done();
    assert_eq!(addresses(&result), ["10.1.0.20/26", "fd01::99/64"]);
}

#[test]
fn c8_arguments_choose_addresses_where_the_runtime_does_not() {
    let Some(bed) = Bed::new() else { return };
    let _agent = bed.start();
    let [one, two, three] = [(); 3].map(|()| Container::new());
    let arguments = "IgnoreUnknown=1;IP=10.1.0.30;MAC=0a:58:0a:01:00:1e";
    let result = bed.call("ADD", Some(&one)).with("CNI_ARGS", arguments).done();
    assert_eq!(addresses(&result)[0], "10.1.0.30/26");
    assert_eq!(result["interfaces"][1]["mac"], "0a:58:0a:01:00:1e");
    let args = json!({"cni": {"ips": ["10.1.0.31"], "mac": "0a:58:0a:01:00:1f"}});
    let configured = bed.call("ADD", Some(&two)).configured("args", args.clone());
    let result = configured.with("CNI_ARGS", "IP=10.1.0.40").done();
    assert_eq!(addresses(&result)[0], "10.1.0.31/26", "the configuration counts first");
    assert_eq!(result["interfaces"][1]["mac"], "0a:58:0a:01:00:1f");
    let call = adding(&bed, &three, json!({"ips": ["10.1.0.32"], "mac": "0a:58:0a:01:00:20"}));
    let result = call.configured("args", args).done();
    assert_eq!(addresses(&result)[0], "10.1.0.32/26", "and before it the runtime's own word");
    assert_eq!(result["interfaces"][1]["mac"], "0a:58:0a:01:00:20");
}

#[test]
fn c8_s27_a_port_of_the_node_leads_to_the_container_whose_runtime_wants_it() {
    let Some(bed) = Bed::new() else { return };
    let agent = bed.start();
    let [client, one, other] = [(); 3].map(|()| Container::new());
    bed.add(&client);
    let port = json!({"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""});
    let wish = json!({"portMappings": [port, {"hostPort": 0, "containerPort": 81}]});
    let first = adding(&bed, &one, wish.clone()).done();
    assert_eq!(check(&bed, &one, &first).make().silent(), Ok(()));
    let at: SocketAddr = "192.0.2.1:8080".parse().expect("an address of the node");
    let heard = |by: &Container, result| {
        let address = addresses(result)[0].split('/').next().map(str::to_owned);
        let server = format!("{}:80", address.expect("an address")).parse().expect("an address");
        greet(&client.namespace, listen(&by.namespace, server), at)
    };
    assert_eq!(heard(&one, &first), "hello");

    // the next agent knows, and one of two has it
    agent.kill();
    let _agent = bed.start();
    assert_eq!(heard(&one, &first), "hello");
    let second = adding(&bed, &other, wish).with("CNI_ARGS", "K8S_POD_NAME=none").done();
    let taken = [&one, &other].map(|it| {
        let result = if it.id == one.id { &first } else { &second };
        check(&bed, it, result).make()
    });
    let left_out = taken.iter().filter(|it| !it.succeeded).collect::<Vec<_>>();
    assert_eq!(left_out.len(), 1, "{taken:?}");
    assert!(left_out[0].output.contains("192.0.2.1:8080/TCP is "), "{taken:?}");

    // whom the runtime has forgotten has it no more
    let valid =
        json!([&client.id, &other.id].map(|id| json!({"containerID": id, "ifname": "eth0"})));
    let gc = bed.call("GC", None).configured("cni.dev/valid-attachments", valid);
    assert_eq!(gc.make().silent(), Ok(()));
    assert_eq!(check(&bed, &other, &second).make().silent(), Ok(()));
    assert_eq!(heard(&other, &second), "hello");
    bed.del(&other);

    // and who comes after it has it again
    let last = Container::new();
    let result = adding(&bed, &last, json!({"portMappings": [port]})).done();
    assert_eq!(check(&bed, &last, &result).make().silent(), Ok(()));
}

/// ADD by a runtime that chooses.
fn adding(bed: &Bed, container: &Container, chosen: Value) -> Call {
    bed.call("ADD", Some(container)).configured("runtimeConfig", chosen)
}

fn check(bed: &Bed, container: &Container, result: &Value) -> Call {
    bed.call("CHECK", Some(container)).configured("prevResult", result.clone())
}

fn addresses(result: &Value) -> Vec<&str> {
    let ips = result["ips"].as_array().expect("a list");
    ips.iter().filter_map(|ip| ip["address"].as_str()).collect()
}
