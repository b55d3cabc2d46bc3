//! What a host lets see: commands that ask and print, and change nothing.
//!
//! - [`status`], [`ports`], [`flows`], [`services`], [`service`], [`policies`], [`stats`], [`drops`]:
//!   printed once, or again and again
//! - [`top`]: live, with rates; [`sysdump`]: all of it, for somebody else

pub(crate) mod drops;
pub(crate) mod flows;
pub(crate) mod policies;
pub(crate) mod ports;
pub(crate) mod service;
pub(crate) mod services;
pub(crate) mod stats;
pub(crate) mod status;
pub(crate) mod sysdump;
pub(crate) mod top;

use crate::api::types::StageStatus;

/// The stages of a chain in a row.
pub(crate) fn chain(stages: &[StageStatus]) -> String {
    let names: Vec<_> = stages.iter().map(|stage| &*stage.name).collect();
    names.join(" ▸ ")
}
