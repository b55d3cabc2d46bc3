//! What of the node's network is not as it should be, mostly as the kernel refuses it: said in `millrace
//! status`, counted for metrics, and tried again, soon at first and then ever more rarely.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::time::{Duration, Instant};

use millrace_dataplane::control::status::Label;
use serde::{Deserialize, Serialize};

/// What is not as it should be.
#[derive(Debug)]
pub(crate) struct Refusals {
    present: BTreeMap<Matter, Refusal>,
    /// How often each was refused since the start.
    times: BTreeMap<Matter, u64>,
    due: Instant,
    pause: Duration,
}

/// What is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Matter {
    /// Links and routes to other nodes.
    Nodes,
    /// That packets from outside for Services are the dataplane's.
    Claims,
    /// The host's own routes to Services.
    Routes,
    /// Answers to neighbours who ask for the addresses of load balancers.
    Neighbours,
    /// What pods reach outside, and by which of the host's interfaces.
    Outside,
    /// Pods as ports.
    Pods,
    /// What the API server says.
    Cluster,
}

/// A matter of the node's network, which the kernel may refuse.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RefusedStatus {
    /// `nodes`: links and routes to other nodes; `claims`, `routes`, `neighbours`: Services as they
    /// are reached from outside, from the host, and by announced addresses; `outside`: what pods reach
    /// there, and by which interface; `pods`: pods that are attached, as ports;
    /// `cluster`: the API server, which is away since the agent started.
    pub(crate) matter: Label,
    /// Whether it is refused now.
    pub(crate) is_refused: bool,
    /// How often it was.
    pub(crate) times: u64,
}

#[derive(Debug)]
struct Refusal {
    why: String,
    times: u64,
}

impl Refusals {
    /// There are none yet.
    pub(crate) fn new(now: Instant) -> Self {
        let (present, times) = (BTreeMap::new(), BTreeMap::new());
        Self { present, times, due: now + EVERY, pause: EVERY }
    }

    /// Notes how it went; what is refused in other words than before is logged.
    pub(crate) fn note(&mut self, matter: Matter, outcome: Result<(), impl Display>) {
        let Err(error) = outcome else {
            if self.present.remove(&matter).is_some() {
                tracing::info!("{matter}: as they should be again");
            }
            return;
        };
        *self.times.entry(matter).or_default() += 1;
        let why = error.to_string();
        let before = self.present.remove(&matter);
        if before.as_ref().is_none_or(|before| before.why != why) {
            tracing::error!("{matter}: {why}; this is tried again");
        }
        let times = before.map_or(0, |before| before.times) + 1;
        self.present.insert(matter, Refusal { why, times });
    }

    /// Whether it is time to look after all of it again.
    pub(crate) fn are_due(&self, now: Instant) -> bool {
        now >= self.due
    }

    /// What was refused may be taken now, so it is to be tried soon.
    pub(crate) fn hurry(&mut self, now: Instant) {
        if !self.present.is_empty() {
            (self.due, self.pause) = (now, EVERY);
        }
    }

    /// It was looked after.
    pub(crate) fn looked_after(&mut self, now: Instant) {
        self.pause = if self.present.is_empty() { EVERY } else { (self.pause * 2).min(RAREST) };
        self.due = now + self.pause;
    }

    /// What is refused, in sentences.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let sentence = |(matter, Refusal { why, times }): (&Matter, &Refusal)| {
            let often = if *times == 1 { "once".to_owned() } else { format!("{times} times") };
            format!("{matter}: {why} (refused {often}; this is tried again)")
        };
        self.present.iter().map(sentence).collect()
    }

    /// Each matter in numbers, those that were never refused included.
    pub(crate) fn status(&self) -> Vec<RefusedStatus> {
        let status = |matter: &Matter| RefusedStatus {
            matter: matter.word().into(),
            is_refused: self.present.contains_key(matter),
            times: self.times.get(matter).copied().unwrap_or_default(),
        };
        Matter::ALL.iter().map(status).collect()
    }
}

