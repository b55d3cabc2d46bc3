//! What is behind the flow cache, once more: without any feature of the kernel that may be missing.

#![allow(dead_code, reason = "the bed is for tests of all else, too")]

#[path = "../netns/bed.rs"]
mod bed;
#[path = "../netns/cached.rs"]
mod cached;
#[path = "../netns/faults.rs"]
mod faults;
#[path = "../netns/fragments.rs"]
mod fragments;
#[path = "../netns/hostile.rs"]
mod hostile;
#[path = "../netns/inspected.rs"]
mod inspected;
#[path = "../netns/model/mod.rs"]
mod model;
#[path = "../netns/narrow.rs"]
mod narrow;
#[path = "../netns/raw.rs"]
mod raw;
#[path = "../netns/redecide.rs"]
mod redecide;
#[path = "../netns/related.rs"]
mod related;
#[path = "../netns/translation.rs"]
mod translation;
