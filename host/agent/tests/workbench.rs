//! The tools of a filter's author, as authors use them: from `filter new` to a filter that is
//! swapped under traffic. The playground needs root; without it that test sees the named error.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use millrace_builtin::{BUILT_IN, EXAMPLES};
use millrace_filter::testing::capture;
use millrace_filter::testing::frames::{self, Flags};
use millrace_netns::{Namespace, NamespaceError};
use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// One test for the whole way: what it compiles takes time.
#[test]
fn a_new_filter_passes_its_tests_and_its_module_does_with_the_capture_as_it_should() {
    // always the same one, so that what was compiled need not be compiled again
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("workbench");
    let project = cache.join("quiet-ports");
    let _ = fs::remove_dir_all(&project);
    fs::create_dir_all(&cache).expect("cargo's folder can be written");
    let mut new = millrace();
    new.args(["filter", "new", "quiet-ports", "--path"]).arg(&project);
    let said = succeeds(&mut new);
    assert!(said.contains("millrace filter build"), "{said}");
    assert!(fails(&mut new).contains("is there already"));
    for file in ["README.md", ".gitignore", "config.json", "captures/example.pcap", "sdk/LICENSE"] {
        assert!(project.join(file).is_file(), "{file}");
    }

    let mut cargo = Command::new("cargo");
    cargo.arg("test").current_dir(&project).env("CARGO_TARGET_DIR", &cache);
    let said = succeeds(&mut cargo);
    assert!(said.contains("of_the_captured_flows_those_to_telnet_are_refused ... ok"), "{said}");

    let mut build = millrace();
    build.args(["filter", "build", "--path"]).arg(&project).env("XDG_CACHE_HOME", &cache);
    let said = succeeds(&mut build);
    assert!(said.contains("quiet-ports 0.1.0: hooks flow; wants drop, reject"), "{said}");

    let test = |config: &str, expected: &Path| {
        let mut test = millrace();
        test.args(["filter", "test", "./quiet-ports.wasm", "--pcap", "captures/example.pcap"]);
        test.args(["--config", config, "--expect"]).arg(expected).current_dir(&project);
        test
    };
    let said = succeeds(&mut test("config.json", Path::new("captures/example.expected")));
    assert!(said.contains("# metric refused: 2"), "{said}");
    // what it prints is what it reads
    let printed = project.join("printed.expected");
    fs::write(&printed, said).expect("the project can be written");
    succeeds(&mut test("config.json", &printed));
    let error = fails(&mut test(r#"{"ports": [80]}"#, &printed));
    assert!(error.contains("3 of 8 packets did not do as expected\npacket 5: TCP"), "{error}");
    assert!(error.contains("\n  - pass ") && error.contains("\n  + drop denied by closed"));
}

#[test]
fn every_built_in_filter_can_be_inspected_and_those_that_look_into_flows_are_warned_of() {
    for module in BUILT_IN.iter().chain(EXAMPLES) {
        let mut inspect = millrace();
        let said = succeeds(inspect.args(["filter", "inspect", module.name, "-o", "json"]));
        let report: Value = serde_json::from_str(&said).expect("it is JSON");
        assert_eq!(report["manifest"]["name"], module.name);
        assert_eq!(report["bytes"], module.bytes.len());
        let names = |what: &str| -> Vec<String> {
            serde_json::from_value(report[what].clone()).expect("a list of names")
        };
        assert!(names("imports").iter().all(|import| import.starts_with("millrace.")));
        assert!(names("exports").contains(&"millrace_flow".to_owned()));
        let inspects = ["bridge", "dns-log", "policy"].contains(&module.name);
        assert_eq!(names("warnings").len(), usize::from(inspects), "{said}");

        let said = succeeds(millrace().args(["filter", "inspect", module.name]));
        assert!(said.starts_with(&format!("{} 0.1.0: ", module.name)), "{said}");
        assert_eq!(said.contains("kept out of the fast path"), inspects, "{said}");
    }
    let said = succeeds(millrace().args(["filter", "inspect", "deny-list"]));
    assert!(said.contains("rules[].protocol  tcp | udp | sctp"), "{said}");
}

#[test]
fn a_module_that_is_none_is_refused_with_the_sandboxs_reason() {
    let folder = TempDir::new().expect("a folder");
    let cut = folder.path().join("cut.wasm");
    let bridge = millrace_builtin::find("bridge").expect("it is built in").bytes;
    fs::write(&cut, &bridge[..bridge.len() / 2]).expect("the folder can be written");
    let pcap = capture_of(&folder, &[("0", "in", frames::ping("10.0.0.1", "10.0.0.2"))]);
    for tool in ["inspect", "test", "bench"] {
        let mut command = millrace();
        command.args(["filter", tool]).arg(&cut);
        if tool != "inspect" {
            command.arg("--pcap").arg(&pcap);
        }
        let error = fails(&mut command);
        assert!(error.contains("cut.wasm is refused: it is not a valid module"), "{error}");
    }
}

#[test]
fn packets_leave_by_ports_and_with_the_bytes_that_the_filter_says() {
    let folder = TempDir::new().expect("a folder");
    let (a, b) = ("10.0.0.1:1000", "10.0.0.2:80");
    let pcap = capture_of(
        &folder,
        &[
            ("0", "left", frames::tcp(a, b, Flags::SYN, b"")),
            ("1", "right", frames::tcp(b, a, Flags::SYN | Flags::ACK, b"")),
            ("0", "left", frames::tcp(a, b, Flags::ACK, b"")),
            ("0", "left", vec![0; 9]),
        ],
    );
    let out = folder.path().join("left.pcapng");
    let mut test = millrace();
    test.args(["filter", "test", "bridge", "--pcap"]).arg(&pcap).arg("--out").arg(&out);
    let said = succeeds(&mut test);
    // the first one is remembered for half a second, and the third comes a second later
    assert_eq!(
        verdicts(&said),
        ["flood", "forward left", "forward right", "drop truncated-ethernet"]
    );
    let left = capture::read(&out).expect("it is a capture");
    let ports: Vec<_> = left.iter().map(|packet| &*packet.interface).collect();
    assert_eq!(ports, ["right", "left", "right"]);
    assert_eq!(left[1].frame, frames::tcp(b, a, Flags::SYN | Flags::ACK, b""));
    assert_eq!(left[2].time - left[0].time, Duration::from_secs(2));
}

#[test]
fn answers_rules_and_the_log_of_a_filter_in_text_are_shown() {
    let folder = TempDir::new().expect("a folder");
    let doorman = include_str!("../../../tests/packet/tests/abi/doorman.wat");
    let module = module_of(&folder, doorman);
    let flow = |n: u16| frames::tcp(&format!("10.0.0.1:{n}"), "10.0.0.2:80", Flags::SYN, b"");
    let pcap = capture_of(
        &folder,
        &[
            ("0", "a", frames::arp_request("10.0.0.1", "10.0.0.254")),
            ("0", "a", flow(1)),
            ("0", "a", flow(2)),
        ],
    );
    let mut test = millrace();
    test.args(["filter", "test"]).arg(&module).arg("--pcap").arg(&pcap);
    let said = succeeds(test.args(["--config", r#"{"limit": 1}"#]));
    assert_eq!(verdicts(&said), ["answer by gateway", "flood", "drop rate-limited by too-many"]);
    assert!(said.contains("# log info: on duty"), "{said}");
    assert!(said.contains("# metric turned_away: 1"), "{said}");
}

#[test]
fn a_filter_that_fails_fails_its_test_unless_that_is_expected() {
    let folder = TempDir::new().expect("a folder");
    let module = module_of(
        &folder,
        r#"(module
        (@custom "millrace" "{\"abi\":1,\"name\":\"broken\",\"hooks\":[\"flow\"]}")
        (memory (export "memory") 4)
        (global $free (mut i32) (i32.const 1024))
        (func (export "millrace_alloc") (param $len i32) (result i32) (local $at i32)
            (local.set $at (global.get $free))
            (global.set $free (i32.and (i32.const -16)
                (i32.add (i32.const 15) (i32.add (local.get $at) (local.get $len)))))
            (local.get $at))
        (func (export "millrace_configure") (param i32 i32) (result i32) (i32.const 0))
        (func $breaks (export "millrace_flow") (param i32 i32 i32) (result i32) unreachable))"#,
    );
    let pcap = capture_of(&folder, &[("0", "a", frames::ping("10.0.0.1", "10.0.0.2"))]);
    let mut test = millrace();
    test.args(["filter", "test"]).arg(&module).arg("--pcap").arg(&pcap);
    let error = fails(&mut test);
    assert!(error.contains("the filter failed: "), "{error}");
    assert!(error.contains("breaks"), "the function is named: {error}");

    let expected = folder.path().join("expected");
    fs::write(&expected, "drop filter-fault").expect("the folder can be written");
    let said = succeeds(test.arg("--expect").arg(&expected));
    assert!(said.contains("# 1 faults; the last one: "), "{said}");
}

#[test]
fn a_bench_has_a_number_for_each_hook_and_burst() {
    let folder = TempDir::new().expect("a folder");
    let question = frames::udp("10.0.0.1:1000", "10.0.0.2:53", &[0; 40]);
    let pcap = capture_of(&folder, &[("0", "a", question), ("0", "a", vec![0; 9])]);
    let mut bench = millrace();
    bench.args(["filter", "bench", "dns-log", "-o", "json", "--pcap"]).arg(&pcap);
    let costs: Vec<Value> = serde_json::from_str(&succeeds(&mut bench)).expect("it is JSON");
    let measured: Vec<_> =
        costs.iter().map(|cost| format!("{} {}", cost["hook"], cost["burst"])).collect();
    let hook = |name: &str| [1, 8, 64, 256].map(|burst| format!("\"{name}\" {burst}"));
    assert_eq!(measured, [hook("flow"), hook("packet")].concat());
    for cost in &costs {
        let [low, median, high] =
            ["lowNs", "medianNs", "highNs"].map(|key| cost[key].as_f64().expect("it is a number"));
        assert!(0.0 < low && low <= median && median <= high, "{cost}");
    }
}

#[test]
fn in_a_playground_a_filter_is_swapped_under_traffic_and_nothing_is_lost_or_left_behind() {
    if !is_root() {
        assert!(fails(millrace().arg("playground")).contains("CAP_NET_ADMIN"));
        return;
    }
    let script = r#"
        cat "$(command -v there)"; millrace status -o json | tr -d '\n '; echo
        there sleep 1000 >/dev/null 2>&1 &
        ping -q -c 200 -i 0.005 10.77.0.2 &
        ping=$!
        for n in 1 2 3 4 5 6 7 8; do millrace filter swap deny deny-list >/dev/null || exit 9; done
        wait $ping && ping -q -c 1 fd77::2 && exit 7"#;
    let mut playground = millrace();
    playground.args(["playground", "--filter", r#"deny=deny-list:{"rules":[]}"#, "--"]);
    let output = playground.args(["sh", "-c", script]).output().expect("the program is built");
    let (said, error) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(7), "{said}{error}");
    assert!(said.contains("200 packets transmitted, 200 received"), "{said}");
    assert!(said.contains(r#""name":"bridge""#), "somebody says where packets go: {said}");
    assert_nothing_left(&said);
}

#[test]
fn an_interrupt_ends_the_command_in_a_playground_and_everything_is_taken_away() {
    if !is_root() {
        return;
    }
    let script = r#"
        cat "$(command -v there)"; millrace status -o json | tr -d '\n '; echo
        echo ready; exec sleep 1000"#;
    let mut playground = millrace();
    let mut child = playground
        .args(["playground", "--", "sh", "-c", script])
        .stdout(Stdio::piped())
        // a terminal interrupts the whole group
        .process_group(0)
        .spawn()
        .expect("the program is built");
    let mut said = String::new();
    let mut lines = BufReader::new(child.stdout.as_mut().expect("it is piped"));
    while !said.ends_with("ready\n") {
        assert_ne!(lines.read_line(&mut said).expect("it is text"), 0, "{said}");
    }
    kill_process_group(Pid::from_child(&child), Signal::INT).expect("it runs");
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(130), "as shells say it");
    assert_nothing_left(&said);
}

#[test]
fn a_playground_whose_host_does_not_start_says_why() {
    if !is_root() {
        return;
    }
    let mut playground = millrace();
    playground.args(["playground", "--filter", r#"deny-list:{"rules":7}"#, "--", "true"]);
    let error = fails(&mut playground);
    assert!(error.contains("the host does not start:"), "{error}");
    assert!(error.contains("`rules`: is not an array"), "{error}");
}

/// The namespace, the host and the folder of a playground, as its command has printed them.
fn assert_nothing_left(said: &str) {
    let behind = |mark: &str| {
        let rest = said.split(mark).nth(1).unwrap_or_else(|| panic!("{mark} is not in {said}"));
        rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next().expect("a word")
    };
    let namespace = behind("--net=/run/netns/");
    assert!(namespace.starts_with("mr-playground-there-"), "{namespace}");
    assert!(!Namespace::list().iter().any(|name| name == namespace), "{namespace}");
    let host = behind(r#""pid":"#).parse().ok().and_then(Pid::from_raw).expect("a process");
    assert!(test_kill_process(host).is_err(), "the host runs");
    for entry in fs::read_dir("/proc").expect("it is there").flatten() {
        let command = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        assert!(!command.contains(namespace), "{command}");
    }
}

fn millrace() -> Command {
    Command::new(env!("CARGO_BIN_EXE_millrace"))
}

/// Runs a command that succeeds, and returns what it prints.
fn succeeds(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("the program is there");
    let (stdout, stderr) = (text(&stdout), text(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{stdout}\n{stderr}");
    stdout
}

/// Runs a command that fails, and returns its error.
fn fails(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("the program is there");
    let (stdout, stderr) = (text(&stdout), text(&stderr));
    assert_eq!(status.code(), Some(1), "{command:?}\n{stdout}\n{stderr}");
    stderr
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it is text")
}

/// The verdicts in what `filter test` prints.
fn verdicts(said: &str) -> Vec<&str> {
    let verdicts = said.lines().filter_map(|line| Some(line.split_once('#')?.0.trim()));
    verdicts.filter(|verdict| !verdict.is_empty()).collect()
}

/// A capture with these packets, a second apart, each with the number and name of its interface.
fn capture_of(folder: &TempDir, packets: &[(&str, &str, Vec<u8>)]) -> PathBuf {
    let path = folder.path().join("capture.pcapng");
    let mut pcapng = PcapNgWriter::new(Vec::new()).expect(TAKES_EVERYTHING);
    let mut known = 0;
    for (seconds, (number, name, frame)) in (1..).zip(packets) {
        let number: u32 = number.parse().expect("a number");
        if number == known {
            let mut interface = InterfaceDescriptionBlock::new(DataLink::ETHERNET, 0);
            interface.options = vec![
                InterfaceDescriptionOption::IfName((*name).to_owned().into()),
                InterfaceDescriptionOption::IfTsResol(9),
            ];
            pcapng.write_pcapng_block(interface).expect(TAKES_EVERYTHING);
            known += 1;
        }
        let packet = EnhancedPacketBlock {
            interface_id: number,
            timestamp: Duration::from_secs(seconds),
            original_len: frame.len() as u32,
            data: frame.into(),
            options: Vec::new(),
        };
        pcapng.write_pcapng_block(packet).expect(TAKES_EVERYTHING);
    }
    fs::write(&path, pcapng.into_inner()).expect("the folder can be written");
    path
}

/// A module from its text.
fn module_of(folder: &TempDir, wat: &str) -> PathBuf {
    let path = folder.path().join("module.wasm");
    let module = wat::parse_str(wat).expect("it is right WebAssembly text");
    fs::write(&path, module).expect("the folder can be written");
    path
}

fn is_root() -> bool {
    match Namespace::create_unique("show") {
        Err(error @ NamespaceError::Denied { .. }) if std::env::var_os("CI").is_none() => {
            eprintln!("not run: {error}");
            false
        }
        outcome => outcome.map(|_| true).expect("root can make namespaces"),
    }
}

const TAKES_EVERYTHING: &str = "a Vec takes everything";
