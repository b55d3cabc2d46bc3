//! How requests are refused: a status code, and JSON with one sentence for people.

use std::fmt::Display;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use millrace_dataplane::control::capture::CaptureError;
use millrace_dataplane::control::{PortError, StageError};
use millrace_dataplane::mailbox::NoAnswer;

use crate::api::types::Refusal;
use crate::node::AttachError;

/// Why a request is not done.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    error: String,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, error: impl Display) -> Self {
        Self { status, error: error.to_string() }
    }

    /// The request itself is wrong.
    pub(super) fn bad_request(error: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// What it is about is not there.
    pub(super) fn not_found(error: impl Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(Refusal { error: self.error })).into_response()
    }
}

impl From<StageError> for ApiError {
    fn from(error: StageError) -> Self {
        let status = match &error {
            StageError::Unknown { .. } => StatusCode::NOT_FOUND,
            StageError::Taken(_)
            | StageError::Full
            | StageError::NoPrevious(_)
            | StageError::NoCanary(_) => StatusCode::CONFLICT,
            StageError::Name(_) | StageError::Json(_) | StageError::Percent(_) => {
                StatusCode::BAD_REQUEST
            }
            StageError::NoAnswer(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, error)
    }
}

impl From<PortError> for ApiError {
    fn from(error: PortError) -> Self {
        let status = match &error {
            PortError::Unknown { .. } => StatusCode::NOT_FOUND,
            PortError::Taken(_) | PortError::Full => StatusCode::CONFLICT,
            PortError::NoAnswer(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, error)
    }
}

impl From<CaptureError> for ApiError {
    fn from(error: CaptureError) -> Self {
        match error {
            CaptureError::Port(error) => error.into(),
            CaptureError::NoAnswer(error) => error.into(),
            CaptureError::Taken => Self::new(StatusCode::CONFLICT, error),
        }
    }
}

impl From<AttachError> for ApiError {
    fn from(error: AttachError) -> Self {
        match error {
            AttachError::Port(error) => error.into(),
            AttachError::Chain(error) => error.into(),
            AttachError::Unknown(_) => Self::not_found(error),
            AttachError::Parting(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, error),
            AttachError::Taken { .. } => Self::new(StatusCode::CONFLICT, error),
            AttachError::Present { .. } => Self::new(StatusCode::PRECONDITION_FAILED, error),
            _ => Self::new(StatusCode::UNPROCESSABLE_ENTITY, error),
        }
    }
}

impl From<NoAnswer> for ApiError {
    fn from(error: NoAnswer) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error)
    }
}
