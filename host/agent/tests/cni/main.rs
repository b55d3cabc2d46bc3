//! The CNI plugin, called as runtimes call it, with a node's agent behind it. Needs root; without
//! it the tests print a note and pass, except under `CI`.
//!
//! - `bed`: a node, containers, and calls of the plugin
//! - `attaching`: ADD and DEL, `choosing`: what runtimes choose of a container's place, `asking`: the other verbs, `failing`: what goes wrong
//! - `installing`: what has runtimes call it
//! - `departing`: containers that go while no agent is there; `vanishing`: without a word
//! - `refusing`: what the kernel refuses, and others change
//! - `succeeding`: an agent after another one that lives
//! - `joining`: a node that becomes part of a cluster, and others that do

mod asking;
mod attaching;
mod bed;
mod beginning;
mod choosing;
mod departing;
mod failing;
#[path = "../host/http.rs"]
mod http;
mod installing;
mod joining;
mod refusing;
mod succeeding;
mod vanishing;
