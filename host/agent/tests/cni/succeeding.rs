//! An agent after another one that lives.

use std::net::{Ipv4Addr, SocketAddr};

use crate::bed::{Bed, Container};
use crate::http;

#[test]
fn an_agent_that_hangs_is_killed_by_the_next_one_which_has_its_pods() {
    let Some(bed) = Bed::new() else { return };
    let before = bed.start();
    let container = Container::new();
    bed.add(&container);
    before.stop();

    let _next = bed.start_as(&["--take-over"]);
    assert_eq!(before.ended_by(), Some(9), "{}", bed.log());
    assert!(bed.log().contains("did not answer, and is killed"), "{}", bed.log());
    assert_eq!(bed.ports().len(), 1);
    bed.del(&container);
    assert_eq!(bed.ports(), [""; 0]);
}

#[test]
fn an_agent_that_leaves_is_well_but_not_ready_until_it_stays_after_all() {
    let Some(bed) = Bed::new() else { return };
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 9310));
    let _agent = bed.start_as(&[&format!("--metrics={at}")]);
    let read = |path| http::read(&bed.node, at, path);
    let told = |word| {
        let (status, _) = http::ask(&bed.socket(), "POST", &format!("/v1/succession/{word}"), "");
        assert_eq!(status, 200, "{word}");
    };
    assert_eq!(read("/readyz").0, 200);
    told("leave");
    let (status, words) = read("/readyz");
    assert_eq!(status, 503);
    assert!(words.starts_with("another host takes over; process "), "{words}");
    assert_eq!(read("/healthz").0, 200);
    told("stay");
    assert_eq!(read("/readyz").0, 200);
}
