//! Writes what mutation begins with to a folder: `seeds TARGET FOLDER`.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use millrace_fuzz::TARGETS;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [name, folder] = arguments.as_slice() else {
        eprintln!("usage: seeds TARGET FOLDER");
        return ExitCode::FAILURE;
    };
    let Some(target) = TARGETS.iter().find(|target| target.name == name) else {
        eprintln!("there is no target `{name}`: see `TARGETS` in tests/fuzz/src/lib.rs");
        return ExitCode::FAILURE;
    };
    for (number, seed) in (target.seeds)().iter().enumerate() {
        let file = Path::new(folder).join(format!("seed-{number:02}"));
        if let Err(error) = fs::write(&file, seed) {
            eprintln!("cannot write {}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
