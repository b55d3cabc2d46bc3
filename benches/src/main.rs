//! `millrace-bench`: measures millrace. See `millrace-bench --help`.

use std::process::ExitCode;

use clap::Parser;
use millrace_bench::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().execute() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("millrace-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
