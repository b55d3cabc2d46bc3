//! Modules in images that registries serve.
//!
//! Owns when registries are asked: at once for an image that is new here, and again after pauses while
//! one is not to be had. That is done by threads of their own, and nobody waits for them. An image that
//! was had is kept in a folder, by the digests of what it consists of, for agents that come after this.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use millrace_abi::limits;
use millrace_control::filter::ModuleBytes;
use millrace_control::image::{ManifestDigest, PinnedImage};
use millrace_registry::{Pulled, Registries, manifest};

use crate::config::read_at_most;
use crate::replace::replace;

/// The images of a node's filters.
#[derive(Debug)]
pub(super) struct Images {
    registries: Registries,
    folder: PathBuf,
    images: BTreeMap<PinnedImage, Image>,
    answers: Receiver<Answer>,
    /// For those who ask registries.
    answer: Sender<Answer>,
}

/// What has become of an image, and when that is looked at next.
#[derive(Debug)]
enum Image {
    /// It is here.
    Here(ModuleBytes),
    /// A registry is asked.
    Asked { failures: u32, problem: Option<String> },
    /// It will be.
    Due { at: Instant, failures: u32, problem: String },
}

type Answer = (PinnedImage, Result<Pulled, String>);

impl Images {
    /// None yet; those that are had are kept in a folder.
    pub(super) fn new(registries: Registries, folder: PathBuf) -> Self {
        let (answer, answers) = channel();
        Self { registries, folder, images: BTreeMap::new(), answers, answer }
    }

    /// These are wanted, and no others.
    pub(super) fn keep(&mut self, wanted: BTreeSet<&PinnedImage>) {
        self.images.retain(|image, _| wanted.contains(image));
        for image in wanted {
            if self.images.contains_key(image) {
                continue;
            }
            let state = match self.kept(image.digest) {
                Some(module) => Image::Here(module),
                None => {
                    tracing::info!(%image, "asking its registry");
                    self.ask(image, 0, None)
                }
            };
            self.images.insert(image.clone(), state);
        }
        self.clear_others();
    }

    /// Takes what registries have answered, and asks those again whose turn it is; whether there is
    /// something new.
    pub(super) fn look(&mut self) -> bool {
        let mut is_new = false;
        while let Ok((image, answer)) = self.answers.try_recv() {
            // it may be wanted no more
            let Some(Image::Asked { failures, .. }) = self.images.get(&image) else { continue };
            let failures = *failures;
            let state = match answer {
                Ok(pulled) => {
                    tracing::info!(%image, module = %pulled.module.digest(), "its registry has given it");
                    if let Err(error) = self.write(image.digest, &pulled) {
                        tracing::warn!(%image, %error, "the next agent has to ask its registry again");
                    }
                    Image::Here(pulled.module)
                }
                Err(problem) => {
                    let pause = pause(failures);
                    let at = Instant::now() + pause;
                    let problem = format!("{problem}; asked again {} s later", pause.as_secs());
                    Image::Due { at, failures: failures.saturating_add(1), problem }
                }
            };
            self.images.insert(image, state);
            is_new = true;
        }
        let now = Instant::now();
        let due = self.images.iter().filter_map(|(image, state)| match state {
            Image::Due { at, failures, problem } if *at <= now => {
                Some((image.clone(), *failures, problem.clone()))
            }
            _ => None,
        });
        let due: Vec<_> = due.collect();
        for (image, failures, problem) in due {
            let state = self.ask(&image, failures, Some(problem));
            self.images.insert(image, state);
        }
        is_new
    }

    /// The module of one that is wanted; or why it is not here.
    pub(super) fn find(&self, image: &PinnedImage) -> Result<ModuleBytes, String> {
        match &self.images[image] {
            Image::Here(module) => Ok(module.clone()),
            Image::Asked { problem: None, .. } => Err(format!("{image} is being fetched")),
            Image::Asked { problem: Some(problem), .. } | Image::Due { problem, .. } => {
                Err(format!("{image}: {problem}"))
            }
        }
    }

    /// Whether a registry is asked for it for the first time.
    pub(super) fn is_fetching(&self, image: &PinnedImage) -> bool {
        matches!(self.images.get(image), Some(Image::Asked { problem: None, .. }))
    }

    /// Has a thread ask for an image.
    fn ask(&self, image: &PinnedImage, failures: u32, problem: Option<String>) -> Image {
        let (registries, answer) = (self.registries.clone(), self.answer.clone());
        let asked = image.clone();
        let thread = thread::Builder::new().name("millrace-image".to_owned()).spawn(move || {
            let pulled = registries.pull(&asked).map_err(|error| error.to_string());
            // who has ended wants no answer
            let _ = answer.send((asked, pulled));
        });
        match thread {
            Ok(_) => Image::Asked { failures, problem },
            Err(error) => {
                let problem = format!("there is no thread to ask its registry: {error}");
                Image::Due { at: Instant::now() + pause(failures), failures: failures + 1, problem }
            }
        }
    }

    /// The module of an image that was kept; nothing counts that has not the digest which names it.
    fn kept(&self, digest: ManifestDigest) -> Option<ModuleBytes> {
        let manifest = self.folder.join(manifest_file(digest));
        let manifest = fs::read(manifest).ok().filter(|it| ManifestDigest::of(it) == digest)?;
        let layer = manifest::module(&manifest).ok()?;
        let module = self.folder.join(layer.digest.to_string());
        let module = ModuleBytes::from(read_at_most(&module, limits::MAX_MODULE).ok()?);
        (module.digest() == layer.digest).then_some(module)
    }

    fn write(&self, digest: ManifestDigest, pulled: &Pulled) -> io::Result<()> {
        let Pulled { manifest, module } = pulled;
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        replace(&self.folder.join(module.digest().to_string()), module.bytes(), 0o600)?;
        replace(&self.folder.join(manifest_file(digest)), manifest, 0o600)
    }

    /// Removes what was kept of images that are not wanted any more.
    fn clear_others(&self) {
        let Ok(files) = fs::read_dir(&self.folder) else { return };
        let mut wanted = BTreeSet::new();
        for (image, state) in &self.images {
            wanted.insert(manifest_file(image.digest));
            if let Image::Here(module) = state {
                wanted.insert(module.digest().to_string());
            }
        }
        for file in files.flatten() {
            let is_wanted = file.file_name().to_str().is_some_and(|name| wanted.contains(name));
            if !is_wanted && let Err(error) = fs::remove_file(file.path()) {
                tracing::warn!(file = %file.path().display(), %error, "it is still kept");
            }
        }
    }
}

fn manifest_file(digest: ManifestDigest) -> String {
    format!("{digest}.json")
}

/// How long a registry is left alone that has failed so many times before.
fn pause(failures: u32) -> Duration {
    SHORTEST.saturating_mul(GROWTH.saturating_pow(failures)).min(LONGEST)
}

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
const GROWTH: u32 = 2;
