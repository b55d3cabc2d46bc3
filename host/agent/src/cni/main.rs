//! Walk `pod` 1/5: **cni** → plugin.
//!
//! The program that container runtimes call: the plugin that asks the node's agent, or, under the
//! name `loopback`, the one of that name. What it prints is for them; a person sees the same.
#![forbid(unsafe_code)]

mod loopback;

use std::env;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use millrace_cni::plugin::CarryOut;
use millrace_cni::{Code, Failure, Version, plugin};

fn main() -> ExitCode {
    let mut input = Vec::new();
    let outcome = match io::stdin().take(MOST_INPUT).read_to_end(&mut input) {
        Ok(_) => plugin::run(&|name| env::var_os(name), &input, called_as(env::args_os().next())),
        Err(error) => Err((Version::LATEST, Failure::new(Code::Io, "standard input", error))),
    };
    let (text, exit) = match outcome {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(result)) => (result, ExitCode::SUCCESS),
        Err((version, failure)) => (failure.to_json(version), ExitCode::FAILURE),
    };
    if let Err(error) = writeln!(io::stdout(), "{text:#}") {
        eprintln!("millrace-cni: standard output: {error}");
        return ExitCode::FAILURE;
    }
    exit
}

/// The plugin of the name that the program is called by.
fn called_as(program: Option<impl AsRef<OsStr>>) -> CarryOut {
    let name = program.as_ref().and_then(|program| Path::new(program).file_name());
    if name.is_some_and(|name| name == loopback::NAME) {
        loopback::carry_out
    } else {
        plugin::ask_agent
    }
}

/// Bytes of the longest configuration, previous result included.
const MOST_INPUT: u64 = 1 << 20;
