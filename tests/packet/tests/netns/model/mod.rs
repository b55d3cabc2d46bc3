//! Datagrams, changes and agents that come and go, in any order: what arrives where, and whom it is
//! from, is what a list of connections says that knows nothing of queues, caches and processes.
//!
//! - `plain`: that list; `node`: pods behind a dataplane whose state outlives it
//!
//! One thing is done at a time, and has had its effect before the next. What is not to arrive is
//! behind the worker when a datagram that was sent after it, of a connection of its own, arrives.

mod node;
mod plain;

use std::net::SocketAddr;

use proptest::prelude::*;

use node::Node;
use plain::{Delivery, Plain, Socket};

/// Something that is done to a node.
#[derive(Clone, Debug)]
enum Step {
    /// A client sends to a server, by one of its names.
    Ask { client: usize, port: u16, family: usize, by: Name },
    /// A server answers whom it heard of so many datagrams ago, whether that is still known or not.
    Answer { ago: usize },
    /// What virtual addresses stand for.
    Point { server: usize },
    /// Which client may not open connections, if any.
    Deny { client: Option<usize> },
    /// A stage gets its module again.
    Swap { stage: &'static str },
    /// A pod's port is taken away; the one that was before is there again.
    Move { pod: usize },
    /// The dataplane ends, and another one comes.
    Restart,
    /// Another dataplane takes over.
    Upgrade,
}

/// By what a client calls a server.
#[derive(Clone, Copy, Debug)]
enum Name {
    /// A virtual address behind which the server sees the client.
    Virtual,
    /// One behind which it sees the gateway.
    Masqueraded,
    /// Its own address.
    Own(usize),
}

impl Name {
    fn address(self, family: usize) -> SocketAddr {
        match self {
            Self::Virtual => SocketAddr::new(node::virtual_address(1)[family], node::ASKED),
            Self::Masqueraded => SocketAddr::new(node::virtual_address(2)[family], node::ASKED),
            Self::Own(server) => Socket::server(server, family).address,
        }
    }
}

fn steps() -> impl Strategy<Value = Step> {
    let by = prop_oneof![
        3 => Just(Name::Virtual),
        3 => Just(Name::Masqueraded),
        1 => node::SERVERS.prop_map(Name::Own),
    ];
    let ask = (node::CLIENTS, 0..2u16, 0..2usize, by);
    prop_oneof![
        24 => ask.prop_map(|(client, port, family, by)| Step::Ask { client, port, family, by }),
        16 => (0..6usize).prop_map(|ago| Step::Answer { ago }),
        2 => node::SERVERS.prop_map(|server| Step::Point { server }),
        2 => prop::option::of(node::CLIENTS).prop_map(|client| Step::Deny { client }),
        2 => prop::sample::select(node::STAGES.to_vec()).prop_map(|stage| Step::Swap { stage }),
        2 => (0..node::PODS).prop_map(|pod| Step::Move { pod }),
        1 => Just(Step::Restart),
        1 => Just(Step::Upgrade),
    ]
}

/// Sends a datagram, and sees to it that it arrives where the list has it, and nowhere else.
fn send(node: &Node, plain: &mut Plain, from: Socket, to: SocketAddr) {
    if !plain.is_there(from.pod) {
        return;
    }
    let sent = node.send(from, to);
    match plain.send(from, to) {
        Delivery::Nowhere => {
            node.await_behind(from.pod, plain);
            assert_eq!(node.strays(), [], "{from:?} to {to}: it was to go nowhere");
        }
        Delivery::Known { at, source } => {
            assert_eq!(node.receive(at), (sent, source), "{from:?} to {to}, which is known");
        }
        Delivery::Opens { at } => {
            let (received, source) = node.receive(at);
            assert_eq!(received, sent, "{from:?} to {to}, which is new");
            plain.opened(from, to, at, source);
        }
    }
}

fn run(steps: &[Step]) {
    let (mut node, mut plain) = (Node::new(), Plain::new());
    // whom a server heard: the server, and the source
    let mut heard: Vec<(Socket, SocketAddr)> = Vec::new();
    for step in steps {
        match *step {
            Step::Ask { client, port, family, by } => {
                let from = Socket::client(client, port, family);
                send(&node, &mut plain, from, by.address(family));
                heard.extend(plain.last_heard());
            }
            Step::Answer { ago } => {
                if let Some(&(server, source)) = heard.iter().rev().nth(ago) {
                    send(&node, &mut plain, server, source);
                }
            }
            Step::Point { server } => {
                plain.points_to = server;
                node.change(&plain);
            }
            Step::Deny { client } => {
                plain.denied = client;
                node.change(&plain);
            }
            Step::Swap { stage } => node.swap(stage),
            Step::Move { pod } => {
                node.move_port(plain.moves(pod), pod);
                node.change(&plain);
            }
            Step::Restart => node.restart(&plain),
            Step::Upgrade => node.upgrade(&plain),
        }
    }
    assert_eq!(node.strays(), [], "behind all of it");
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 40, ..ProptestConfig::with_cases(8) })]
    #[test]
    fn datagrams_arrive_as_a_plain_list_of_connections_has_it_whatever_happens_in_between(
        steps in prop::collection::vec(steps(), 20..120),
    ) {
        run(&steps);
    }
}
