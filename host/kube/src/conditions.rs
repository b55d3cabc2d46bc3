//! Conditions of objects (KEP-1623), as they are written into their status.

use millrace_control::Verdict;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

/// A condition.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
// as Kubernetes' own conditions, which need not say which generation they are of
#[schemars(extend("required" = ["type", "status", "reason", "message", "lastTransitionTime"]))]
pub(crate) struct Condition {
    #[schemars(extend("maxLength" = 316))]
    r#type: String,
    #[schemars(extend("enum" = ["True", "False", "Unknown"]))]
    status: String,
    #[schemars(extend("maxLength" = 1024))]
    reason: String,
    #[schemars(extend("maxLength" = 32_768))]
    message: String,
    observed_generation: i64,
    #[schemars(extend("format" = "date-time"))]
    last_transition_time: String,
}

/// What is said of an object of this generation, in place of what was before; `now` is the time
/// (RFC 3339). A condition that is as it was keeps its time, and those that others say stay.
pub(crate) fn conditions(
    before: &Value,
    generation: i64,
    verdicts: &[Verdict],
    now: &str,
) -> Value {
    let before = || before.as_array().into_iter().flatten();
    let condition = |verdict: &Verdict| {
        let status = if verdict.is_so { "True" } else { "False" };
        let same = before().find(|it| it["type"] == verdict.about && it["status"] == status);
        let since = same.and_then(|it| it["lastTransitionTime"].as_str()).unwrap_or(now);
        json!(Condition {
            r#type: verdict.about.to_owned(),
            status: status.to_owned(),
            reason: verdict.reason.to_owned(),
            message: verdict.message.clone(),
            observed_generation: generation,
            last_transition_time: since.to_owned(),
        })
    };
    let is_ours = |it: &Value| verdicts.iter().any(|verdict| it["type"] == verdict.about);
    let others = before().filter(|it| !is_ours(it)).cloned();
    verdicts.iter().map(condition).chain(others).collect()
}
