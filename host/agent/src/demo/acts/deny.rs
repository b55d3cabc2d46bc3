//! A rule that comes, changes and goes, while somebody tries to connect.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::api::types::FateStatus;
use crate::demo::lab::{Lab, Pod};
use crate::demo::narrator::Narrator;

pub(super) fn play(lab: &Lab, narrator: &mut Narrator) -> anyhow::Result<()> {
    narrator.act(
        "A rule, live",
        "Bob listens at TCP port 80. A second filter, before the bridge, decides who may connect. \
         Each change is in force when its command returns, and dropped packets say who dropped \
         them, and why.",
    );
    let bob = SocketAddr::new(lab.bob.address, 80);
    // connections wait there until they are accepted, which suffices
    let _listener = lab.bob.namespace.run(|| TcpListener::bind(bob))?.context("bob listens")?;

    connect(&lab.alice, bob, Outcome::Connected, "without a rule it connects", narrator)?;

    let rule = r#"{"rules": [{"protocol": "tcp", "port": 80}]}"#;
    let load = ["filter", "load", "web", "deny-list", "--first", "--config", rule];
    narrator.gap();
    lab.command(narrator, &load)?;
    connect(&lab.alice, bob, Outcome::Silence, "with a rule nothing answers", narrator)?;

    let rule = r#"{"action": "reject", "rules": [{"protocol": "tcp", "port": 80}]}"#;
    narrator.gap();
    lab.command(narrator, &["filter", "configure", "web", rule])?;
    connect(&lab.alice, bob, Outcome::Refused, "rejected, it fails at once", narrator)?;

    narrator.gap();
    narrator.output(&lab.command(narrator, &["drops"])?);
    let fates: Vec<FateStatus> = lab.host.get("/v1/fates")?;
    let ours = |fate: &&FateStatus| {
        let (stage, reason) = (fate.stage.as_deref(), fate.reason.as_deref());
        fate.port == lab.alice.name && stage == Some("web") && reason == Some("denied")
    };
    let denied: u64 = fates.iter().filter(ours).map(|fate| fate.packets).sum();
    let seen = format!("{denied} from alice, by web");
    narrator.claim(denied >= 2, "each denied packet is counted", seen);

    narrator.gap();
    lab.command(narrator, &["filter", "remove", "web"])?;
    connect(&lab.alice, bob, Outcome::Connected, "without the rule it connects", narrator)
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Connected,
    Refused,
    Silence,
}

/// Tries to connect, and claims that this becomes of it.
fn connect(
    from: &Pod,
    to: SocketAddr,
    expected: Outcome,
    claim: &'static str,
    narrator: &mut Narrator,
) -> anyhow::Result<()> {
    narrator.command(from.name, &["nc", "-z", "-w", "1", &to.ip().to_string(), "80"]);
    let start = Instant::now();
    let outcome = match from.namespace.run(|| TcpStream::connect_timeout(&to, WAIT))? {
        Ok(_) => Outcome::Connected,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Outcome::Refused,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Outcome::Silence,
        Err(error) => return Err(error).context("connecting"),
    };
    let elapsed = start.elapsed().as_secs_f64() * 1000.0;
    let seen = match outcome {
        Outcome::Connected => format!("connected after {elapsed:.1} ms"),
        Outcome::Refused => format!("refused after {elapsed:.1} ms"),
        Outcome::Silence => format!("given up after {elapsed:.0} ms"),
    };
    narrator.claim(outcome == expected, claim, seen);
    Ok(())
}

/// How long alice waits.
const WAIT: Duration = Duration::from_secs(1);
