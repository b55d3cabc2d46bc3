use clap::Parser;
use millrace_abi::PortKind;
use serde_json::json;

use super::*;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    config: Config,
}

fn flags(flags: &[&str]) -> Config {
    let program = std::iter::once(&"run");
    Flags::try_parse_from(program.chain(flags)).unwrap_or_else(|error| panic!("{error}")).config
}

fn refused_flags(flags: &[&str]) -> String {
    let program = std::iter::once(&"run");
    let refused = Flags::try_parse_from(program.chain(flags)).err();
    refused.unwrap_or_else(|| panic!("{flags:?} is accepted")).to_string()
}

const WHOLE: &str = r#"
ports:
  - name: veth-a
    kind: pod
    vlans: access:10
  - name: veth-b
filters:
  - name: deny
    module: ./deny.wasm
    config:
      rules: [{port: 22}]
    terms:
      ports: [veth-a]
      kinds: [uplink]
      onFault: open
      mode: shadow
      capabilities: [drop]
      memory: 1MiB
      deadline: 5ms
  - {name: bridge, module: bridge, config: bridge.json}
workers: 2
cores: [0, 1]
burst: 32
flows: 1024
noCache: true
spin: 10us
attach: generic
zeroCopy: true
frames: 4096
ring: 1024
metrics: 127.0.0.1:9310
socket: /tmp/m.sock
moduleCache: /var/cache/millrace
log: debug
logFormat: json
"#;

#[test]
fn a_file_may_say_everything() {
    let config = Config::parse(WHOLE).unwrap();
    assert_eq!((&*config.ports[0].name, config.ports[0].kind.0), ("veth-a", PortKind::Pod));
    assert_eq!(config.ports[1].vlans.to_string(), "transparent");
    let deny = &config.filters[0];
    assert_eq!(deny.config, ConfigSource::Inline(json!({"rules": [{"port": 22}]})));
    assert_eq!(deny.terms.deadline.map(Span::amount), Some(5_000_000));
    assert_eq!(config.filters[1].config, ConfigSource::File("bridge.json".into()));
    assert_eq!((config.workers, config.burst, config.no_cache), (Some(2), Some(32), true));
    assert_eq!(config.cores, Some(vec![0, 1]));
    assert_eq!((config.attach, config.zero_copy), (Some(Attach::Generic), true));
    assert_eq!(config.metrics.map(|address| address.port()), Some(9310));
    assert_eq!(config.log_format, Some(LogFormat::Json));
}

#[test]
fn a_file_may_say_nothing() {
    for nothing in ["", "# all defaults\n", "{}"] {
        let config = Config::parse(nothing).unwrap();
        assert!(config.ports.is_empty() && config.workers.is_none(), "{nothing}");
    }
}

#[test]
fn a_wrong_file_is_refused_with_line_and_field() {
    for (yaml, place, complaint) in [
        ("workers: 1\nprots: []\n", "line 2", "unknown field `prots`"),
        ("ports:\n  - name: a\n    speed: 10\n", "line 3", "unknown field `speed`"),
        (
            "ports:\n  - name: a\n    kind: pond\n",
            "line 3",
            "ports[0].kind: `pond` is no kind of port",
        ),
        ("ports:\n  - kind: pod\n", "line 2", "missing field `name`"),
        ("ports:\n  - {name: a, vlans: 'access:0'}\n", "line 2", "`access:0` is not"),
        ("filters:\n  - name: x\n    module: firewall\n", "line 3", "no built-in filter is called"),
        (
            "filters:\n- name: x\n  module: bridge\n  terms:\n    onfault: open\n",
            "line 5",
            "unknown field `onfault`, expected one of `ports`",
        ),
        (
            "filters:\n- name: x\n  module: bridge\n  terms: {memory: 64}\n",
            "line 4",
            "filters[0].terms.memory",
        ),
        ("workers: many\n", "line 1", "workers: invalid type"),
        ("spin: 50\n", "line 1", "spin: `50` is not a whole number with one of the units"),
        ("attach: sideways\n", "line 1", "unknown variant `sideways`"),
        ("ports: [\n", "line 2", "did not find expected node content"),
    ] {
        let error = format!("{:#}", Config::parse(yaml).expect_err(yaml));
        assert!(error.contains(place) && error.contains(complaint), "{yaml}{error}");
    }
}

#[test]
fn flags_say_the_same() {
    let config = flags(&[
        "--port",
        "a,kind=uplink",
        "--port=b",
        "--filter",
        r#"deny=deny-list:{"rules": []}"#,
        "--filter=bridge",
        "--cores=2,3",
        "--no-cache",
        "--spin=0us",
        "--attach=native",
    ]);
    assert_eq!(config.ports.len(), 2);
    assert_eq!(config.filters[1].name, "bridge");
    assert_eq!(config.cores, Some(vec![2, 3]));
    assert_eq!(config.spin.map(Span::amount), Some(0));
    assert!(config.no_cache && config.attach == Some(Attach::Native));
}

#[test]
fn wrong_flags_are_refused_with_the_reason() {
    for (wrong, complaint) in [
        ("--port=a,kind=pond", "`pond` is no kind of port"),
        ("--filter=x=firewall", "no built-in filter is called"),
        ("--spin=50", "as in `50us`"),
        ("--attach=sideways", "possible values: auto, native, generic"),
        ("--metrics=9310", "invalid socket address"),
    ] {
        let error = refused_flags(&[wrong]);
        assert!(error.contains(complaint), "{wrong}: {error}");
    }
}

#[test]
fn flags_go_before_the_file() {
    let file = Config::parse(WHOLE).unwrap();
    let config = flags(&["--port=x", "--workers=7", "--socket=/tmp/other.sock"]).over(file);
    assert_eq!(config.ports.iter().map(|port| &*port.name).collect::<Vec<_>>(), ["x"]);
    assert_eq!(config.workers, Some(7));
    assert_eq!(config.socket.as_deref(), Some(Path::new("/tmp/other.sock")));
    // the rest is the file's
    assert_eq!((config.filters.len(), config.burst, config.no_cache), (2, Some(32), true));
}

#[test]
fn paths_in_a_file_are_relative_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("millrace.yaml");
    fs::write(&path, WHOLE).unwrap();
    let config = Config::read(&path).unwrap();
    assert_eq!(config.filters[0].module, ModuleSource::File(folder.path().join("./deny.wasm")));
    assert_eq!(config.filters[1].config, ConfigSource::File(folder.path().join("bridge.json")));

    let error = Config::read(&folder.path().join("missing.yaml")).unwrap_err();
    assert!(format!("{error:#}").contains("missing.yaml: No such file"), "{error:#}");
}
