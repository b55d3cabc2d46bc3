//! Services in a lab with this program as the nodes' agent: reached by their addresses from a pod,
//! and changed while they are. Needs root; without it the tests print a note and pass, except under
//! `CI`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use millrace_netns::{Namespace, NamespaceError, unique_name};
use serde_json::Value;

/// Two nodes, a client, and three pods that serve; taken down when this is dropped.
struct Bed {
    name: String,
    manifests: tempfile::TempDir,
}

impl Bed {
    /// Brings the lab up, unless there are no privileges to.
    fn up() -> Option<Self> {
        match Namespace::create_unique("services-test") {
            Err(error @ NamespaceError::Denied { .. }) if std::env::var_os("CI").is_none() => {
                eprintln!("not run: {error}");
                return None;
            }
            outcome => drop(outcome.expect("root can make namespaces")),
        }
        let bed =
            Self { name: unique_name("s"), manifests: tempfile::tempdir().expect("a folder") };
        bed.write(&["one", "two", "three"]);
        bed.done(&["up", &bed.manifests.path().display().to_string()]);
        Some(bed)
    }

    /// Writes the manifests, with these pods behind the Service.
    fn write(&self, serving: &[&str]) {
        let pod = |(name, node): (&str, &str)| {
            let labels = if serving.contains(&name) { "{app: web}" } else { "{}" };
            format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {labels}}}, \
                 spec: {{nodeName: {node}, containers: [{{name: server, image: none}}]}}}}\n---\n"
            )
        };
        let pods: String =
            [("client", "east"), ("one", "east"), ("two", "east"), ("three", "west")]
                .map(pod)
                .concat();
        let folder = self.manifests.path();
        for (file, text) in
            [("nodes.yaml", NODES), ("pods.yaml", &*pods), ("services.yaml", SERVICES)]
        {
            fs::write(folder.join(file), text).expect("the folder is there");
        }
    }

    /// Has the lab know what was written, and waits until the client's node does.
    fn apply(&self, endpoints: usize) {
        self.done(&["apply", &self.manifests.path().display().to_string()]);
        until(|| {
            (self.services()["default/web"]["endpoints"].as_array()?.len() == endpoints)
                .then_some(())
        });
    }

    /// What the client's node says of Services.
    fn services(&self) -> Value {
        let words = ["exec", "node:east", "--", MILLRACE, "services", "-o", "json"];
        serde_json::from_str(&self.done(&words)).expect("it is JSON")
    }

    fn lab(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(MILLRACE);
        command.arg("lab").args(arguments).env("MILLRACE_LAB", &self.name);
        command.output().expect("the program is there")
    }

    /// What a command of `millrace lab` prints, which is to succeed.
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.lab(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).expect("it is text")
    }

    /// The client's network.
    fn client(&self) -> Namespace {
        let state: Value =
            serde_json::from_str(&self.done(&["status", "-o", "json"])).expect("it is JSON");
        let pods = state["pods"].as_array().expect("there are pods");
        let client = pods.iter().find(|it| it["name"] == "default/client").expect("it is there");
        Namespace::open(client["namespace"].as_str().expect("it has one")).expect("it is there")
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.lab(&["down"]);
    }
}

/// A connection to whoever the Service chose.
struct Talk {
    stream: TcpStream,
    lines: BufReader<TcpStream>,
    /// Who answers.
    server: String,
}

impl Talk {
    fn open(client: &Namespace, to: SocketAddr) -> io::Result<Self> {
        let stream =
            client.run(|| TcpStream::connect_timeout(&to, PATIENCE)).expect("a namespace")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let lines = BufReader::new(stream.try_clone()?);
        let mut talk = Self { stream, lines, server: String::new() };
        talk.server = talk.say("who")?;
        Ok(talk)
    }

    /// Says something, and returns who answers.
    fn say(&mut self, text: &str) -> io::Result<String> {
        writeln!(self.stream, "{text}")?;
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        answered(&line, self.stream.local_addr()?, text)
    }
}

/// Asks with a datagram from a socket of its own.
fn ask(client: &Namespace, to: SocketAddr) -> io::Result<String> {
    let socket = client.run(|| {
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(to).map(|()| socket)
    });
    let socket = socket.expect("a namespace")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(b"who")?;
    let mut answer = [0; 512];
    let len = socket.recv(&mut answer)?;
    answered(&String::from_utf8_lossy(&answer[..len]), socket.local_addr()?, "who")
}

