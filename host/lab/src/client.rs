//! The client in pods: it asks what it is told to, and says what came of it, line by line.
//!
//! Owns patience: what is not as it is to be is asked again until it is, or patience ends. So who
//! makes pods, Services and policies need not know when each is in force.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use millrace_control::PodName;
use serde::{Deserialize, Serialize};

use crate::question::{self, Means, Outcome};

/// What is asked, and what is to come of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Question {
    /// The server of one of these pods answers.
    Echo {
        /// How it is asked.
        by: Means,
        /// Where.
        to: SocketAddr,
        /// Who is to answer.
        pods: Vec<PodName>,
    },
    /// Nobody answers.
    Silence {
        /// How they are asked.
        by: Means,
        /// Where.
        to: SocketAddr,
    },
    /// Somebody takes a connection.
    Connection {
        /// Where.
        to: SocketAddr,
    },
    /// A name has these addresses.
    Name {
        /// The name, as programs of the pod would write it.
        name: String,
        /// All of them.
        addresses: Vec<IpAddr>,
    },
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Which of the questions, counted from 0.
    pub number: usize,
    /// Whether that is what was to come.
    pub is_right: bool,
    /// What came the last time.
    pub outcome: Outcome,
    /// How long that took.
    pub milliseconds: u64,
}

impl Question {
    /// Asks once.
    fn ask(&self) -> Outcome {
        match self {
            Self::Echo { by, to, pods } => question::ask(*to, *by, pods, ATTEMPT),
            Self::Silence { by, to } => question::ask(*to, *by, &[], ATTEMPT),
            Self::Connection { to } => match TcpStream::connect_timeout(to, ATTEMPT) {
                Ok(_) => Outcome::Reached { seen_as: None },
                Err(error) => question::failure(&error),
            },
            Self::Name { name, addresses } => resolve(name, addresses),
        }
    }

    /// Whether it is what was to come.
    fn is_right(&self, outcome: &Outcome) -> bool {
        match self {
            Self::Silence { .. } => {
                matches!(outcome, Outcome::Silence | Outcome::Refused | Outcome::Unreachable)
            }
            _ => outcome.is_reached(),
        }
    }

    /// Asks until it is right.
    fn pursue(&self, number: usize, deadline: Instant) -> Answer {
        loop {
            let start = Instant::now();
            let outcome = self.ask();
            let milliseconds = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
            let is_right = self.is_right(&outcome);
            if is_right || Instant::now() + BETWEEN >= deadline {
                return Answer { number, is_right, outcome, milliseconds };
            }
            thread::sleep(BETWEEN);
        }
    }
}

/// Asks all, each until `patience` ends, and writes each [`Answer`] as a line of JSON.
///
/// # Errors
/// If a question is not understood, or nobody takes the answers.
pub fn run(questions: &[String], patience: Duration, out: impl Write + Send) -> io::Result<()> {
    let questions = questions.iter().map(|text| serde_json::from_str::<Question>(text));
    let questions: Result<VecDeque<_>, _> = questions.collect();
    let waiting: Mutex<VecDeque<_>> = Mutex::new(questions?.into_iter().enumerate().collect());
    let out = Mutex::new(out);
    let ask_some = || {
        loop {
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((number, question)) = next else { return Ok(()) };
            let answer = question.pursue(number, Instant::now() + patience);
            let line = serde_json::to_string(&answer)?;
            let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
            writeln!(out, "{line}").and_then(|()| out.flush())?;
        }
    };
    thread::scope(|scope| {
        let askers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(ask_some)).collect();
        let ends = askers.into_iter().map(|it| it.join().expect("an asker never panics"));
        ends.collect()
    })
}

/// As programs of the pod do it, by its own configuration.
fn resolve(name: &str, wanted: &[IpAddr]) -> Outcome {
    match (name, 0).to_socket_addrs() {
        Ok(found) => {
            let found: Vec<_> = found.map(|it| it.ip()).collect();
            if wanted.iter().all(|it| found.contains(it)) {
                return Outcome::Reached { seen_as: None };
            }
            let found: Vec<_> = found.iter().map(ToString::to_string).collect();
            Outcome::Stranger { said: found.join(", ") }
        }
        Err(error) => Outcome::Failed { reason: error.to_string() },
    }
}

/// How long one answer is waited for.
const ATTEMPT: Duration = Duration::from_secs(2);
const BETWEEN: Duration = Duration::from_millis(100);
/// Questions under way together.
pub const AT_ONCE: usize = 16;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, UdpSocket};

    use super::*;

    fn asked(questions: &[Question], patience: Duration) -> Vec<Answer> {
        let texts: Vec<_> = questions.iter().map(|it| serde_json::to_string(it).unwrap()).collect();
        let mut out = Vec::new();
        run(&texts, patience, &mut out).unwrap();
        let lines = str::from_utf8(&out).unwrap().lines();
        let mut answers: Vec<Answer> = lines.map(|it| serde_json::from_str(it).unwrap()).collect();
        answers.sort_by_key(|it| it.number);
        answers
    }

    #[test]
    fn each_question_has_an_answer_that_says_whether_it_is_as_wanted() {
        // it is held, and nobody reads from it
        let deaf = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let silent = deaf.local_addr().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let open = listener.local_addr().unwrap();
        let localhost = || "localhost".to_owned();
        let questions = [
            Question::Connection { to: open },
            Question::Silence { by: Means::Udp, to: silent },
            Question::Name { name: localhost(), addresses: vec![Ipv4Addr::LOCALHOST.into()] },
            Question::Name { name: localhost(), addresses: vec![Ipv4Addr::BROADCAST.into()] },
        ];
        let answers = asked(&questions, Duration::ZERO);
        let right: Vec<_> = answers.iter().map(|it| it.is_right).collect();
        assert_eq!(right, [true, true, true, false], "{answers:?}");
        assert_eq!(answers[1].outcome, Outcome::Silence);
        let Outcome::Stranger { said } = &answers[3].outcome else { panic!("{answers:?}") };
        assert!(said.contains("127.0.0.1"), "{said}");
    }

    #[test]
    fn who_is_not_there_yet_is_asked_again_and_a_stranger_is_not_who_was_meant() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = socket.local_addr().unwrap();
        let server = thread::spawn(move || {
            let mut buffer = [0; 100];
            // first somebody else is there, and then who is wanted
            for name in ["shop/other", "shop/web"] {
                let (_, client) = socket.recv_from(&mut buffer).unwrap();
                let echo = format!("{name} {client} hello");
                socket.send_to(echo.as_bytes(), client).unwrap();
            }
        });
        let pods = vec![PodName::new("shop", "web")];
        let question = Question::Echo { by: Means::Udp, to, pods };
        let answers = asked(&[question], Duration::from_secs(60));
        server.join().unwrap();
        let seen_as = Some(Ipv4Addr::LOCALHOST.into());
        assert_eq!(answers[0].outcome, Outcome::Reached { seen_as });
        assert!(answers[0].is_right);
    }

    #[test]
    fn a_question_that_is_none_is_said_so() {
        let error = run(&["{}".to_owned()], Duration::ZERO, io::sink()).unwrap_err();
        assert!(error.to_string().contains("expected"), "{error}");
    }
}
