//! Requests of the host that is to be here next. In between, nothing of the node is changed here.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::api::error::ApiError;
use crate::api::server::{Answer, Host, Shared};

/// Changes nothing any more. If nothing comes of it, all is as before after a while.
pub(super) async fn leave(State(host): Shared) -> Answer<Value> {
    host.ask(|host| {
        let pods = host.pods()?;
        if host.leaving.swap(true, Ordering::AcqRel) {
            let error = "another host is taking over already";
            return Err(ApiError::new(StatusCode::CONFLICT, error));
        }
        // what was begun before is finished
        while pods.lock().is_parting() {
            thread::sleep(MOMENT);
        }
        host.plane.leave();
        tracing::info!("another host takes over");
        Ok(())
    })
    .await?;
    let waiting = Arc::clone(&host);
    tokio::spawn(async move {
        tokio::time::sleep(PATIENCE).await;
        if let Err(error) = waiting.ask(stay_after_all).await {
            tracing::error!(?error, "this host does not go on");
        }
    });
    Ok(Json(json!({ "pid": std::process::id() })))
}

/// Goes on as before.
pub(super) async fn stay(State(host): Shared) -> Answer<Value> {
    host.ask(stay_after_all).await?;
    Ok(Json(json!({})))
}

/// Finishes, and ends.
pub(super) async fn drain(State(host): Shared) -> Answer<Value> {
    host.ask(|host| {
        host.pods()?;
        if !host.leaving.load(Ordering::Acquire) {
            let error = "this host was not asked to leave";
            return Err(ApiError::new(StatusCode::CONFLICT, error));
        }
        host.plane.drain()?;
        // filters are asked nothing here any more
        if let Some(maps) = &host.maps {
            maps.lock().hand_over(host.plane.sandbox().maps());
        }
        Ok(())
    })
    .await?;
    host.relieved.notify_one();
    Ok(Json(json!({})))
}

fn stay_after_all(host: &Host) -> Result<(), ApiError> {
    host.pods()?;
    if host.leaving.swap(false, Ordering::AcqRel) {
        tracing::warn!("the host that was to take over does not: this one goes on");
        host.plane.stay()?;
    }
    Ok(())
}

/// How long to wait for the kernel before looking again.
const MOMENT: Duration = Duration::from_millis(1);
/// How long another host may take.
const PATIENCE: Duration = Duration::from_secs(60);
