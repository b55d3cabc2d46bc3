//! What `millrace run` is told: one struct, by flags, by a YAML file, or both.
//!
//! - [`Config`]: every key; its documentation is the help text too
//! - [`FilterSpec`]: a filter, and where its module and configuration are
//! - `settings`: from keys that may be absent to the dataplane's settings
//!
//! Here stands what was written, nothing more: defaults belong to `settings`, and nothing
//! is opened or started.

mod filter;
mod settings;

pub(crate) use filter::{ConfigSource, FilterSpec, ModuleSource, read_at_most};
pub(crate) use settings::{DEFAULT_SOCKET, StartPlan};

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::api::types::PortSpec;
use crate::text::Span;

/// The configuration of a host. Every key is a flag of `millrace run` and a key of its file, where
/// `noCache` is what `--no-cache` is here; lists that flags give replace those of the file.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Config {
    /// An interface to forward between (repeat it for each); more can be added later.
    ///
    /// `kind` says what it leads to, for filters that care: wire (the default), pod, host, uplink
    /// or remote. `vlans` says which VLANs it carries: `transparent` (the default) passes every
    /// tag as it is, `access:10` puts untagged frames into VLAN 10, `trunk:10+20-29+native:1`
    /// carries those with tags, and VLAN 1 without. The kernel's stack no longer sees what comes
    /// in by the interface. In a file: a list of mappings with `name`, `kind` and `vlans`.
    #[arg(long = "port", value_name = "NAME[,kind=KIND][,vlans=VLANS]")]
    pub(crate) ports: Vec<PortSpec>,

    /// A filter of the chain (repeat it, in the order in which they are asked).
    ///
    /// MODULE is the name of a built-in filter, or the path of a module, which has a `/` in it or
    /// ends in `.wasm`; NAME is what the stage is called, the module's name unless said. CONFIG
    /// is JSON, or the path of a JSON file. Without a filter that says where packets go, such as
    /// `bridge`, all are dropped. In a file: a list of mappings with `name`, `module`, `config`
    /// and `terms`: `ports`, `kinds`, `onFault`, `onRefused`, `mode`, `capabilities`, `memory`, `deadline`, as
    /// `millrace filter load --help` explains them.
    #[arg(long = "filter", value_name = "[NAME=]MODULE[:CONFIG]")]
    pub(crate) filters: Vec<FilterSpec>,

    /// Workers, 1 to 64; 1 by default. Every interface needs as many receive queues.
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<usize>,

    /// The cores that workers are pinned to, one for each; the last ones that this process may use
    /// by default. A core that others use too makes for pauses.
    #[arg(long, value_name = "CORES", value_delimiter = ',')]
    pub(crate) cores: Option<Vec<usize>>,

    /// Packets handled together, 1 to 256; 64 by default. More gain throughput and lose latency.
    #[arg(long, value_name = "N")]
    pub(crate) burst: Option<usize>,

    /// Flows that each worker remembers the chain's decision for; 65536 by default. With more
    /// flows than that, the chain is asked again about the oldest.
    #[arg(long, value_name = "N")]
    pub(crate) flows: Option<usize>,

    /// Ask the chain about every packet, and remember nothing. To measure or debug filters.
    #[arg(long)]
    pub(crate) no_cache: bool,

    /// How long an idle worker looks for packets before it sleeps; 50us by default. 0us saves
    /// power, a second keeps a core busy and saves some microseconds of latency.
    #[arg(long, value_name = "TIME")]
    pub(crate) spin: Option<Span>,

    /// Where the XDP program runs: in the driver (native), behind it (generic), or wherever it can
    /// (auto, the default). Generic copies once more, and works with any interface.
    #[arg(long, value_name = "MODE")]
    pub(crate) attach: Option<Attach>,

    /// Have drivers share packets without copying. All ports must be able to, also those that are
    /// added later, and the first one must stay. Off by default.
    #[arg(long)]
    pub(crate) zero_copy: bool,

    /// Packet buffers of each worker, 4 KiB each; 8192 by default. Half of them wait for packets
    /// to come in.
    #[arg(long, value_name = "N")]
    pub(crate) frames: Option<u32>,

    /// Entries of each ring of a socket, a power of two; 2048 by default.
    #[arg(long, value_name = "N")]
    pub(crate) ring: Option<u32>,

    /// Serve Prometheus metrics at http://ADDR/metrics, /healthz, and /readyz; nowhere by default.
    /// Anybody who can reach the address can read them.
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics: Option<SocketAddr>,

    /// The admin socket; /run/millrace/millrace.sock by default. Its owner alone may use it, and a
    /// folder that is made for it is closed to others.
    #[arg(long, value_name = "PATH", env = "MILLRACE_SOCKET")]
    pub(crate) socket: Option<PathBuf>,

    /// Keep compiled filters in this folder, so that they start in milliseconds; nowhere by
    /// default. It must belong to this user, and nobody else may write to it.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) module_cache: Option<PathBuf>,

    /// What is logged, to standard error: error, warn, info (the default), debug or trace, or
    /// for parts of it, as in `warn,millrace_sandbox=debug`.
    #[arg(long, value_name = "FILTER", env = "MILLRACE_LOG")]
    pub(crate) log: Option<String>,

    /// How it is logged: `text` (the default) or `json`.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
}

/// Where the XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Attach {
    /// In the driver if that can, else behind it.
    Auto,
    /// In the driver.
    Native,
    /// Behind the driver.
    Generic,
}

/// How lines of the log look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object each.
    Json,
}

impl Config {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let read = || {
            let mut config = Self::parse(&fs::read_to_string(path)?)?;
            let folder = path.parent().unwrap_or(Path::new(""));
            config.filters.iter_mut().for_each(|filter| filter.anchor(folder));
            anyhow::Ok(config)
        };
        read().with_context(|| format!("configuration file {}", path.display()))
    }

    /// These keys, and those of `file` where these do not say anything.
    pub(crate) fn over(self, file: Self) -> Self {
        fn list<T>(flags: Vec<T>, file: Vec<T>) -> Vec<T> {
            if flags.is_empty() { file } else { flags }
        }
        Self {
            ports: list(self.ports, file.ports),
            filters: list(self.filters, file.filters),
            workers: self.workers.or(file.workers),
            cores: self.cores.or(file.cores),
            burst: self.burst.or(file.burst),
            flows: self.flows.or(file.flows),
            no_cache: self.no_cache || file.no_cache,
            spin: self.spin.or(file.spin),
            attach: self.attach.or(file.attach),
            zero_copy: self.zero_copy || file.zero_copy,
            frames: self.frames.or(file.frames),
            ring: self.ring.or(file.ring),
            metrics: self.metrics.or(file.metrics),
            socket: self.socket.or(file.socket),
            module_cache: self.module_cache.or(file.module_cache),
            log: self.log.or(file.log),
            log_format: self.log_format.or(file.log_format),
        }
    }

    fn parse(yaml: &str) -> anyhow::Result<Self> {
        // an empty file says nothing, which is fine
        let config: Option<Self> = serde_norway::from_str(yaml)?;
        Ok(config.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
