//! What the agents of a lab read: the manifests of the whole lab, in one file.
//!
//! A reader must not break this: the file is replaced as a whole, so that agents, which watch it,
//! never read half of one.

use std::fs;
use std::path::Path;

use millrace_control::source::Manifests;
use millrace_control::{World, manifest};

use crate::{LabError, State};

/// Writes what there is, in place of what there was.
pub(crate) fn write(folder: &Path, world: &World) -> Result<(), LabError> {
    let folder = folder.join(MANIFESTS);
    // agents pass over names that begin with a dot
    let (path, next) = (folder.join(FILE), folder.join(".next"));
    fs::write(&next, manifest::write(world)).map_err(LabError::file(&next))?;
    fs::rename(&next, &path).map_err(LabError::file(path))
}

/// What there is.
pub(crate) fn read(folder: &Path) -> Result<World, LabError> {
    let folder = folder.join(MANIFESTS);
    let read = Manifests::open(&folder).and_then(|manifests| manifests.read());
    read.map(|(world, _)| world).map_err(LabError::file(folder))
}

/// The world with the addresses that the lab's pods have got.
pub(crate) fn with_addresses(world: &World, state: &State) -> World {
    let mut world = world.clone();
    for made in &state.pods {
        if let Some(pod) = world.pods.get_mut(&made.name) {
            pod.status.addresses.clone_from(&made.addresses);
        }
    }
    world
}

/// Where agents read what there is.
pub(crate) const MANIFESTS: &str = "manifests";
const FILE: &str = "lab.yaml";
