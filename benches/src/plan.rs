//! How much is measured.

use std::path::PathBuf;

use crate::statistics::FEWEST;
use crate::veth::ground::Named;
use crate::veth::script::Script;

/// What the operator wants of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// A first impression, all of it within some minutes.
    pub quick: bool,
    /// How often everything is measured; `None` for what each bench thinks right.
    pub runs: Option<usize>,
    /// Where compiled filters are kept between runs.
    pub cache: PathBuf,
    /// Interfaces to measure on, instead of veths.
    pub named: Option<Named>,
    /// Who else is measured.
    pub peers: Vec<Script>,
    /// An archive of millrace's image, for clusters.
    pub image: Option<PathBuf>,
}

impl Plan {
    /// How often to measure, where a bench would do it `usually` times, or `quickly`.
    pub fn runs(&self, usually: usize, quickly: usize) -> usize {
        self.runs.unwrap_or(if self.quick { quickly.max(FEWEST) } else { usually })
    }

    /// What sandboxes are made with.
    pub fn sandbox(&self) -> millrace_sandbox::Settings {
        millrace_sandbox::Settings { cache: Some(self.cache.clone()) }
    }

    /// `usually` of something, or `quickly` as much.
    pub fn much<T>(&self, usually: T, quickly: T) -> T {
        if self.quick { quickly } else { usually }
    }
}
