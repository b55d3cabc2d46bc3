//! The derive macros of `millrace-filter`, which re-exports and documents them.
#![forbid(unsafe_code)]

mod attributes;
mod config;
mod record;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// See `millrace_filter::Config`.
#[proc_macro_derive(Config, attributes(config))]
pub fn config(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    config::derive(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// See `millrace_filter::Record`.
#[proc_macro_derive(Record)]
pub fn record(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    record::derive(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}
