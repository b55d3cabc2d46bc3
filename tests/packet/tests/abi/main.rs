//! The filter ABI from outside: guests in WebAssembly text that were written from
//! `guest-sdk/abi/ABI.md` alone, and what the document says of the host.

mod document;
mod doorman;
mod promises;
mod v1;
