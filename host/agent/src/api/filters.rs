//! Requests about filters. Whatever changes a stage answers with how the stage is then.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use millrace_dataplane::control::Dataplane;
use serde_json::Value;

use crate::api::error::ApiError;
use crate::api::server::{Answer, Body, Shared};
use crate::api::types::{LoadFilter, Mode, Position, Stage, StageStatus, StartCanary, SwapFilter};

/// The chain.
pub(super) async fn list(State(host): Shared) -> Answer<Vec<Stage>> {
    let stages = host.ask(|host| host.plane.stages()).await?;
    let known = host.known.as_ref().map(|known| known.lock());
    let chain = |name: &str| known.as_ref()?.filters.get(name)?.chain.clone();
    let stage = |status: StageStatus| Stage { chain: chain(&status.name), status };
    Ok(Json(stages.into_iter().map(stage).collect()))
}

/// One stage.
pub(super) async fn show(State(host): Shared, Path(name): Path<String>) -> Answer<StageStatus> {
    change(State(host), name, |_, _| Ok(())).await
}

/// Puts a filter into the chain.
pub(super) async fn load(
    State(host): Shared,
    Body(load): Body<LoadFilter>,
) -> Result<(StatusCode, Json<StageStatus>), ApiError> {
    let name = load.name.clone();
    let load = load.try_into().map_err(ApiError::not_found)?;
    let status = change(State(host), name, |plane, _| Ok(plane.load(load)?));
    Ok((StatusCode::CREATED, status.await?))
}

/// Takes a stage out of the chain.
pub(super) async fn remove(
    State(host): Shared,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    host.ask(move |host| host.plane.remove(&name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Puts another module into a stage.
pub(super) async fn swap(
    host: Shared,
    Path(name): Path<String>,
    Body(swap): Body<SwapFilter>,
) -> Answer<StageStatus> {
    let config = swap.config.as_ref().map(Value::to_string);
    let module = swap.module.bytes().map_err(ApiError::not_found)?;
    change(host, name, move |plane, name| Ok(plane.swap(name, &module, config.as_deref())?)).await
}

/// Gives a stage another configuration.
pub(super) async fn configure(
    host: Shared,
    Path(name): Path<String>,
    Body(config): Body<Value>,
) -> Answer<StageStatus> {
    change(host, name, move |plane, name| Ok(plane.configure(name, &config.to_string())?)).await
}

/// Makes a stage's answers count, or not.
pub(super) async fn set_mode(
    host: Shared,
    Path(name): Path<String>,
    Body(mode): Body<Mode>,
) -> Answer<StageStatus> {
    change(host, name, move |plane, name| Ok(plane.set_mode(name, mode)?)).await
}

/// Moves a stage to another place.
pub(super) async fn move_to(
    host: Shared,
    Path(name): Path<String>,
    Body(position): Body<Position>,
) -> Answer<StageStatus> {
    change(host, name, move |plane, name| Ok(plane.move_to(name, &position)?)).await
}

/// Puts the version before into force again.
pub(super) async fn roll_back(host: Shared, Path(name): Path<String>) -> Answer<StageStatus> {
    change(host, name, |plane, name| Ok(plane.roll_back(name)?)).await
}

/// Tries a module on some flows.
pub(super) async fn start_canary(
    host: Shared,
    Path(name): Path<String>,
    Body(canary): Body<StartCanary>,
) -> Answer<StageStatus> {
    let config = canary.config.as_ref().map(Value::to_string);
    let module = canary.module.bytes().map_err(ApiError::not_found)?;
    let start = move |plane: &Dataplane, name: &str| {
        Ok(plane.try_on(name, canary.percent, &module, config.as_deref())?)
    };
    change(host, name, start).await
}

/// Puts the module that was tried into force.
pub(super) async fn promote_canary(host: Shared, Path(name): Path<String>) -> Answer<StageStatus> {
    change(host, name, |plane, name| Ok(plane.end_trial(name, true)?)).await
}

/// Takes the module that was tried away.
pub(super) async fn abandon_canary(host: Shared, Path(name): Path<String>) -> Answer<StageStatus> {
    change(host, name, |plane, name| Ok(plane.end_trial(name, false)?)).await
}

/// Changes something about a stage, and says how it is then.
async fn change(
    State(host): Shared,
    name: String,
    change: impl FnOnce(&Dataplane, &str) -> Result<(), ApiError> + Send + 'static,
) -> Answer<StageStatus> {
    let status = host.ask(move |host| {
        change(&host.plane, &name)?;
        Ok::<_, ApiError>(host.plane.stage(&name)?)
    });
    Ok(Json(status.await?))
}
