//! Runs `clang` for a filter in C.

use std::env;
use std::path::Path;
use std::process::Command;

use crate::build::BuildError;

/// Compiles `source` to the module `output`; `header_folder` has `millrace.h`.
///
/// # Errors
/// If clang (or what `CLANG` names) or its linker `wasm-ld` is missing, or the source does not
/// compile.
pub fn compile_c(source: &Path, header_folder: &Path, output: &Path) -> Result<(), BuildError> {
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let outcome = Command::new(&clang)
        .args(["--target=wasm32", "-O2", "-std=c11", "-Wall", "-Wextra", "-Werror"])
        .args(["-ffreestanding", "-nostdlib", "-mbulk-memory"])
        // a module without `main`, whose stack overflows into a trap rather than into data
        .args(["-Wl,--no-entry", "-Wl,--stack-first", "-Wl,-z,stack-size=65536"])
        .arg("-I")
        .arg(header_folder)
        .arg("-o")
        .args([output, source])
        .output()
        .map_err(|cause| BuildError::Run { program: clang, cause })?;
    match outcome.status.success() {
        true => Ok(()),
        false => Err(BuildError::Compile {
            what: source.display().to_string(),
            output: format!(":\n{}", String::from_utf8_lossy(&outcome.stderr)),
        }),
    }
}
