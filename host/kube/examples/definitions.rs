//! Writes the definitions of our own kinds into a folder: `definitions deploy/crds`.

use std::path::PathBuf;
use std::{env, fs, io};

use millrace_control::manifest::Kind;
use millrace_kube::definition::{file, plural};

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| io::Error::other("usage: definitions FOLDER"))?;
    for (kind, text) in Kind::ALL.into_iter().filter_map(|kind| Some((kind, file(kind)?))) {
        fs::write(folder.join(plural(kind)).with_extension("yaml"), text)?;
    }
    Ok(())
}
