//! Commands that ask and change nothing, for people and for programs.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::bed::{Bed, Host, MILLRACE, Pod};

/// Asks for the addresses of a name.
pub(crate) fn resolve(from: &Pod, at: &Pod, name: &str) {
    let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend(label.bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    from.udp(0).send_to(&query, (at.address, 53)).expect("there is a route");
}

/// The lines of a command that goes on until it is interrupted.
struct Watched {
    child: std::process::Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Watched {
    fn start(host: &Host<'_>, arguments: &[&str]) -> Self {
        let mut command = host.command(arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program is built");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, lines }
    }

    /// The next line that has `text` in it.
    fn line_with(&mut self, text: &str) -> String {
        let mut lines = self.lines.by_ref().map(|line| line.expect("it writes UTF-8"));
        lines.find(|line| line.contains(text)).unwrap_or_else(|| panic!("no line has {text}"))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn every_question_has_an_answer_for_people_and_one_for_programs() {
    let Some(bed) = Bed::new(2) else { return };
    let [a, b] = &bed.pods[..] else { unreachable!("there are two") };
    let host = bed.run(&["--filter=dns=dns-log", "--filter=bridge", "--metrics=127.0.0.1:0"]);
    assert!(a.pings(b));
    resolve(a, b, "example.test");
    host.until(&["filter", "logs", "dns"], |lines| lines[0]["sequence"] == 1);

    for (question, heads) in [
        (
            &["status"][..],
            &["millrace 0.", "ports    veth-a (up), veth-b (up)", "dns ▸ bridge"][..],
        ),
        (&["ports"], &["PORT    KIND  STATE  XDP     FRAMES", "veth-a  wire  up     native  copy"]),
        (&["stats"], &["PORT    PACKETS IN", "WORKER  CORE", "FILTER  ASKED", "questions 1"]),
        (&["filter", "list"], &["PLACE  NAME    FILTER", "    1  dns     dns-log 0.", "inspect"]),
        (&["filter", "table", "bridge"], &["VLAN  MAC", "veth-a", "FORGOTTEN IN"]),
        (&["filter", "table", "bridge", "stations", "--limit=1"], &["1 of 2 entries"]),
        (
            &["filter", "logs", "dns"],
            &["     1  ", "info   10.77.0.1 asks for example.test. (type 1)"],
        ),
        (&["filter", "logs", "bridge"], &["\n"]),
        (&["drops"], &["no packet was dropped"]),
    ] {
        let answer = host.ask(question);
        for head in heads {
            assert!(answer.contains(head), "{question:?} lacks {head:?}:\n{answer}");
        }
    }

    let status = host.json(&["status"]);
    assert_eq!(status["pid"], host.pid());
    assert!(status["metrics"].as_str().is_some_and(|at| at.starts_with("127.0.0.1:")), "{status}");
    assert_eq!(status["ports"], host.json(&["ports"]));
    assert_eq!(status["filters"][1]["filter"]["filter"], "bridge");
    let stats = host.json(&["stats"]);
    assert!(stats["ports"][0]["counters"]["rxPackets"].as_u64() >= Some(3), "{stats:#}");
    assert!(stats["workers"][0]["misses"].as_u64() >= Some(3), "{stats:#}");
    assert_eq!(stats["filters"][0]["counters"]["shown"], 1);
    let fates = stats["fates"].as_array().expect("a list");
    assert!(fates.iter().any(|fate| fate["fate"] == "forwarded" && fate["stage"] == "bridge"));
    let table = host.json(&["filter", "table", "bridge"]);
    assert_eq!((&table["name"], &table["entries"]), (&json!("stations"), &json!(2)));
    let logs = host.json(&["filter", "logs", "dns", "--after=1"]);
    assert_eq!(logs, json!([]));
}

#[test]
fn a_followed_log_hands_on_lines_as_they_come_and_ends_with_its_stage_or_the_host() {
    let Some(bed) = Bed::new(2) else { return };
    let [a, b] = &bed.pods[..] else { unreachable!("there are two") };
    let filters = ["--filter=dns=dns-log", "--filter=dns2=dns-log", "--filter=bridge"];
    let mut host = bed.run(&filters);
    resolve(a, b, "before.test");
    let mut people = Watched::start(&host, &["filter", "logs", "dns", "--follow"]);
    let mut programs = Watched::start(&host, &["filter", "logs", "dns2", "-f", "-o", "json"]);
    people.line_with("asks for before.test");
    resolve(a, b, "after.test");
    people.line_with("asks for after.test");
    let line: Value = serde_json::from_str(&programs.line_with("after.test")).expect("JSON");
    assert_eq!((&line["sequence"], &line["level"]), (&json!(2), &json!("info")));

    host.ask(&["filter", "remove", "dns"]);
    assert!(people.lines.next().is_none());
    assert_eq!(people.child.wait().expect("it is a child").code(), Some(0));

    host.signal(Signal::TERM);
    assert!(programs.lines.next().is_none());
    assert_eq!(programs.child.wait().expect("it is a child").code(), Some(0));
    assert_eq!(host.wait().code(), Some(0), "{}", host.log());
}

#[test]
fn watched_drops_show_what_was_added() {
    let Some(bed) = Bed::new(2) else { return };
    let [a, b] = &bed.pods[..] else { unreachable!("there are two") };
    let rule = r#"{"rules": [{"protocol": "udp", "port": 9}]}"#;
    let host = bed.run(&[&format!("--filter=deny=deny-list:{rule}"), "--filter=bridge"]);
    let mut watched = Watched::start(&host, &["drops", "--watch"]);
    watched.line_with("no packet was dropped");
    a.udp(0).send_to(b"x", (b.address, 9)).expect("there is a route");
    watched.line_with("denied: 1 packet.");
    let row = watched.line_with("veth-a");
    assert!(row.contains("+1") && row.contains("deny"), "{row}");
    let pid = Pid::from_child(&watched.child);
    // who runs tests in the background may have SIGINT ignored
    kill_process(pid, Signal::TERM).expect("it is not reaped yet");
    assert!(!watched.child.wait().expect("it is a child").success());
}

#[test]
fn top_draws_rates_until_q() {
    let Some(bed) = Bed::new(1) else { return };
    let host = bed.run(&["--filter=bridge"]);
    let refused = host.refuses(&["top", "-o", "json"]);
    assert!(refused.contains("`millrace stats -o json` is for programs"), "{refused}");

    // a terminal of its own
    let line = format!("stty rows 24 cols 80; exec {MILLRACE} top --every 50ms");
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    script.env("MILLRACE_SOCKET", &host.socket).env("TERM", "xterm");
    let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
    let mut screen = BufReader::new(script.stdout.take().expect("it is piped"));
    let mut drawn = Vec::new();
    while !String::from_utf8_lossy(&drawn).contains("q quits") {
        assert_ne!(screen.read_until(b's', &mut drawn).expect("it can be read"), 0);
    }
    let screen = String::from_utf8_lossy(&drawn);
    assert!(screen.contains("veth-a") && screen.contains("bridge"), "{screen}");
    script.stdin.as_mut().expect("it is piped").write_all(b"q").expect("it is read");
    assert!(script.wait().expect("it is a child").success());
}

#[test]
fn the_program_explains_itself_without_a_host() {
    for (arguments, heads) in [
        (&["--version"][..], &["millrace 0."][..]),
        (&["--help"], &["Exit codes:", "filter", "top"]),
        (&["run", "--help"], &["--port", "A configuration file:", "--zero-copy"]),
        (&["filter", "load", "--help"], &["--on-fault", "--grant", "inspect"]),
        (&["completions", "bash"], &["_millrace()", "rollback"]),
        (&["completions", "zsh"], &["#compdef millrace", "canary"]),
        (&["completions", "fish"], &["complete -c millrace"]),
    ] {
        let output = Command::new(MILLRACE).args(arguments).output().expect("it is built");
        let said = String::from_utf8(output.stdout).expect("it writes UTF-8");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(heads.iter().all(|head| said.contains(head)), "{arguments:?}: {said}");
    }
}