/// Who has answered; the server has seen the client itself (S11).
fn answered(line: &str, client: SocketAddr, text: &str) -> io::Result<String> {
    let (server, seen) = line.trim_end().split_once(' ').ok_or(ErrorKind::UnexpectedEof)?;
    assert_eq!(seen, format!("{client} {text}"));
    Ok(server.to_owned())
}

/// Who answers how often, of so many.
fn spread(times: usize, ask: impl Fn() -> io::Result<String>) -> BTreeMap<String, usize> {
    let mut hits = BTreeMap::new();
    for _ in 0..times {
        *hits.entry(ask().expect("somebody answers")).or_insert(0) += 1;
    }
    hits
}

fn names(pods: &[&str]) -> BTreeSet<String> {
    pods.iter().map(|pod| format!("default/{pod}")).collect()
}

fn places(port: u16) -> [SocketAddr; 2] {
    ["10.96.0.10", "fd96::10"].map(|it| SocketAddr::new(it.parse().expect("an address"), port))
}

#[test]
fn c1_s23_a_service_is_reached_over_tcp_and_udp_with_both_families_and_all_backends_serve() {
    let Some(bed) = Bed::up() else { return };
    bed.apply(6);
    let client = bed.client();
    for place in places(7) {
        let tcp = spread(60, || Ok(Talk::open(&client, place)?.server));
        let udp = spread(60, || ask(&client, place));
        for hits in [tcp, udp] {
            assert_eq!(
                hits.keys().cloned().collect::<BTreeSet<_>>(),
                names(&["one", "two", "three"])
            );
            assert!(hits.values().all(|hits| *hits >= 5), "{place}: {hits:?}");
        }
    }
    // S15: what the Service has not, nobody has
    for place in places(9) {
        let error = Talk::open(&client, place).err().expect("nobody is there");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{place}: {error}");
    }
}

#[test]
fn s21_backends_come_and_go_without_a_lost_flow_and_new_ones_go_to_those_there_are() {
    let Some(bed) = Bed::up() else { return };
    bed.apply(6);
    let client = bed.client();
    let mut talks: Vec<Talk> = Vec::new();
    for place in places(7) {
        // one to each of them
        for server in names(&["one", "two", "three"]) {
            let talk = until(|| Talk::open(&client, place).ok().filter(|it| it.server == server));
            talks.push(talk);
        }
    }
    let mut all_go_on = |round: &str| {
        for talk in &mut talks {
            let server = talk.server.clone();
            assert_eq!(talk.say(round).expect("it goes on"), server, "{round}");
        }
    };
    for (round, serving) in
        [&["one", "three"][..], &["two"], &["one", "two", "three"]].iter().enumerate()
    {
        bed.write(serving);
        bed.apply(2 * serving.len());
        all_go_on(&format!("round-{round}"));
        for place in places(7) {
            let now: BTreeSet<_> =
                spread(40, || Ok(Talk::open(&client, place)?.server)).into_keys().collect();
            assert_eq!(now, names(serving), "round {round}");
            let now: BTreeSet<_> = spread(40, || ask(&client, place)).into_keys().collect();
            assert_eq!(now, names(serving), "round {round}");
        }
    }

    // S9: nobody is left
    bed.write(&[]);
    bed.apply(0);
    for place in places(7) {
        let error = Talk::open(&client, place).err().expect("nobody is there");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{place}: {error}");
    }
    all_go_on("end");
}

/// Asks until there is an answer.
fn until<T>(ask: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "what is awaited does not come");
        thread::yield_now();
    }
}

const MILLRACE: &str = env!("CARGO_BIN_EXE_millrace");
const NODES: &str = include_str!("../../../examples/lab/nodes.yaml");
const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  clusterIPs: [10.96.0.10, 'fd96::10']
  selector: {app: web}
  ports:
  - {name: echo, port: 7}
  - {name: echo-udp, port: 7, protocol: UDP}
";
/// How long something may take that comes by itself.
const PATIENCE: Duration = Duration::from_secs(20);
