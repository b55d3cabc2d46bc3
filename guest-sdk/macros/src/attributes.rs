//! What stands above a field: its documentation, and `#[config(…)]`.

use syn::{Attribute, Expr, ExprLit, Lit, LitStr, Meta, Result};

/// The first paragraph of the documentation, as one line.
pub(crate) fn documentation(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value().trim().to_owned()),
            _ => None,
        },
        _ => None,
    });
    lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// What `#[config(…)]` says of a field.
#[derive(Default)]
pub(crate) struct FieldTerms {
    /// What it is where the key is absent: `default = …`.
    pub(crate) default: Option<Expr>,
    /// Its key, where that is not its name: `name = "…"`.
    pub(crate) name: Option<LitStr>,
}

impl FieldTerms {
    /// Reads them from what stands above a field.
    pub(crate) fn read(attributes: &[Attribute]) -> Result<Self> {
        let mut terms = Self::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("config")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("default") {
                    terms.default = Some(meta.value()?.parse()?);
                } else if meta.path.is_ident("name") {
                    terms.name = Some(meta.value()?.parse()?);
                } else {
                    return Err(meta.error("only `default = …` and `name = \"…\"` are known here"));
                }
                Ok(())
            })?;
        }
        Ok(terms)
    }
}
