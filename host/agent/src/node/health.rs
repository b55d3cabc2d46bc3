//! Health checks of load balancers that are to send to those nodes alone that have endpoints (S18).
//!
//! Owns a listener for each Service that has a `healthCheckNodePort`, at each of the node's
//! addresses, and what it answers. Which Services those are follows from the tables of the moment.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use millrace_control::QualifiedName;
use millrace_control::compile::HealthCheck;
use parking_lot::Mutex;
use serde_json::json;
use tokio::runtime::Handle;

use crate::node::answering::Answering;

/// Those that are open.
pub(crate) struct HealthChecks {
    runtime: Handle,
    addresses: Vec<IpAddr>,
    open: BTreeMap<SocketAddr, Check>,
}

/// One that is open. It is closed when this is dropped.
struct Check {
    said: Arc<Mutex<Said>>,
    _answering: Answering,
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    service: QualifiedName,
    local: usize,
    standing: Standing,
}

/// How it stands with what filters are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// They know of Services as they are.
    Current,
    /// They have not taken what was last to be told.
    Behind,
}

impl HealthChecks {
    /// None is open yet at these addresses; they are served by the runtime.
    pub(crate) fn new(runtime: Handle, addresses: Vec<IpAddr>) -> Self {
        Self { runtime, addresses, open: BTreeMap::new() }
    }

    /// Has these Services answer, and no others any more. One whose port is in use is logged, and
    /// tried again with the next change.
    pub(crate) fn serve<'s>(
        &mut self,
        checks: impl Iterator<Item = (&'s QualifiedName, HealthCheck)>,
        standing: Standing,
    ) {
        let mut wanted: BTreeMap<SocketAddr, Said> = BTreeMap::new();
        for (service, HealthCheck { port, local }) in checks {
            for address in &self.addresses {
                let said = Said { service: service.clone(), local, standing };
                wanted.entry(SocketAddr::new(*address, port)).or_insert(said);
            }
        }
        self.open.retain(|address, _| wanted.contains_key(address));
        for (address, said) in wanted {
            if let Some(check) = self.open.get(&address) {
                *check.said.lock() = said;
                continue;
            }
            let service = said.service.to_string();
            match Check::open(&self.runtime, address, said) {
                Ok(check) => drop(self.open.insert(address, check)),
                Err(error) => {
                    tracing::error!(%address, service, %error, "its health is not to be asked for");
                }
            }
        }
    }
}

impl Check {
    fn open(runtime: &Handle, address: SocketAddr, said: Said) -> std::io::Result<Self> {
        let said = Arc::new(Mutex::new(said));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&said));
        Ok(Self { said, _answering: Answering::open(runtime, address, router)? })
    }
}

async fn answer(State(said): State<Arc<Mutex<Said>>>) -> Response {
    let Said { service, local, standing } = said.lock().clone();
    let is_current = standing == Standing::Current;
    let status = match local > 0 && is_current {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let body = json!({
        "service": { "namespace": service.namespace, "name": service.name },
        "localEndpoints": local,
        "serviceProxyHealthy": is_current,
    });
    let headers = [
        ("Content-Type", "application/json".to_owned()),
        ("X-Content-Type-Options", "nosniff".to_owned()),
        ("X-Load-Balancing-Endpoint-Weight", local.to_string()),
    ];
    (status, headers, body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// A loopback address that no client of another test has: its port cannot be theirs.
    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 18, 0, 1));

    fn ask(port: u16) -> Option<String> {
        let mut stream = TcpStream::connect((HERE, port)).ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    #[test]
    fn s18_a_node_says_whether_it_has_endpoints_for_as_long_as_the_service_has_a_port_for_that() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ask = |port: u16| {
            let asked =
                runtime.block_on(async { tokio::task::spawn_blocking(move || ask(port)).await });
            asked.expect("it does not panic")
        };
        let free = TcpListener::bind((HERE, 0)).unwrap().local_addr().unwrap().port();
        let mut checks = HealthChecks::new(runtime.handle().clone(), vec![HERE]);
        let web = QualifiedName::new("shop", "web");
        for (local, standing, first) in [
            (2, Standing::Current, "HTTP/1.0 200 OK"),
            (0, Standing::Current, "HTTP/1.0 503 Service Unavailable"),
            (2, Standing::Behind, "HTTP/1.0 503 Service Unavailable"),
        ] {
            let check = HealthCheck { port: free, local };
            checks.serve([(&web, check)].into_iter(), standing);
            let answer = ask(free).expect("it is open");
            let lower = answer.to_ascii_lowercase();
            assert!(answer.starts_with(first), "{answer}");
            for header in [
                "content-type: application/json".to_owned(),
                "x-content-type-options: nosniff".to_owned(),
                format!("x-load-balancing-endpoint-weight: {local}"),
            ] {
                assert!(lower.contains(&format!("{header}\r\n")), "{header}: {answer}");
            }
            let (_, body) = answer.split_once("\r\n\r\n").unwrap();
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            let healthy = standing == Standing::Current;
            let service = json!({ "namespace": "shop", "name": "web" });
            let expected = json!({ "service": service, "localEndpoints": local, "serviceProxyHealthy": healthy });
            assert_eq!(body, expected);
        }
        checks.serve(std::iter::empty(), Standing::Current);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while ask(free).is_some() {
            assert!(std::time::Instant::now() < deadline, "it stays open");
            std::thread::yield_now();
        }
    }
}
