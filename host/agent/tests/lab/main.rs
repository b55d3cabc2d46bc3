//! `millrace lab` with this program as the nodes' agent: labs that are made, used and taken down.
//! Needs root; without it the tests print a note and pass, except under `CI`.
//!
//! - `bed`: a lab for a test; `talk`: what is said to the servers in its pods
//! - `network`: who reaches whom; `uplinks`: by which interface of their node; `carried`: what the kernel does of that
//! - `commands`, `watching`: what people ask of a lab, and of what passes in it; `settling`: when they
//!   have been answered
//! - `restart`: agents that come and go, `affinity`: what filters know then
//! - `services`: addresses that backends share, `outside`: as who is not in the cluster reaches them,
//!   `own_node`: as a node does by addresses of its own, `asked`: what load balancers want to know,
//!   `names`: by a DNS server
//! - `policies`: who is kept from whom, `domains`: and let through by name; `chains`: filters of one's own,
//!   `images`: out of a registry

mod affinity;
mod asked;
mod bed;
mod carried;
mod chains;
mod commands;
mod domains;
mod gateways;
mod images;
mod least;
mod names;
mod network;
mod outside;
mod own_node;
mod policies;
mod restart;
mod services;
mod settling;
mod talk;
mod uplinks;
mod watching;
