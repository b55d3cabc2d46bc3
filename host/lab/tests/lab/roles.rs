//! Programs that a lab needs, in this very file: the tests' own program, asked to run a single
//! "test" that is ignored otherwise. What comes behind its name are arguments.

use std::env;
use std::ffi::OsString;

use millrace_lab::{Lab, server};

use crate::{ground, plane};

/// The server in pods.
pub(crate) const SERVER: &str = "roles::server";
/// A plane that is an agent; see `plane`.
pub(crate) const AGENT: &str = "roles::agent";
/// Makes a lab, and waits to be killed.
pub(crate) const MAKER: &str = "roles::maker";

/// How a role is played.
pub(crate) fn command(role: &str) -> Vec<OsString> {
    let program = env::current_exe().unwrap().into_os_string();
    let flags = ["--ignored", "--nocapture", "--exact", role].map(OsString::from);
    [program].into_iter().chain(flags).collect()
}

/// The arguments of the role that this program plays.
fn arguments() -> impl Iterator<Item = String> {
    env::args().skip(5)
}

#[test]
#[ignore = "a program that labs start"]
fn server() {
    server::run(arguments()).unwrap();
}

#[test]
#[ignore = "a program that labs start"]
fn agent() {
    plane::run(arguments());
}

#[test]
#[ignore = "a program that tests start, and kill"]
fn maker() {
    let mut arguments = arguments();
    let mut settings = ground::settings("maker", <_>::default());
    settings.name = arguments.next().unwrap().parse().unwrap();
    let pods = ["p", "q", "r", "s"].map(|name| ground::pod(name, "a"));
    Lab::up(ground::with(ground::nodes(2), pods), &settings, None).unwrap();
    loop {
        std::thread::park();
    }
}
