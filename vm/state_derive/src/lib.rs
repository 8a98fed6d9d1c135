//! `#[derive(SavedState)]`: numbered, typed fields for the `state` crate.
//!
//! Each field carries `#[n(1)]`, its number in the stream. Numbers are never used twice; a field
//! that an older stream lacks gets its `Default`, one that a newer stream adds is skipped.

use proc_macro::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Field, Fields, Ident, LitInt, parse_macro_input};

/// Implements `state::SavedState` for a struct with named, numbered fields.
#[proc_macro_derive(SavedState, attributes(n))]
pub fn saved_state(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(Error::into_compile_error).into()
}

fn expand(input: &DeriveInput) -> Result<proc_macro2::TokenStream, Error> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(input, "SavedState needs a struct"));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(Error::new_spanned(input, "SavedState needs named fields"));
    };
    let numbered = fields.named.iter().map(number).collect::<Result<Vec<_>, _>>()?;
    let mut seen = std::collections::HashSet::new();
    for (ident, n) in &numbered {
        if !seen.insert(n) {
            return Err(Error::new_spanned(ident, format!("field number {n} is used twice")));
        }
    }
    let (idents, numbers): (Vec<_>, Vec<_>) = numbered.iter().cloned().unzip();
    let texts: Vec<_> = idents.iter().map(ToString::to_string).collect();
    let name = &input.ident;
    let (generics, types, bounds) = input.generics.split_for_impl();
    Ok(quote! {
        impl #generics ::state::SavedState for #name #types #bounds {
            fn save(&self) -> ::state::Value {
                ::state::Value::Record(vec![
                    #((#numbers, ::state::Saved::to_value(&self.#idents)),)*
                ])
            }
            fn restore(&mut self, value: &::state::Value) -> Result<(), ::state::RestoreError> {
                let record = value.record()?;
                #(let #idents = ::state::field(record, #numbers, #texts)?;)*
                #(self.#idents = #idents;)*
                Ok(())
            }
        }
        impl #generics ::state::Saved for #name #types #bounds {
            fn to_value(&self) -> ::state::Value {
                ::state::SavedState::save(self)
            }
            fn from_value(value: &::state::Value) -> Result<Self, ::state::RestoreError> {
                let mut new = <Self as ::core::default::Default>::default();
                ::state::SavedState::restore(&mut new, value)?;
                Ok(new)
            }
        }
    })
}

/// Name and number of one field.
fn number(field: &Field) -> Result<(Ident, u16), Error> {
    let ident = field.ident.clone().expect("named fields have names");
    let attribute = field
        .attrs
        .iter()
        .find(|a| a.path().is_ident("n"))
        .ok_or_else(|| Error::new_spanned(field, "give the field its number: #[n(1)]"))?;
    let n: LitInt = attribute.parse_args()?;
    Ok((ident, n.base10_parse()?))
}
