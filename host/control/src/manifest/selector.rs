//! Label selectors (`metav1.LabelSelector`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Labels;
use crate::manifest::{FieldError, FieldPath, is_default};
use crate::policy::{Operator, Requirement, Selector};

#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SelectorSpec {
    /// Labels that there are, with these values.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend(
        "maxProperties" = MOST,
        "additionalProperties" = { "type": "string", "maxLength": MOST_OF_A_VALUE },
    ))]
    match_labels: Labels,
    /// What else has to hold of labels.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("maxItems" = MOST, "x-kubernetes-list-type" = "atomic"))]
    match_expressions: Vec<ExpressionSpec>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
    "message": "`In` and `NotIn` need one value at least, and the others have none",
}]))]
struct ExpressionSpec {
    /// The label's key.
    #[schemars(extend("minLength" = 1, "maxLength" = 317))]
    key: String,
    /// What has to hold of it.
    operator: OperatorWord,
    /// The values that it is of, or none of.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend(
        "maxItems" = MOST,
        "x-kubernetes-list-type" = "atomic",
        "items" = { "type": "string", "maxLength": MOST_OF_A_VALUE },
    ))]
    values: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
enum OperatorWord {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl SelectorSpec {
    /// The selector, which was read from this field.
    pub(super) fn read(self, field: &FieldPath) -> Result<Selector, FieldError> {
        let field = field.clone().key("matchExpressions");
        let each = self.match_expressions.into_iter().enumerate();
        let expressions = each.map(|(at, it)| it.read(&field.clone().index(at)));
        Ok(Selector {
            labels: self.match_labels,
            expressions: expressions.collect::<Result<_, _>>()?,
        })
    }
}

impl ExpressionSpec {
    fn read(self, field: &FieldPath) -> Result<Requirement, FieldError> {
        let values = |wanted: bool, reason: &str| match self.values.is_empty() {
            empty if empty != wanted => Ok(()),
            _ => Err(FieldError { field: field.clone().key("values"), reason: reason.to_owned() }),
        };
        let operator = match self.operator {
            OperatorWord::In | OperatorWord::NotIn => {
                values(true, "`In` and `NotIn` need one value at least")?;
                match self.operator {
                    OperatorWord::In => Operator::In(self.values),
                    _ => Operator::NotIn(self.values),
                }
            }
            OperatorWord::Exists | OperatorWord::DoesNotExist => {
                values(false, "`Exists` and `DoesNotExist` have no values")?;
                match self.operator {
                    OperatorWord::Exists => Operator::Exists,
                    _ => Operator::DoesNotExist,
                }
            }
        };
        if self.key.is_empty() {
            let reason = "a label's key is not empty".to_owned();
            return Err(FieldError { field: field.clone().key("key"), reason });
        }
        Ok(Requirement { key: self.key, operator })
    }
}

impl From<&Selector> for SelectorSpec {
    fn from(selector: &Selector) -> Self {
        let expression = |it: &Requirement| {
            let (operator, values) = match &it.operator {
                Operator::In(values) => (OperatorWord::In, values.clone()),
                Operator::NotIn(values) => (OperatorWord::NotIn, values.clone()),
                Operator::Exists => (OperatorWord::Exists, Vec::new()),
                Operator::DoesNotExist => (OperatorWord::DoesNotExist, Vec::new()),
            };
            ExpressionSpec { key: it.key.clone(), operator, values }
        };
        Self {
            match_labels: selector.labels.clone(),
            match_expressions: selector.expressions.iter().map(expression).collect(),
        }
    }
}

/// Of what a selector names of one sort, in our own kinds.
const MOST: usize = 64;
/// Letters of a label's value.
const MOST_OF_A_VALUE: usize = 63;
