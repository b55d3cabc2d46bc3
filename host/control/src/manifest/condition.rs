//! What `status.conditions` says of a node, or a pod.

use serde::{Deserialize, Serialize};

use crate::Readiness;

#[derive(PartialEq, Serialize, Deserialize)]
pub(super) struct Condition {
    r#type: String,
    status: String,
}

impl Condition {
    /// Whoever does not say is ready; unknown is not.
    pub(super) fn readiness(conditions: &[Self]) -> Readiness {
        match conditions.iter().any(|it| it.r#type == READY && it.status != TRUE) {
            true => Readiness::NotReady,
            false => Readiness::Ready,
        }
    }

    /// What says that.
    pub(super) fn of(readiness: Readiness) -> Vec<Self> {
        match readiness {
            Readiness::Ready => Vec::new(),
            Readiness::NotReady => {
                vec![Self { r#type: READY.to_owned(), status: "False".to_owned() }]
            }
        }
    }
}

const READY: &str = "Ready";
const TRUE: &str = "True";
