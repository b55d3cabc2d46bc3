//! The log of a host, on standard error.

use std::io::{self, IsTerminal};

use anyhow::Context;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogFormat;

/// Starts to log what `filter` lets through; `info` if there is none.
pub(crate) fn start(filter: Option<&str>, format: LogFormat) -> anyhow::Result<()> {
    let text = filter.unwrap_or(USUAL);
    let filter: EnvFilter = text.parse().with_context(|| {
        format!("`--log {text}`: a level such as `debug`, or levels of parts of the host")
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    match format {
        LogFormat::Text => log.finish().try_init(),
        LogFormat::Json => log.json().finish().try_init(),
    }
    .context("the log")
}

/// Whoever follows the API server says that it is away, once; its client says so with each try.
const USUAL: &str = "info,kube_client=off";
