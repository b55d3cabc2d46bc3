//! The packet path on veth pairs in namespaces of its own. Needs root.

mod bandwidth;
mod bed;
mod cached;
mod faults;
mod forwarding;
mod fragments;
mod hostile;
mod inspected;
mod links;
mod model;
mod narrow;
mod offloads;
mod process;
mod raw;
mod redecide;
mod related;
mod segment;
mod station;
mod swaps;
mod translation;