impl Matter {
    const ALL: [Self; 7] = [
        Self::Nodes,
        Self::Claims,
        Self::Routes,
        Self::Neighbours,
        Self::Outside,
        Self::Pods,
        Self::Cluster,
    ];

    /// The word in metrics.
    const fn word(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Claims => "claims",
            Self::Routes => "routes",
            Self::Neighbours => "neighbours",
            Self::Outside => "outside",
            Self::Pods => "pods",
            Self::Cluster => "cluster",
        }
    }
}

impl Default for Refusals {
    fn default() -> Self {
        Self::new(Instant::now())
    }
}

impl Display for Matter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Nodes => "links and routes to other nodes",
            Self::Claims => "Services as they are reached from outside",
            Self::Routes => "Services as they are reached from the host",
            Self::Neighbours => "addresses of load balancers that are announced here",
            Self::Outside => "what is outside, as pods reach it",
            Self::Pods => "pods that are attached",
            Self::Cluster => "the API server",
        })
    }
}

/// How often it is looked after while all is well.
const EVERY: Duration = Duration::from_secs(2);
/// How often at the least.
const RAREST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_said_with_how_often_until_it_is_not() {
        let mut refusals = Refusals::default();
        for _ in 0..2 {
            refusals.note(Matter::Routes, Err("no room"));
        }
        refusals.note(Matter::Nodes, Err("no link"));
        assert_eq!(
            refusals.sentences(),
            [
                "links and routes to other nodes: no link (refused once; this is tried again)",
                "Services as they are reached from the host: no room (refused 2 times; this is tried \
                 again)",
            ]
        );
        refusals.note(Matter::Routes, Ok::<_, &str>(()));
        refusals.note(Matter::Nodes, Ok::<_, &str>(()));
        assert!(refusals.sentences().is_empty());
    }

    #[test]
    fn how_often_a_matter_was_refused_is_counted_beyond_its_end() {
        let mut refusals = Refusals::default();
        let seen = |refusals: &Refusals| {
            let status = refusals.status().into_iter();
            status.map(|it| (it.matter.to_string(), it.is_refused, it.times)).collect::<Vec<_>>()
        };
        let never = ["nodes", "claims", "routes", "neighbours", "outside", "pods", "cluster"];
        let expected = never.map(|matter| (matter.to_owned(), false, 0));
        assert_eq!(seen(&refusals), expected);
        for _ in 0..2 {
            refusals.note(Matter::Routes, Err("no room"));
        }
        assert_eq!(seen(&refusals)[2], ("routes".to_owned(), true, 2));
        refusals.note(Matter::Routes, Ok::<_, &str>(()));
        assert_eq!(seen(&refusals)[2], ("routes".to_owned(), false, 2));
        refusals.note(Matter::Routes, Err("no link"));
        assert_eq!(seen(&refusals)[2], ("routes".to_owned(), true, 3));
    }

    #[test]
    fn what_goes_on_being_refused_is_tried_ever_more_rarely_and_never_given_up() {
        let start = Instant::now();
        let mut refusals = Refusals::new(start);
        refusals.note(Matter::Nodes, Err("no link"));
        let mut now = start + EVERY;
        let mut pauses = Vec::new();
        for _ in 0..7 {
            assert!(refusals.are_due(now));
            refusals.looked_after(now);
            assert!(!refusals.are_due(now));
            let pause = (1..=60).find(|&s| refusals.are_due(now + Duration::from_secs(s)));
            pauses.push(pause.expect("it is never given up"));
            now += Duration::from_secs(pauses[pauses.len() - 1]);
        }
        assert_eq!(pauses, [4, 8, 16, 32, 60, 60, 60]);
        refusals.hurry(now - Duration::from_secs(50));
        assert!(refusals.are_due(now - Duration::from_secs(50)), "something else has happened");
        refusals.note(Matter::Nodes, Ok::<_, &str>(()));
        refusals.looked_after(now);
        assert!(refusals.are_due(now + EVERY));
        refusals.hurry(now);
        assert!(!refusals.are_due(now), "nothing is refused");
    }
}
