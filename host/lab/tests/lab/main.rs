//! Labs in real namespaces: what is up, who reaches whom, and that nothing is left. Needs root;
//! without it the tests print a note and pass, unless `CI` is set: then they fail.
#![expect(clippy::unwrap_used, reason = "an unwrap in a test's helper is the test failing")]

mod ground;
mod life;
mod network;
mod plane;
mod roles;
