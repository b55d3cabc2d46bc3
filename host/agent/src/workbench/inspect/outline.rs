//! The parts of a module that the contract does not speak of all together: what it imports and
//! exports, and the memory it starts with.

use serde::Serialize;
use wasmparser::{BinaryReaderError, Parser, Payload};

/// What a module imports, exports and starts with.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Outline {
    /// `module.name` of each import.
    pub(super) imports: Vec<String>,
    /// The name of each export.
    pub(super) exports: Vec<String>,
    /// Bytes of memory.
    pub(super) memory: u64,
}

impl Outline {
    /// Reads a module.
    ///
    /// # Errors
    /// If it is none.
    pub(super) fn read(module: &[u8]) -> Result<Self, BinaryReaderError> {
        let mut outline = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        let import = import?;
                        outline.imports.push(format!("{}.{}", import.module, import.name));
                    }
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        outline.exports.push(export?.name.to_owned());
                    }
                }
                Payload::MemorySection(memories) => {
                    for memory in memories {
                        outline.memory += memory?.initial.saturating_mul(PAGE);
                    }
                }
                _ => {}
            }
        }
        Ok(outline)
    }
}

/// Bytes of a page of memory.
const PAGE: u64 = 64 << 10;
