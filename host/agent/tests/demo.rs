//! `millrace demo`, as people run it. Needs root; without it the tests print a note and pass, except
//! under `CI`.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use millrace_netns::{Namespace, NamespaceError};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn the_demo_shows_what_holds_and_leaves_nothing_behind() {
    if !is_root() {
        return;
    }
    let Output { status, stdout, stderr } =
        demo(&["--quick"]).output().expect("the program is there");
    let (stdout, stderr) = (text(stdout), text(stderr));
    assert!(status.success(), "{stdout}\n{stderr}");
    assert_eq!(stderr, "");

    let short = stdout.split("In short").nth(1).expect("it ends with a summary");
    for claim in [
        "nothing was lost",
        "nothing was overtaken",
        "nothing came twice",
        "every pod reaches every pod",
        "the kernel carries what is known",
        "a trace says what filters decide",
        "swaps on a node lose nothing",
        "a killed agent's flows lose nothing",
        "an agent's upgrade loses nothing",
        "its pods answer in turns",
        "no request fails meanwhile",
        "what is connected stays connected",
        "shop finds store by its name",
        "and is served there, by each address",
        "on paper it denies",
        "whom it denies gets no answer",
        "whom it allows gets one",
        "a connection was open",
        "and what cut it is named",
        "without it shop is answered again",
        "it refuses what it is to",
        "it goes with its manifest",
        "nothing is left behind",
    ] {
        assert!(short.contains(&format!("✓ {claim}")), "{claim}: {short}");
    }
    assert!(short.contains("p99 <") && short.contains(" claims held, in "), "{short}");
    assert!(!stdout.contains('✗') && !stdout.contains('\x1b'), "{stdout}");
    for line in stdout.lines() {
        assert!(line.chars().count() <= 80, "wider than 80 columns: {line}");
    }
    assert_gone(&stdout);
}

#[test]
fn a_demo_that_is_interrupted_clears_everything_away() {
    if !is_root() {
        return;
    }
    // the second time in the middle of a command that makes nodes
    for heading in ["Swaps under load", "millrace lab up"] {
        let (mut demo, mut stdout, mut shown) = demo_until(heading);
        assert!(Namespace::list().iter().any(|name| name.starts_with(lab(&shown))), "{shown}");

        kill_process(Pid::from_child(&demo), Signal::INT).expect("it still runs");
        stdout.read_to_string(&mut shown).expect("it is text");
        let mut stderr = String::new();
        demo.stderr.take().expect("it is piped").read_to_string(&mut stderr).expect("it is text");
        assert_eq!(demo.wait().expect("it ends").code(), Some(1), "{shown}\n{stderr}");
        assert!(stderr.contains("broken off") && stderr.contains("SIGINT"), "{stderr}");
        assert_gone(&shown);
    }
}

#[test]
fn what_a_killed_demo_leaves_is_cleared_away_by_the_next() {
    if !is_root() {
        return;
    }
    let (mut killed, _, shown) = demo_until("A rule, live");
    killed.kill().expect("it still runs");
    killed.wait().expect("it ends");
    let next = demo(&["--quick"]).output().expect("the program is there");
    assert!(next.status.success(), "{}", text(next.stdout));
    assert_gone(&shown);
}

#[test]
fn a_demo_without_privileges_says_which_ones_it_lacks() {
    let program = env!("CARGO_BIN_EXE_millrace");
    let mut demo = match rustix::process::geteuid().is_root() {
        true => Command::new("setpriv"),
        false => Command::new("env"),
    };
    if rustix::process::geteuid().is_root() {
        demo.args(["--bounding-set=-all", "--inh-caps=-all"]);
    }
    let output = demo.args([program, "demo"]).output().expect("every Linux has it");
    let stderr = text(output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("CAP_NET_ADMIN") && stderr.contains("run it as root"), "{stderr}");
    assert_eq!(text(output.stdout), "");
}

/// Whether namespaces can be made.
fn is_root() -> bool {
    match Namespace::create_unique("show") {
        Err(error @ NamespaceError::Denied { .. }) if std::env::var_os("CI").is_none() => {
            eprintln!("not run: {error}");
            false
        }
        outcome => outcome.map(|_| true).expect("root can make namespaces"),
    }
}

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    command.arg("demo").args(arguments);
    command
}

/// A demo that has shown this much, and what it has shown.
fn demo_until(heading: &str) -> (Child, BufReader<ChildStdout>, String) {
    let mut demo = demo(&["--quick"]);
    let demo = demo.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut demo = demo.expect("the program is there");
    let mut stdout = BufReader::new(demo.stdout.take().expect("it is piped"));
    let mut shown = String::new();
    while !shown.contains(heading) {
        assert_ne!(stdout.read_line(&mut shown).expect("it is text"), 0, "{shown}");
    }
    (demo, stdout, shown)
}

/// What the names of a demo's namespaces begin with, out of what it has shown.
fn lab(shown: &str) -> &str {
    let at = shown.find("mr-demo-").expect("it names a namespace");
    &shown[at..at + "mr-demo-01234567".len()]
}

/// Neither namespaces, nor the host's folder, nor a process that knows the host's socket.
fn assert_gone(shown: &str) {
    let lab = lab(shown);
    let left: Vec<_> = Namespace::list().into_iter().filter(|name| name.contains(lab)).collect();
    assert_eq!(left, [""; 0]);
    assert!(!Path::new("/run").join(lab).exists());
    assert!(!Path::new("/run/millrace/lab").join(lab).exists());
    for process in fs::read_dir("/proc").expect("this is Linux").flatten() {
        for about in ["environ", "cmdline"] {
            // a process that ends meanwhile has none any more
            let said = fs::read(process.path().join(about)).unwrap_or_default();
            let said = String::from_utf8_lossy(&said);
            assert!(!said.contains(lab), "{} is left", process.path().display());
        }
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("it is text")
}
