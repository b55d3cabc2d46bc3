//! A node, containers, and calls of the plugin.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use millrace_netns::{Namespace, NamespaceError, RouteTable, unique_name};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A node whose agent can be started.
pub(crate) struct Bed {
    pub(crate) node: Namespace,
    folder: TempDir,
    pins: PathBuf,
}

/// An agent that runs. It is killed when this is dropped.
pub(crate) struct Agent(Child);

/// A container's network namespace, which a runtime has made.
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) namespace: Namespace,
}

/// A call of the plugin, as a runtime makes it.
#[derive(Clone)]
pub(crate) struct Call {
    variables: Vec<(&'static str, String)>,
    configuration: String,
    program: PathBuf,
}

/// What became of a call.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) succeeded: bool,
    pub(crate) output: String,
}

impl Bed {
    /// A node. Without the privilege to make it there is none, and the test has nothing to run; in
    /// CI it fails.
    pub(crate) fn new() -> Option<Self> {
        let node = match Namespace::create_unique("agent-cni") {
            Ok(namespace) => namespace,
            Err(error @ NamespaceError::Denied { .. }) if std::env::var_os("CI").is_none() => {
                eprintln!("not run: {error}");
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let folder = TempDir::new().expect("a folder");
        for name in ["manifests", "net.d"] {
            fs::create_dir(folder.path().join(name)).expect("the folder can be written");
        }
        let pins = PathBuf::from(format!("/sys/fs/bpf/{}", unique_name("cni")));
        let bed = Self { node, folder, pins };
        bed.write("node.yaml", NODE);
        bed.write("pod.yaml", POD);
        Some(bed)
    }

    /// Writes a manifest, which the agent notices.
    pub(crate) fn write(&self, file: &str, text: &str) {
        let path = self.folder.path().join("manifests").join(file);
        fs::write(path, text).expect("the folder can be written");
    }

    pub(crate) fn remove(&self, file: &str) {
        let path = self.folder.path().join("manifests").join(file);
        fs::remove_file(path).expect("it is there");
    }

    /// Where runtimes look for the plugin.
    pub(crate) fn conflist(&self) -> PathBuf {
        self.folder.path().join("net.d/05-millrace.conflist")
    }

    /// Where the agent puts it.
    pub(crate) fn plugins(&self) -> PathBuf {
        self.folder.path().join("bin")
    }

    /// Where flows are kept.
    pub(crate) fn pins(&self) -> &Path {
        &self.pins
    }

    /// The destinations that the node's own stack reaches through the dataplane, but its own pods.
    pub(crate) fn routes(&self) -> Vec<String> {
        let routes = self.node.netlink().and_then(|net| net.routes(RouteTable::MAIN));
        let routes = routes.expect("the kernel says");
        let through = routes.iter().filter(|route| route.gateway.is_some());
        let mut destinations: Vec<_> = through.map(|it| it.destination.to_string()).collect();
        destinations.sort();
        destinations
    }

    /// Starts the agent, and waits until it can be asked.
    pub(crate) fn start(&self) -> Agent {
        self.start_as(&[])
    }

    /// The same, with more flags.
    pub(crate) fn start_as(&self, flags: &[&str]) -> Agent {
        let mut agent = self.agent(Path::new(env!("CARGO_BIN_EXE_millrace")));
        agent.args(flags);
        self.await_agent(agent)
    }

    fn await_agent(&self, mut agent: Command) -> Agent {
        let log = File::create(self.folder.path().join("agent.log")).expect("it can be written");
        let child = agent.stdout(Stdio::null()).stderr(log).spawn();
        let mut agent = Agent(child.expect("the program is built"));
        let status = self.call("STATUS", None);
        until(|| {
            let ended = agent.0.try_wait().expect("it can be asked for");
            assert!(ended.is_none(), "{}", self.log());
            UnixStream::connect(self.socket()).ok()?;
            status.make().succeeded.then_some(())
        });
        agent
    }

    /// Starts the agent with another source than the manifests, and waits until it can be asked.
    pub(crate) fn start_from(&self, flags: &[&str]) -> Agent {
        let mut agent = self.agent_of(Path::new(env!("CARGO_BIN_EXE_millrace")));
        agent.args(flags);
        self.await_agent(agent)
    }

    /// How a program is started as the node's agent.
    pub(crate) fn agent(&self, program: &Path) -> Command {
        let mut command = self.agent_of(program);
        command.arg("--manifests").arg(self.folder.path().join("manifests"));
        command
    }

    fn agent_of(&self, program: &Path) -> Command {
        let mut command = self.node.command(program);
        command.args(["node", "--name=here", "--workers=1"]).env_remove("MILLRACE_LOG");
        for (flag, path) in [
            ("--socket", self.socket()),
            ("--conflist", self.conflist()),
            ("--cni-bin-dir", self.plugins()),
            ("--pins", self.pins.clone()),
            ("--module-cache", Path::new(env!("CARGO_TARGET_TMPDIR")).join("modules")),
        ] {
            command.arg(flag).arg(path);
        }
        command
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("m.sock")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("agent.log")).unwrap_or_default()
    }

    /// A call, about a container or none.
    pub(crate) fn call(&self, verb: &str, container: Option<&Container>) -> Call {
        let mut variables = vec![("CNI_COMMAND", verb.to_owned())];
        if let Some(Container { id, namespace }) = container {
            let path = namespace.path().display().to_string();
            let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web".to_owned();
            variables.extend([
                ("CNI_CONTAINERID", id.clone()),
                ("CNI_NETNS", path),
                ("CNI_IFNAME", "eth0".to_owned()),
                ("CNI_ARGS", args),
                ("CNI_PATH", "/opt/cni/bin".to_owned()),
            ]);
        }
        let configuration = json!({
            "cniVersion": "1.1.0", "name": "millrace", "type": "millrace-cni",
            "socket": self.socket(),
        });
        let program = env!("CARGO_BIN_EXE_millrace-cni").into();
        Call { variables, configuration: configuration.to_string(), program }
    }

    pub(crate) fn add(&self, container: &Container) -> Value {
        self.call("ADD", Some(container)).done()
    }

    pub(crate) fn del(&self, container: &Container) {
        assert_eq!(self.call("DEL", Some(container)).make().silent(), Ok(()));
    }

    /// What leads to pods, by the names of links.
    pub(crate) fn ports(&self) -> Vec<String> {
        let links = self.node.netlink().and_then(|net| net.links()).expect("the kernel says");
        links.into_iter().map(|link| link.name).filter(|name| name.starts_with("mp")).collect()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.pins);
    }
}

