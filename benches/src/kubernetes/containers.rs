//! Containers that are attached and detached as a runtime has it done: each plugin of the node's list in
//! its turn, with what the one before has answered (the CNI specification, sections 3 and 4).
//!
//! The calls are made inside of a node, by this program as another process.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use millrace_netns::Netlink;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::cluster::Cluster;

/// What is done in a node.
#[derive(Debug, Args)]
pub struct Containers {
    /// How many containers.
    #[arg(long)]
    count: usize,
    /// All at once, and not one after the other.
    #[arg(long)]
    at_once: bool,
}

/// What came of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Calls {
    /// Milliseconds until a container was attached.
    pub attach: Vec<f64>,
    /// Milliseconds until it was detached.
    pub detach: Vec<f64>,
    /// What calls failed with.
    pub failed: Vec<String>,
    /// Links of the node that are there because of containers that are not.
    pub left: Vec<String>,
}

/// Attaches and detaches containers on a node of a cluster.
///
/// # Errors
/// If the node cannot be entered, or no call be made.
pub fn call(cluster: &Cluster, count: usize, at_once: bool) -> Result<Calls> {
    let program = std::env::current_exe().context("finding this program")?;
    let program = program.to_str().context("its path is no UTF-8")?;
    let count = format!("--count={count}");
    let mut arguments = vec![NODE, program, COMMAND, &count];
    arguments.extend(at_once.then_some("--at-once"));
    let answer = cluster.scripts().run("inside", &arguments)?;
    serde_json::from_str(&answer).with_context(|| format!("reading `{answer}`"))
}

/// Makes the calls, in the node that this process is in, and prints what came of them.
///
/// # Errors
/// If there is no list of plugins, or no namespace can be made.
pub fn make(options: &Containers) -> Result<()> {
    let list = List::of(Path::new(LISTS))?;
    let before = links()?;
    let containers = (0..options.count).map(Container::new).collect::<Result<Vec<_>>>()?;
    let mut calls = Calls::default();
    let attached = each(&containers, options.at_once, |container| list.attach(container));
    let mut there = Vec::new();
    for (container, outcome) in containers.iter().zip(attached) {
        match outcome {
            Ok((took, answer)) => {
                calls.attach.push(took);
                there.push((container, answer));
            }
            Err(error) => calls.failed.push(format!("{error:#}")),
        }
    }
    let detached =
        each(&there, options.at_once, |(container, answer)| list.detach(container, answer));
    for outcome in detached {
        match outcome {
            Ok(took) => calls.detach.push(took),
            Err(error) => calls.failed.push(format!("{error:#}")),
        }
    }
    drop(containers);
    calls.left = links()?.difference(&before).cloned().collect();
    println!("{}", serde_json::to_string(&calls)?);
    Ok(())
}

