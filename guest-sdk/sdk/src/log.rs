//! What a filter says. The host cuts a talkative filter short: there is no need
//! to count lines.
//!
//! ```
//! use millrace_filter::log;
//!
//! fn loaded(entries: usize) {
//!     log::info!("{entries} entries loaded");
//! }
//! ```

use std::fmt;

use crate::abi::names::log_level;
use crate::host;

/// Says that something failed.
#[macro_export]
#[doc(hidden)]
macro_rules! __error { ($($text:tt)*) => { $crate::log::write($crate::log::ERROR, format_args!($($text)*)) }; }
/// Says that something is odd.
#[macro_export]
#[doc(hidden)]
macro_rules! __warn { ($($text:tt)*) => { $crate::log::write($crate::log::WARN, format_args!($($text)*)) }; }
/// Says something worth knowing.
#[macro_export]
#[doc(hidden)]
macro_rules! __info { ($($text:tt)*) => { $crate::log::write($crate::log::INFO, format_args!($($text)*)) }; }
/// Says something worth knowing while looking for a fault.
#[macro_export]
#[doc(hidden)]
macro_rules! __debug { ($($text:tt)*) => { $crate::log::write($crate::log::DEBUG, format_args!($($text)*)) }; }

#[doc(inline)]
pub use crate::{__debug as debug, __error as error, __info as info, __warn as warn};

/// How bad a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(pub(crate) u32);

/// Something failed.
pub const ERROR: Level = Level(log_level::ERROR);
/// Something is odd.
pub const WARN: Level = Level(log_level::WARN);
/// Worth knowing.
pub const INFO: Level = Level(log_level::INFO);
/// Worth knowing while looking for a fault.
pub const DEBUG: Level = Level(log_level::DEBUG);

/// Writes a line; the macros are shorter.
pub fn write(level: Level, text: fmt::Arguments<'_>) {
    match text.as_str() {
        Some(text) => host::log(level.0, text),
        None => host::log(level.0, &text.to_string()),
    }
}