impl Agent {
    /// Has it stand still, as one does that waits for what never comes.
    pub(crate) fn stop(&self) {
        kill_process(Pid::from_child(&self.0), Signal::STOP).expect("it runs");
    }

    /// Waits until it has ended, and says by which signal.
    pub(crate) fn ended_by(mut self) -> Option<i32> {
        until(|| self.0.try_wait().expect("it is a child")).signal()
    }

    /// Kills it, as a machine does that runs out of memory.
    pub(crate) fn kill(mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it was killed");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.0);
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = kill_process(pid, Signal::TERM);
            // a test may have stopped it
            let _ = kill_process(pid, Signal::CONT);
            let _ = self.0.wait();
        }
    }
}

impl Container {
    pub(crate) fn new() -> Self {
        let namespace = Namespace::create_unique("cni-pod").expect("the node could be made");
        Self { id: namespace.name().replace('_', "-"), namespace }
    }

    /// The addresses of its interface.
    pub(crate) fn addresses(&self, interface: &str) -> Vec<String> {
        let addresses = self.namespace.netlink().and_then(|net| net.addresses_of(interface));
        let addresses = addresses.expect("the interface is there");
        let global = addresses.iter().filter(|it| !it.to_string().starts_with("fe80"));
        global.map(ToString::to_string).collect()
    }
}

impl Call {
    /// With a variable that is different, or empty.
    pub(crate) fn with(mut self, variable: &'static str, value: &str) -> Self {
        self.variables.retain(|(name, _)| *name != variable);
        self.variables.push((variable, value.to_owned()));
        self
    }

    /// To a plugin that the agent has installed.
    pub(crate) fn to(mut self, plugin: PathBuf) -> Self {
        self.program = plugin;
        self
    }

    /// With another field in the configuration.
    pub(crate) fn configured(mut self, key: &str, value: Value) -> Self {
        let mut configuration: Value =
            serde_json::from_str(&self.configuration).expect("it is JSON");
        configuration[key] = value;
        self.configuration = configuration.to_string();
        self
    }

    /// With another configuration.
    pub(crate) fn saying(mut self, configuration: &str) -> Self {
        configuration.clone_into(&mut self.configuration);
        self
    }

    pub(crate) fn make(&self) -> Outcome {
        let variables = self.variables.iter().map(|(name, value)| (*name, value));
        let child = Command::new(&self.program)
            .env_clear()
            .envs(variables)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.expect("the program is built");
        let mut input = child.stdin.take().expect("it is piped");
        // who reads nothing may have ended
        let _ = input.write_all(self.configuration.as_bytes());
        drop(input);
        let output = child.wait_with_output().expect("it ends");
        let text = String::from_utf8(output.stdout).expect("it is text");
        Outcome { succeeded: output.status.success(), output: text }
    }

    /// What it prints, having succeeded.
    pub(crate) fn done(&self) -> Value {
        let outcome = self.make();
        assert!(outcome.succeeded, "{outcome:?}");
        serde_json::from_str(&outcome.output).expect("it is JSON")
    }

    /// How it is refused.
    pub(crate) fn refused(&self) -> Value {
        let outcome = self.make();
        assert!(!outcome.succeeded, "{outcome:?}");
        serde_json::from_str(&outcome.output).expect("it is JSON")
    }

    /// The code that it is refused with.
    pub(crate) fn code(&self) -> u64 {
        self.refused()["code"].as_u64().expect("it is a number")
    }
}

impl Outcome {
    /// Success without a word, or what was said.
    pub(crate) fn silent(self) -> Result<(), String> {
        if self.succeeded && self.output.is_empty() { Ok(()) } else { Err(self.output) }
    }
}

/// Asks until there is an answer.
pub(crate) fn until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "what is awaited does not come");
        std::thread::yield_now();
    }
}

pub(crate) const NODE: &str = "
apiVersion: v1
kind: Node
metadata: {name: here}
spec: {podCIDRs: [10.1.0.0/26, 'fd01::/64']}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
";
const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec: {nodeName: here, containers: [{name: web}]}
";
/// How long something may take that comes by itself: filters are compiled first.
const PATIENCE: Duration = Duration::from_secs(120);
