//! `#[derive(Record)]`: a struct as bytes of a fixed length, field after field.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, Result};

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(input, "a record is a struct"));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(Error::new_spanned(input, "a record's fields need names"));
    };
    let name = &input.ident;
    let (types, idents): (Vec<_>, Vec<_>) =
        fields.named.iter().map(|field| (&field.ty, &field.ident)).unzip();
    let keys = idents.iter().map(|ident| quote!(#ident).to_string());
    Ok(quote! {
        impl ::millrace_filter::Record for #name {
            const LEN: usize = 0 #(+ <#types as ::millrace_filter::record::Field>::LEN)*;
            type Bytes = [u8; <Self as ::millrace_filter::Record>::LEN];
            const ZEROS: Self::Bytes = [0; <Self as ::millrace_filter::Record>::LEN];
            const FIELDS: &'static [::millrace_filter::record::Column] = &[
                #(::millrace_filter::record::Column {
                    name: #keys,
                    kind: <#types as ::millrace_filter::record::Field>::KIND,
                }),*
            ];

            #[inline]
            fn write(&self, bytes: &mut [u8]) {
                let mut at = 0;
                #(
                    let end = at + <#types as ::millrace_filter::record::Field>::LEN;
                    ::millrace_filter::record::Field::write(&self.#idents, &mut bytes[at..end]);
                    at = end;
                )*
                debug_assert_eq!(at, Self::LEN);
            }

            #[inline]
            fn read(bytes: &[u8]) -> Self {
                let mut at = 0;
                #(
                    let end = at + <#types as ::millrace_filter::record::Field>::LEN;
                    let #idents = ::millrace_filter::record::Field::read(&bytes[at..end]);
                    at = end;
                )*
                debug_assert_eq!(at, Self::LEN);
                Self { #(#idents),* }
            }
        }
    })
}
