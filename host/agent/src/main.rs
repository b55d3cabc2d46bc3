//! The `millrace` program.
//!
//! - [`cli`]: the commands
//! - [`run`], with [`config`]: a host; [`node`]: one whose ports are pods;
//!   [`lab`]: nodes out of namespaces
//! - [`api`]: the admin socket, both ends; [`metrics`]: what Prometheus reads
//! - [`workbench`]: what the author of a filter works with; [`demo`]: what there is to see;
//!   [`child`]: the host that they start
//! - [`check`]: tries out a cluster's network; [`cluster`]: asks all of its agents
//! - [`show`], [`trace`], [`capture`], [`port`], [`filter`]: what asks a host; [`output`], [`text`]: how things are written,
//!   [`replace`]: how files are; [`registry`]: how registries of images are asked
#![forbid(unsafe_code)]

mod api;
mod capture;
mod check;
mod child;
mod cli;
mod cluster;
mod config;
mod demo;
mod filter;
mod lab;
mod metrics;
mod node;
mod output;
mod policy;
mod port;
mod redecide;
mod registry;
mod replace;
mod run;
mod show;
mod text;
mod trace;
mod workbench;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("millrace: {error:#}");
            ExitCode::FAILURE
        }
    }
}
