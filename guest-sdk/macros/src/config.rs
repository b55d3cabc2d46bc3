//! `#[derive(Config)]`: reads a struct, or an enum of words, from JSON, and
//! writes its schema at compile time.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DataEnum, DataStruct, DeriveInput, Error, Fields, Ident, Result};

use crate::attributes::{FieldTerms, documentation};

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(&input.generics, "a configuration has no parameters"));
    }
    match &input.data {
        Data::Struct(data) => structure(&input.ident, data),
        Data::Enum(data) => words(&input.ident, data),
        Data::Union(data) => Err(Error::new_spanned(data.union_token, "a union has no JSON form")),
    }
}

fn structure(name: &Ident, data: &DataStruct) -> Result<TokenStream> {
    let fields = match &data.fields {
        Fields::Named(fields) => &fields.named,
        Fields::Unit => return structure_of(name, &[], &[], &[]),
        Fields::Unnamed(fields) => {
            return Err(Error::new_spanned(fields, "a configuration's fields need names"));
        }
    };

    let (mut schemas, mut keys, mut reads) = (Vec::new(), Vec::new(), Vec::new());
    for field in fields {
        let ident = field.ident.as_ref().expect("named fields have names");
        let FieldTerms { default, name } = FieldTerms::read(&field.attrs)?;
        let key = match name {
            Some(name) => name.value(),
            None => ident.to_string().trim_start_matches("r#").to_owned(),
        };
        let (ty, help) = (&field.ty, documentation(&field.attrs));
        let optional = match &default {
            Some(_) => quote!(true),
            None => quote!(<#ty as ::millrace_filter::Config>::OPTIONAL),
        };
        schemas.push(quote! {
            .property(#key, #help, #optional, &<#ty as ::millrace_filter::Config>::SCHEMA)
        });
        reads.push(match default {
            Some(value) => quote!(#ident: object.field_or(#key, || #value)?),
            None => quote!(#ident: object.field(#key)?),
        });
        keys.push(key);
    }
    structure_of(name, &schemas, &keys, &reads)
}

fn structure_of(
    name: &Ident,
    schemas: &[TokenStream],
    keys: &[String],
    reads: &[TokenStream],
) -> Result<TokenStream> {
    Ok(quote! {
        impl ::millrace_filter::Config for #name {
            const SCHEMA: ::millrace_filter::config::Schema =
                ::millrace_filter::config::ObjectSchema::new() #(#schemas)* .finish();

            fn read(
                value: &::millrace_filter::config::Value,
                at: &::millrace_filter::config::Place<'_>,
            ) -> ::core::result::Result<Self, ::millrace_filter::Error> {
                let object = at.object(value, &[#(#keys),*])?;
                ::core::result::Result::Ok(Self { #(#reads),* })
            }
        }
    })
}

fn words(name: &Ident, data: &DataEnum) -> Result<TokenStream> {
    let mut words = Vec::new();
    let mut variants = Vec::new();
    for variant in &data.variants {
        if !matches!(variant.fields, Fields::Unit) {
            return Err(Error::new_spanned(variant, "a word of a configuration has no fields"));
        }
        words.push(kebab(&variant.ident.to_string()));
        variants.push(&variant.ident);
    }
    Ok(quote! {
        impl ::millrace_filter::Config for #name {
            const SCHEMA: ::millrace_filter::config::Schema =
                ::millrace_filter::config::Schema::words(&[#(#words),*]);

            fn read(
                value: &::millrace_filter::config::Value,
                at: &::millrace_filter::config::Place<'_>,
            ) -> ::core::result::Result<Self, ::millrace_filter::Error> {
                match at.word(value, &[#(#words),*])? {
                    #(#words => ::core::result::Result::Ok(Self::#variants),)*
                    _ => ::core::unreachable!("`word` returns one of the words"),
                }
            }
        }
    })
}

/// `FooBar` as `foo-bar`.
fn kebab(name: &str) -> String {
    let mut word = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !word.is_empty() {
            word.push('-');
        }
        word.extend(c.to_lowercase());
    }
    word
}
