//! Who hears whom, by rules that fit on a page.
//!
//! A connection is opened by a datagram that belongs to none, if that may be and there is somebody
//! to hear it. From then on its ends stay as they were when it was opened, and every datagram of it
//! arrives while its opener is not denied. It is over when the port of one of its pods goes.

use std::net::{IpAddr, SocketAddr};

use super::node::{self, GATEWAYS};

/// A pod's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    pub(super) pod: usize,
    pub(super) address: SocketAddr,
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) enum Delivery {
    Nowhere,
    /// It is of a connection.
    Known {
        at: Socket,
        source: SocketAddr,
    },
    /// It opens one, and shows by its source which.
    Opens {
        at: Socket,
    },
}

/// A connection.
#[derive(Clone, Copy, Debug)]
struct Connection {
    /// Who has opened it, and whom it spoke to.
    opener: Socket,
    named: SocketAddr,
    /// Who answers, and whom it sees.
    answerer: Socket,
    seen: SocketAddr,
}

/// The rules, and the connections.
pub(super) struct Plain {
    /// The server that virtual addresses stand for.
    pub(super) points_to: usize,
    /// The client that may open no connection.
    pub(super) denied: Option<usize>,
    /// The pod that has no port.
    away: Option<usize>,
    connections: Vec<Connection>,
    /// Whether the last datagram was heard by a server.
    heard: Option<(Socket, SocketAddr)>,
}

impl Socket {
    pub(super) fn client(client: usize, port: u16, family: usize) -> Self {
        Self::of(client, node::CLIENT_PORT + port, family)
    }

    pub(super) fn server(server: usize, family: usize) -> Self {
        Self::of(server, node::SERVER_PORT, family)
    }

    fn of(pod: usize, port: u16, family: usize) -> Self {
        Self { pod, address: SocketAddr::new(node::addresses(pod)[family], port) }
    }

    /// All that there are.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let clients = node::CLIENTS.flat_map(|pod| {
            (0..2).flat_map(move |port| (0..2).map(move |family| Self::client(pod, port, family)))
        });
        let servers =
            node::SERVERS.flat_map(|pod| (0..2).map(move |family| Self::server(pod, family)));
        clients.chain(servers)
    }
}

impl Plain {
    pub(super) fn new() -> Self {
        let points_to = node::SERVERS.start;
        Self { points_to, denied: None, away: None, connections: Vec::new(), heard: None }
    }

    /// Whether a pod has a port.
    pub(super) fn is_there(&self, pod: usize) -> bool {
        self.away != Some(pod)
    }

    /// A pod's port goes, or comes if it was away; says whose was away before.
    pub(super) fn moves(&mut self, pod: usize) -> Option<usize> {
        let was_away = self.away.take();
        if was_away != Some(pod) {
            self.away = Some(pod);
            let by_way = |connection: &Connection| {
                [connection.opener, connection.answerer].iter().any(|end| end.pod == pod)
            };
            self.connections.retain(|connection| !by_way(connection));
        }
        was_away
    }

    /// What is to become of a datagram.
    pub(super) fn send(&mut self, from: Socket, to: SocketAddr) -> Delivery {
        let delivery = self.delivery(from, to);
        self.heard = match delivery {
            Delivery::Known { at, source } if node::SERVERS.contains(&at.pod) => Some((at, source)),
            _ => None,
        };
        delivery
    }

    /// A datagram has opened a connection, and was from `source` when it arrived.
    pub(super) fn opened(&mut self, from: Socket, to: SocketAddr, at: Socket, source: SocketAddr) {
        let known = |seen: SocketAddr| {
            let sees = |it: &Connection| it.answerer == at && it.seen == seen;
            let names = |it: &Connection| it.opener == at && it.named == seen;
            self.connections.iter().any(|it| sees(it) || names(it))
        };
        assert!(!known(source), "{at:?} sees {source} in two connections");
        if is_masqueraded(to) {
            assert!(GATEWAYS.contains(&source.ip().to_string().as_str()), "{source}");
        } else if known(from.address) {
            // its own port is another connection's there
            assert_eq!(source.ip(), from.address.ip());
        } else {
            assert_eq!(source, from.address);
        }
        self.connections.push(Connection { opener: from, named: to, answerer: at, seen: source });
        self.heard = node::SERVERS.contains(&at.pod).then_some((at, source));
    }

    /// The server that has heard the last datagram, if one did, and whom it was from.
    pub(super) fn last_heard(&mut self) -> Option<(Socket, SocketAddr)> {
        self.heard.take()
    }

    fn delivery(&self, from: Socket, to: SocketAddr) -> Delivery {
        let speaks = |it: &&Connection| it.opener == from && it.named == to;
        if let Some(connection) = self.connections.iter().find(speaks) {
            let Connection { answerer: at, seen: source, .. } = *connection;
            return self.unless_denied(connection, Delivery::Known { at, source });
        }
        let answers = |it: &&Connection| it.answerer == from && it.seen == to;
        if let Some(connection) = self.connections.iter().find(answers) {
            let Connection { opener: at, named: source, .. } = *connection;
            return self.unless_denied(connection, Delivery::Known { at, source });
        }
        if self.denied == Some(from.pod) {
            return Delivery::Nowhere;
        }
        let address = match is_virtual(to) {
            Some(family) => Socket::server(self.points_to, family).address,
            None => to,
        };
        let hears = |socket: &Socket| socket.address == address && self.is_there(socket.pod);
        Socket::all().find(hears).map_or(Delivery::Nowhere, |at| Delivery::Opens { at })
    }

    fn unless_denied(&self, connection: &Connection, delivery: Delivery) -> Delivery {
        match self.denied == Some(connection.opener.pod) {
            true => Delivery::Nowhere,
            false => delivery,
        }
    }
}

/// The family of a virtual address, if it is one.
fn is_virtual(to: SocketAddr) -> Option<usize> {
    let is = |address: IpAddr| address == to.ip();
    (1..=2).find_map(|n| node::virtual_address(n).into_iter().position(is))
}

fn is_masqueraded(to: SocketAddr) -> bool {
    node::virtual_address(2).contains(&to.ip())
}
