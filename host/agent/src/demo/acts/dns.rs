//! A filter that looks into packets: the names that are asked for.

use std::net::{SocketAddr, UdpSocket};

use anyhow::Context;

use crate::api::types::LogLine;
use crate::demo::PATIENCE;
use crate::demo::lab::Lab;
use crate::demo::narrator::Narrator;

pub(super) fn play(lab: &Lab, narrator: &mut Narrator) -> anyhow::Result<()> {
    narrator.act(
        "A look into packets",
        "This filter asks for the packets of flows to port 53, reads the names in them, and lets \
         them pass. All other flows stay as fast as they were.",
    );
    lab.command(narrator, &["filter", "load", "dns", "dns-log", "--first"])?;
    let bob = SocketAddr::new(lab.bob.address, 53);
    let server = lab.bob.namespace.run(|| UdpSocket::bind(bob))?.context("bob listens")?;
    server.set_read_timeout(Some(PATIENCE))?;
    let client = lab.alice.namespace.run(|| UdpSocket::bind((lab.alice.address, 0)))?;
    let client = client.context("alice asks")?;

    let mut arrived = 0;
    for name in NAMES {
        narrator.command(lab.alice.name, &["dig", &format!("@{}", bob.ip()), name]);
        client.send_to(&question(name), bob)?;
        let mut datagram = [0; 512];
        let len = server.recv(&mut datagram).context("the question does not arrive")?;
        arrived += usize::from(datagram[..len] == question(name));
    }
    narrator.output(&lab.command(narrator, &["filter", "logs", "dns"])?);

    let lines: Vec<LogLine> = lab.host.get("/v1/filters/dns/logs")?;
    let read = NAMES.iter().filter(|name| lines.iter().any(|line| line.text.contains(*name)));
    let of = |number: usize| format!("{number} of {}", NAMES.len());
    let read = read.count();
    narrator.claim(read == NAMES.len(), "the filter reads what is asked for", of(read));
    narrator.claim(arrived == NAMES.len(), "bob gets it unchanged", of(arrived));
    lab.command(narrator, &["filter", "remove", "dns"])?;
    Ok(())
}

/// A DNS message that asks for the IPv4 address of `name` (RFC 1035 section 4).
fn question(name: &str) -> Vec<u8> {
    // an identifier, that recursion is desired, one question, and nothing else
    let mut message = vec![0x4d, 0x52, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    // the root, type A, class IN
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// What alice asks for.
const NAMES: [&str; 2] = ["mill.example", "race.example"];
