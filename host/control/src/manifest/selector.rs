//! Label selectors (`metav1.LabelSelector`).

use serde::{Deserialize, Serialize};

use crate::Labels;
use crate::manifest::{FieldError, FieldPath, is_default};
use crate::policy::{Operator, Requirement, Selector};

#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SelectorSpec {
    #[serde(skip_serializing_if = "is_default")]
    match_labels: Labels,
    #[serde(skip_serializing_if = "is_default")]
    match_expressions: Vec<ExpressionSpec>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct ExpressionSpec {
    key: String,
    operator: OperatorWord,
    #[serde(default, skip_serializing_if = "is_default")]
    values: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
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
