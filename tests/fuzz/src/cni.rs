//! What container runtimes say: whatever it is, it is a call or it is refused in their language;
//! and what plugins before have made is still in what this one says.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use millrace_cni::network::Previous;
use millrace_cni::{Attached, AttachmentId, Bandwidth, Call, Failure, Network, Version, outcome};
use serde_json::Value;

/// Takes `input` for the variables of a call, one on each of the first lines, and a configuration.
///
/// # Panics
/// If the plugin breaks its word.
pub fn run(input: &[u8]) {
    let mut lines = input.splitn(VARIABLES.len() + 1, |&byte| byte == b'\n');
    let variables = VARIABLES.map(|name| (name, lines.next().unwrap_or_default()));
    let call = Call::read(&|name| {
        let value = variables.iter().find(|(known, _)| *known == name)?.1;
        Some(OsString::from_vec(value.to_vec()))
    });
    let id = match call {
        Ok(Call::Add(id, ..) | Call::Check(id, _) | Call::Del(id)) => {
            assert_eq!(id.to_string().parse(), Ok(id.clone()), "a file has its name");
            assert_eq!(id.path().matches('/').count(), 4, "{id}");
            id
        }
        Ok(_) => AttachmentId { container: "a".to_owned(), interface: "eth0".to_owned() },
        Err(failure) => return told(Version::LATEST, &failure),
    };
    match Network::read(lines.next().unwrap_or_default()) {
        Err((version, failure)) => told(version, &failure),
        Ok(network) => passed_on(&network, attached(id)),
    }
}

/// A call of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let previous = r#"{"cniVersion": "1.1.0", "name": "n", "socket": "/x", "dns": {"domain": "d"},
        "prevResult": {"interfaces": [{"name": "eth0", "sandbox": "/n"}], "more": 1,
            "ips": [{"address": "10.1.0.2/24", "interface": 0}], "routes": [{"dst": "::/0"}]}}"#;
    let limits = r#"{"cniVersion": "0.3.1", "name": "n",
        "runtimeConfig": {"bandwidth": {"ingressRate": 8, "egressRate": 9}, "ips": ["10.1.0.2/24"],
            "mac": "0a:00:00:00:00:01", "portMappings": [{"hostPort": 8, "containerPort": 9}]}}"#;
    let valid = r#"{"cniVersion": "1.1.0", "name": "n",
        "cni.dev/valid-attachments": [{"containerID": "a", "ifname": "b"}]}"#;
    let call = |verb: &str, configuration: &str| {
        format!(
            "{verb}\n0a1b\n/n\neth0\nK8S_POD_NAMESPACE=a;K8S_POD_NAME=b;IP=fd01::2\n{configuration}"
        )
    };
    [("ADD", limits), ("ADD", previous), ("CHECK", previous), ("DEL", limits), ("GC", valid)]
        .map(|(verb, configuration)| call(verb, configuration).into_bytes())
        .into()
}

/// A failure says what the specification wants it to say.
fn told(version: Version, failure: &Failure) {
    let said = failure.to_json(version);
    assert!(said["code"].as_u64().is_some_and(|code| code > 0), "{said}");
    assert!(said["msg"].as_str().is_some_and(|text| !text.is_empty()), "{said}");
}

fn passed_on(network: &Network, attached: Attached) {
    let result = outcome::added(network, &attached);
    let said: Previous = serde_json::from_value(result.clone()).expect("it is a result");
    let before = network.previous.clone().unwrap_or_default();
    assert!(said.interfaces.starts_with(&before.interfaces), "{result}");
    assert!(said.ips.starts_with(&before.ips), "{result}");
    assert!(said.routes.starts_with(&before.routes), "{result}");
    let ours = &result["ips"][before.ips.len()]["interface"];
    let place = ours.as_u64().and_then(|index| said.interfaces.get(index as usize));
    let name = place.and_then(|interface| interface.get("name")).and_then(Value::as_str);
    assert_eq!(name, Some(&*attached.id.interface), "{result}");
    let is_hidden =
        before.interfaces.iter().any(|it| it.get("name") == place.and_then(|it| it.get("name")));
    let missing = outcome::missing(&said, &attached, Path::new("/n"));
    assert!(is_hidden || missing.is_empty(), "{missing:?} of {result}");
}

fn attached(id: AttachmentId) -> Attached {
    let prefix = |text: &str| text.parse().expect("it is a prefix");
    Attached {
        id,
        pod: None,
        network: None,
        netns: "/n".into(),
        port: "port".to_owned(),
        mac: "02:00:00:00:00:01".to_owned(),
        addresses: vec![prefix("10.1.0.2/24"), prefix("fd01::2/64")],
        gateways: vec![prefix("10.1.0.1/24"), prefix("fd01::1/64")],
        mtu: 1500,
        port_mappings: Vec::new(),
        bandwidth: Bandwidth::default(),
    }
}

const VARIABLES: [&str; 5] =
    ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"];
