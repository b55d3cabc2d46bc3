//! Walk `pod` 1/5: **cni** → plugin.
//!
//! The program that container runtimes call. What it prints is for them; a person sees the same.

use std::env;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use millrace_cni::{Code, Failure, Version, plugin};

fn main() -> ExitCode {
    let mut input = Vec::new();
    let outcome = match io::stdin().take(MOST_INPUT).read_to_end(&mut input) {
        Ok(_) => plugin::run(&|name| env::var_os(name), &input),
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

/// Bytes of the longest configuration, previous result included.
const MOST_INPUT: u64 = 1 << 20;
