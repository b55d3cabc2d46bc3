//! What can go wrong while a guest runs, grouped by what it says about the guest.

use std::fmt;

use wasmtime::{Trap, WasmBacktrace};

/// A call that did not end well. The instance must not be called again: its
/// stack pointer and heap are wherever the call left them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kind of fault it is; a metric label.
    pub class: FaultClass,
    /// For people: what happened, in which of the guest's functions, at which line
    /// where the module carries debug information.
    pub detail: String,
}

/// Kinds of [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultClass {
    /// The guest trapped: a panic, an `unreachable`, an access out of bounds.
    Trap,
    /// The call took longer than it may.
    Deadline,
    /// The guest needed more memory than it may have.
    Memory,
    /// The guest's calls nested too deeply.
    Stack,
    /// A hook returned a value other than 0.
    Refused,
    /// An answer was out of range, or beyond the filter's capabilities.
    Answer,
}

impl FaultClass {
    /// Every class.
    pub const ALL: [Self; 6] =
        [Self::Trap, Self::Deadline, Self::Memory, Self::Stack, Self::Refused, Self::Answer];

    /// The word used in metrics and tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::Stack => "stack",
            Self::Refused => "refused",
            Self::Answer => "answer",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class.label(), self.detail)
    }
}

impl std::error::Error for Fault {}

impl Fault {
    /// A hook's own complaint.
    pub(crate) fn refused(code: i32, said: Option<String>) -> Self {
        let detail = said.unwrap_or_else(|| format!("returned {code} without saying why"));
        Self { class: FaultClass::Refused, detail }
    }

    /// Reads what wasmtime returned.
    ///
    /// `said` is the text of the guest's last `fail`, such as a panic message;
    /// `out_of_memory` whether the guest was refused memory during the call.
    pub(crate) fn from_trap(
        error: &wasmtime::Error,
        said: Option<String>,
        out_of_memory: bool,
    ) -> Self {
        let trap = error.downcast_ref::<Trap>().copied();
        let class = match trap {
            _ if out_of_memory => FaultClass::Memory,
            Some(Trap::Interrupt) => FaultClass::Deadline,
            Some(Trap::StackOverflow) => FaultClass::Stack,
            _ => FaultClass::Trap,
        };
        let mut detail = match (said, trap) {
            (Some(said), _) => said,
            (None, Some(Trap::Interrupt)) => "ran longer than its deadline".to_owned(),
            (None, Some(trap)) => trap.to_string(),
            (None, None) => error.root_cause().to_string(),
        };
        if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
            describe(backtrace, &mut detail);
        }
        Self { class, detail }
    }
}

/// Adds where in the guest it happened: the innermost function that is not part of
/// the panic machinery, with its line where the module says so.
fn describe(backtrace: &WasmBacktrace, detail: &mut String) {
    let machinery = ["panic", "rust_", "abort", "core::", "std::", "alloc::", "__rust", "__rustc"];
    let frames = backtrace.frames();
    let told = |frame: &&wasmtime::FrameInfo| {
        frame.symbols().iter().any(|s| s.line().is_some())
            || frame.func_name().is_some_and(|name| !machinery.iter().any(|m| name.contains(m)))
    };
    let Some(frame) = frames.iter().find(told).or(frames.first()) else { return };
    let symbol = frame.symbols().iter().find(|symbol| {
        symbol.name().is_some_and(|name| !machinery.iter().any(|m| name.starts_with(m)))
            && symbol.file().is_some()
    });
    let name = symbol.and_then(|s| s.name()).or(frame.func_name());
    match name {
        Some(name) => *detail += &format!(", in `{name}`"),
        None => *detail += &format!(", in function {}", frame.func_index()),
    }
    if let Some(symbol) = symbol
        && let (Some(file), Some(line)) = (symbol.file(), symbol.line())
    {
        *detail += &format!(" at {file}:{line}");
    }
}