/// Does something with each of them, in its order or at once.
fn each<T: Sync, R: Send>(all: &[T], at_once: bool, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if !at_once {
        return all.iter().map(work).collect();
    }
    thread::scope(|scope| {
        let running: Vec<_> = all.iter().map(|one| scope.spawn(|| work(one))).collect();
        let joined = running.into_iter().map(|thread| thread.join());
        joined
            .map(|outcome| outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// The names of this node's links.
fn links() -> Result<BTreeSet<String>> {
    Ok(Netlink::host()?.links()?.into_iter().map(|link| link.name).collect())
}

/// A container, as far as plugins see it: its name, and a network namespace.
struct Container {
    name: String,
    namespace: PathBuf,
}

impl Container {
    fn new(number: usize) -> Result<Self> {
        let name = format!("bench-{}-{number}", std::process::id());
        let namespace = Path::new(NAMESPACES).join(&name);
        fs::File::create_new(&namespace)
            .with_context(|| format!("making {}", namespace.display()))?;
        let this = Self { name, namespace };
        // as runtimes do it: the folder stays the mount that agents see
        let mut option = std::ffi::OsString::from("--net=");
        option.push(&this.namespace);
        let status = Command::new("unshare").arg(option).arg("true").status()?;
        ensure!(status.success(), "no namespace can be made at {}", this.namespace.display());
        Ok(this)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // one that stays ends with its node
        let _ = Command::new("umount").arg(&self.namespace).status();
        let _ = fs::remove_file(&self.namespace);
    }
}

/// The plugins of a node, in the order in which they attach.
struct List {
    name: String,
    version: String,
    plugins: Vec<Map<String, Value>>,
}

impl List {
    /// The first one of a folder, which runtimes take.
    fn of(folder: &Path) -> Result<Self> {
        let entries = fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
        let paths: BTreeSet<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        let path = paths.into_iter().find(|path| path.extension() == Some("conflist".as_ref()));
        let path =
            path.with_context(|| format!("no list of plugins is in {}", folder.display()))?;
        let list: Value = serde_json::from_slice(&fs::read(&path)?)?;
        let text = |key: &str| list[key].as_str().map(str::to_owned);
        let plugins = list["plugins"].as_array().into_iter().flatten();
        let plugins = plugins.map(|plugin| plugin.as_object().cloned()).collect::<Option<_>>();
        let read =
            || Some(Self { name: text("name")?, version: text("cniVersion")?, plugins: plugins? });
        read().with_context(|| format!("{} is no list of plugins", path.display()))
    }

    /// Milliseconds that it took, and what the last plugin answered.
    fn attach(&self, container: &Container) -> Result<(f64, Value)> {
        let (start, mut answer) = (Instant::now(), None);
        for plugin in &self.plugins {
            let said = self.call(plugin, "ADD", container, answer.as_ref())?;
            answer = Some(serde_json::from_slice(&said).context("reading a plugin's answer")?);
        }
        Ok((millis(start), answer.context("the list has a plugin")?))
    }

    /// Milliseconds that it took.
    fn detach(&self, container: &Container, answer: &Value) -> Result<f64> {
        let start = Instant::now();
        for plugin in self.plugins.iter().rev() {
            self.call(plugin, "DEL", container, Some(answer))?;
        }
        Ok(millis(start))
    }

    fn call(
        &self,
        plugin: &Map<String, Value>,
        verb: &str,
        container: &Container,
        before: Option<&Value>,
    ) -> Result<Vec<u8>> {
        let kind = plugin.get("type").and_then(Value::as_str).context("a plugin has a type")?;
        let mut network = plugin.clone();
        network.insert("name".to_owned(), self.name.clone().into());
        network.insert("cniVersion".to_owned(), self.version.clone().into());
        if let Some(before) = before {
            network.insert("prevResult".to_owned(), before.clone());
        }
        let mut child = Command::new(Path::new(PLUGINS).join(kind))
            .envs([("CNI_COMMAND", verb), ("CNI_CONTAINERID", &container.name)])
            .envs([("CNI_IFNAME", "eth0"), ("CNI_PATH", PLUGINS)])
            .env("CNI_NETNS", &container.namespace)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {kind}"))?;
        let mut input = child.stdin.take().context("its input is a pipe")?;
        input.write_all(Value::Object(network).to_string().as_bytes())?;
        drop(input);
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("{kind} {verb}: {}", String::from_utf8_lossy(&output.stdout).trim());
        }
        Ok(output.stdout)
    }
}

fn millis(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// What this program is told to do it.
const COMMAND: &str = "containers";
const NODE: &str = "east";
const LISTS: &str = "/etc/cni/net.d";
const PLUGINS: &str = "/opt/cni/bin";
const NAMESPACES: &str = "/run/netns";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_list_of_a_folder_is_taken_and_what_is_no_list_is_named() {
        let folder = tempfile::tempdir().expect("there is room");
        let put = |name: &str, text: &str| {
            fs::write(folder.path().join(name), text).expect("there is room");
        };
        assert!(List::of(folder.path()).is_err(), "there is none");
        put("00-other.conf", "{}");
        put("10-b.conflist", r#"{"name": "b", "cniVersion": "1.0.0", "plugins": []}"#);
        put("05-a.conflist", r#"{"name": "a", "cniVersion": "0.4.0", "plugins": [{"type": "x"}]}"#);
        let list = List::of(folder.path()).expect("there are two");
        assert_eq!((&*list.name, &*list.version, list.plugins.len()), ("a", "0.4.0", 1));
        put("05-a.conflist", r#"{"name": "a", "plugins": ["x"]}"#);
        let error = List::of(folder.path()).err().expect("it is no list").to_string();
        assert!(error.contains("05-a.conflist"), "{error}");
    }
}
