//! A host that runs, and pods behind its ports.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use millrace_netns::{Namespace, NamespaceError, VethSpec};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// A namespace with pods around it; a host is started in it by [`Bed::run`].
pub(crate) struct Bed {
    pub(crate) pods: Vec<Pod>,
    pub(crate) namespace: Namespace,
    pub(crate) folder: TempDir,
}

/// A namespace with one interface.
pub(crate) struct Pod {
    pub(crate) namespace: Namespace,
    pub(crate) address: IpAddr,
    /// The name of its port.
    pub(crate) port: String,
}

/// A running host. It is killed when this is dropped.
pub(crate) struct Host<'b> {
    bed: &'b Bed,
    child: Child,
    /// What it said when it was ready.
    pub(crate) words: String,
    pub(crate) socket: PathBuf,
    log: PathBuf,
}

impl Bed {
    /// Pods behind `veth-a` and so on, 10.77.0.1 and so on. Without the privilege to make them
    /// there are none, and the test has nothing to run; in CI it fails.
    pub(crate) fn new(pods: usize) -> Option<Self> {
        let namespace = match Namespace::create_unique("agent-host") {
            Ok(namespace) => namespace,
            Err(error @ NamespaceError::Denied { .. }) if std::env::var_os("CI").is_none() => {
                eprintln!("not run: {error}");
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let pods = ["a", "b", "c"].into_iter().zip(1..).take(pods);
        let pods = pods.map(|(name, n)| Pod::new(&namespace, &format!("veth-{name}"), n));
        Some(Self { pods: pods.collect(), namespace, folder: TempDir::new().expect("a folder") })
    }

    /// Where a file of this test is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A host between the pods with these further flags.
    pub(crate) fn run(&self, flags: &[&str]) -> Host<'_> {
        let ports = self.pods.iter().map(|pod| format!("--port={}", pod.port));
        let flags: Vec<_> = ports.chain(flags.iter().map(|flag| (*flag).to_owned())).collect();
        let socket = self.path("millrace.sock");
        let log = self.path("host.log");
        let mut child = self
            .command(&socket, &flags)
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("the folder can be written"))
            .spawn()
            .expect("the program is built");

        let (said, words) = channel();
        let out = child.stdout.take().expect("it is piped");
        thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(out).read_line(&mut line);
            let _ = said.send(line);
        });
        let mut host = Host { bed: self, child, words: String::new(), socket, log };
        host.words = words.recv_timeout(PATIENCE).expect("the host says something");
        assert!(host.words.starts_with("forwarding between"), "the host does not start");
        host
    }

    /// `millrace run` that is not to become a host: how it ends.
    pub(crate) fn fails(&self, flags: &[&str]) -> String {
        let output = self.command(&self.path("millrace.sock"), flags).output();
        refusal(&output.expect("the program is built"), 1)
    }

    fn command<F: AsRef<std::ffi::OsStr>>(&self, socket: &Path, flags: &[F]) -> Command {
        let mut command = self.namespace.command(MILLRACE);
        command.arg("run").args(flags).env("MILLRACE_SOCKET", socket).env_remove("MILLRACE_LOG");
        command.arg("--module-cache").arg(module_cache());
        command
    }
}

impl Host<'_> {
    /// Asks; the answer for people.
    pub(crate) fn ask(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("the program is built");
        let (out, errors) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {errors}");
        assert_eq!(errors, "", "{arguments:?}");
        out
    }

    /// Asks; the answer for programs.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let answer = self.ask(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    /// Asks what is refused: why.
    pub(crate) fn refuses(&self, arguments: &[&str]) -> String {
        refusal(&self.command(arguments).output().expect("the program is built"), 1)
    }

    /// Asks again and again until the answer is right.
    pub(crate) fn until(&self, arguments: &[&str], is_right: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.json(arguments);
            if is_right(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{arguments:?} stays {answer:#}");
        }
    }

    /// A command that asks this host.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(MILLRACE);
        command.args(arguments).env("MILLRACE_SOCKET", &self.socket);
        command
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is not reaped yet");
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("it is a child of this process")
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("it is there since the start")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        // it may have ended already
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the log of the host in {}:\n{}", self.bed.namespace, self.log());
        }
    }
}

impl Pod {
    fn new(host: &Namespace, port: &str, n: usize) -> Self {
        let namespace = Namespace::create_unique("agent-pod").expect("needs root");
        let address = format!("10.77.0.{n}").parse().expect("an address");
        let pod = Self { namespace, address, port: port.to_owned() };
        pod.plug(host);
        pod
    }

    /// Makes the pod's interface, and the other end in the host's namespace.
    pub(crate) fn plug(&self, host: &Namespace) {
        let net = host.netlink().expect("netlink works");
        let veth = VethSpec::new(&self.port, "eth0").peer_namespace(&self.namespace);
        net.add_veth(&veth).expect("a veth can be made");
        let quiet = |namespace: &Namespace, link: &str| {
            // nobody speaks unless a test has it speak
            let key = format!("net.ipv6.conf.{link}.disable_ipv6");
            namespace.set_sysctl(&key, "1").expect("it is there");
        };
        quiet(host, &self.port);
        quiet(&self.namespace, "eth0");
        net.set_up(&self.port).expect("it comes up");

        let net = self.namespace.netlink().expect("netlink works");
        net.set_up("eth0").expect("it comes up");
        let address = format!("{}/24", self.address).parse().expect("a prefix");
        net.add_address("eth0", address).expect("it is free");
    }

    /// Whether one ping gets an answer.
    pub(crate) fn pings(&self, to: &Pod) -> bool {
        self.ping(to, 5)
    }

    /// Whether one ping gets no answer for a second.
    pub(crate) fn is_cut_off_from(&self, to: &Pod) -> bool {
        !self.ping(to, 1)
    }

    fn ping(&self, to: &Pod, seconds: u32) -> bool {
        let mut ping = self.namespace.command("ping");
        ping.args(["-n", "-c1", &format!("-W{seconds}"), &to.address.to_string()]);
        ping.output().expect("ping can be run").status.success()
    }

    /// A UDP socket; port 0 is any.
    pub(crate) fn udp(&self, port: u16) -> UdpSocket {
        let address = SocketAddr::new(self.address, port);
        let socket = self.namespace.run(|| UdpSocket::bind(address)).expect("it can be entered");
        let socket = socket.expect("the port is free");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        socket
    }
}

/// What a command that did not do its work says; it must say it in the right way.
pub(crate) fn refusal(output: &Output, code: i32) -> String {
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{errors}");
    assert_eq!(out, "");
    errors
}

/// A deny-list whose module differs from the built-in one, in a file.
pub(crate) fn another(filter: &str, folder: &Path) -> PathBuf {
    let mut module = millrace_builtin::find(filter).expect("it is built in").bytes.to_vec();
    // a custom section, which means nothing: id, size, size of the name, name
    module.extend([0, 3, 2, b'v', b'2']);
    let path = folder.join(format!("{filter}-2.wasm"));
    fs::write(&path, module).expect("the folder can be written");
    path
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it writes UTF-8")
}

/// Compiled filters of all tests. It has to belong to whoever runs them.
fn module_cache() -> PathBuf {
    let user = rustix::process::geteuid().as_raw();
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("modules-of-{user}"))
}

pub(crate) const MILLRACE: &str = env!("CARGO_BIN_EXE_millrace");

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
