//! What load balancers and kubelets ask about the node as a whole, as they ask kube-proxy: at
//! `/healthz` whether it is to be sent connections, at `/livez` whether it is well (S18, KEP-3836).
//!
//! A node that is about to be taken away is well, and is to be sent no more.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use millrace_control::Tenure;
use parking_lot::Mutex;
use serde_json::json;
use tokio::runtime::Handle;

use crate::node::answering::Answering;
use crate::node::health::Standing;

/// Who answers, at one port of all addresses.
pub(crate) struct Liveness {
    runtime: Handle,
    port: Option<u16>,
    said: Arc<Mutex<Said>>,
    open: Vec<Answering>,
    /// Whether it was said that nobody is answered.
    is_told: bool,
}

/// What it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said {
    standing: Standing,
    tenure: Tenure,
    /// When it was current last; the epoch if never.
    current: SystemTime,
}

impl Liveness {
    /// Nobody is answered yet; without a port, nobody ever is.
    pub(crate) fn new(runtime: Handle, port: Option<u16>) -> Self {
        let said = Said {
            standing: Standing::Behind,
            tenure: Tenure::Stays,
            current: SystemTime::UNIX_EPOCH,
        };
        Self { runtime, port, said: Arc::new(Mutex::new(said)), open: Vec::new(), is_told: false }
    }

    /// Answers so from now on. If the port is in use, that is logged, once, and tried again with the
    /// next change.
    pub(crate) fn say(&mut self, standing: Standing, tenure: Tenure) {
        let mut said = self.said.lock();
        let is_or_was = [standing, said.standing].contains(&Standing::Current);
        let current = if is_or_was { SystemTime::now() } else { said.current };
        *said = Said { standing, tenure, current };
        drop(said);
        let Some(port) = self.port.filter(|_| self.open.is_empty()) else { return };
        let router = Router::new()
            .route("/healthz", get(healthz))
            .route("/livez", get(livez))
            .with_state(Arc::clone(&self.said));
        let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        for address in any.map(|address| SocketAddr::new(address, port)) {
            match Answering::open(&self.runtime, address, router.clone()) {
                Ok(answering) => self.open.push(answering),
                // there are machines without IPv6
                Err(error) if address.is_ipv6() => tracing::debug!(%address, %error, "not asked"),
                Err(_) if self.is_told => {}
                Err(error) => {
                    self.is_told = true;
                    tracing::error!(
                        %address,
                        %error,
                        "the node's health is not to be asked for: name another port with \
                         `--health-port`, or 0"
                    );
                }
            }
        }
    }
}

async fn healthz(State(said): State<Arc<Mutex<Said>>>) -> Response {
    let said = *said.lock();
    answer(said, Some(said.tenure == Tenure::Stays))
}

async fn livez(State(said): State<Arc<Mutex<Said>>>) -> Response {
    let said = *said.lock();
    answer(said, None)
}

/// What kube-proxy answers (`ProxyHealth`); whether the node is eligible is asked of its health alone.
fn answer(said: Said, is_eligible: Option<bool>) -> Response {
    let is_well = said.standing == Standing::Current;
    let status = match is_well && is_eligible != Some(false) {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let now = SystemTime::now();
    let time = |time| humantime::format_rfc3339(time).to_string();
    let mut body = json!({
        "lastUpdated": time(if is_well { now } else { said.current }),
        "currentTime": time(now),
        "healthy": is_well,
    });
    if let Some(is_eligible) = is_eligible {
        body["nodeEligible"] = is_eligible.into();
    }
    let headers = [("Content-Type", "application/json"), ("X-Content-Type-Options", "nosniff")];
    (status, headers, body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::to_bytes;
    use serde_json::Value;

    use super::*;

    #[test]
    fn s18_a_node_that_leaves_is_well_and_one_that_is_behind_is_neither() {
        for (standing, tenure, healthy, alive) in [
            (Standing::Current, Tenure::Stays, 200, 200),
            (Standing::Current, Tenure::Leaves, 503, 200),
            (Standing::Behind, Tenure::Stays, 503, 503),
            (Standing::Behind, Tenure::Leaves, 503, 503),
        ] {
            let current = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
            let said = || State(Arc::new(Mutex::new(Said { standing, tenure, current })));
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (health, life) =
                runtime.block_on(async { (healthz(said()).await, livez(said()).await) });
            assert_eq!((health.status().as_u16(), life.status().as_u16()), (healthy, alive));
            assert_eq!(health.headers()["content-type"], "application/json");
            let body = |answer: Response| -> Value {
                let bytes = runtime.block_on(to_bytes(answer.into_body(), 1000)).unwrap();
                serde_json::from_slice(&bytes).unwrap()
            };
            let (health, life) = (body(health), body(life));
            assert_eq!(health["nodeEligible"], tenure == Tenure::Stays);
            assert_eq!(life["nodeEligible"], Value::Null);
            assert_eq!(life["healthy"], standing == Standing::Current);
            let is_of_now = life["lastUpdated"] == life["currentTime"];
            assert_eq!(is_of_now, standing == Standing::Current);
            assert!(is_of_now || life["lastUpdated"] == "2001-09-09T01:46:40Z", "{life}");
        }
    }
}
