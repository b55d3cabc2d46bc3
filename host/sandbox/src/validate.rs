//! What a module must be before anything of it is compiled.
//!
//! Reads the module's sections and compares its imports and exports with the
//! contract. Each refusal says what is wrong and how to mend it.

use std::collections::BTreeMap;

use millrace_abi::names::{MANIFEST_SECTION, export, import};
use millrace_abi::{Capability, limits};
use wasmparser::{
    Encoding, ExternalKind, FuncType, Parser, Payload, TypeRef, ValType, Validator, WasmFeatures,
};

use crate::manifest::{Hook, Manifest, ManifestError};

/// Why a module is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is larger than a module may be.
    #[error("it has {len} bytes; the limit is {limit}; strip debug information (`--strip-debug`)")]
    TooLarge {
        /// Its size in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// It is not WebAssembly at all.
    #[error("it is not a WebAssembly module: it does not begin with `\\0asm`")]
    NotWasm,
    /// It is a component.
    #[error(
        "it is a WebAssembly component; filters are core modules: build for \
         `wasm32-unknown-unknown`"
    )]
    Component,
    /// It is cut off, or breaks the rules of WebAssembly.
    #[error("it is not a valid module: {0}")]
    Invalid(String),
    /// Its manifest is missing or wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// It lacks an export.
    #[error("it does not export `{name}` {signature}{remedy}")]
    MissingExport {
        /// The export.
        name: &'static str,
        /// Its signature.
        signature: String,
        /// What to do.
        remedy: &'static str,
    },
    /// It has an export of another type.
    #[error("its export `{name}` has the signature {found}; it must have {expected}")]
    ExportSignature {
        /// The export.
        name: &'static str,
        /// What it has.
        found: String,
        /// What it must have.
        expected: String,
    },
    /// It imports what the host does not offer.
    #[error(
        "it imports `{module}.{name}`, which the host does not offer; there are {known}{hint}",
        known = known_imports(),
        hint = import_hint(module)
    )]
    UnknownImport {
        /// The import's module.
        module: String,
        /// The import's name.
        name: String,
    },
    /// It imports something by another type.
    #[error("it imports `{name}` as {found}; the host offers {expected}")]
    ImportSignature {
        /// The import.
        name: &'static str,
        /// What the module expects.
        found: String,
        /// What the host offers.
        expected: String,
    },
    /// Its memory starts larger than it may get.
    #[error(
        "its memory starts with {wanted} bytes; the limit is {limit}; raise the filter's memory \
         limit or link it with a smaller `--initial-memory`"
    )]
    MemoryTooLarge {
        /// What it starts with, in bytes.
        wanted: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// It has an export for a hook that the manifest does not name, or the reverse.
    #[error("its manifest {claims} the hook `{hook}` and it {has} `{export}`; make the two agree")]
    HookMismatch {
        /// The hook.
        hook: &'static str,
        /// The export.
        export: &'static str,
        /// "names" or "does not name".
        claims: &'static str,
        /// "exports" or "does not export".
        has: &'static str,
    },
    /// It imports something that its capabilities do not cover.
    #[error("it imports `{name}` and does not want the capability `{capability}` in its manifest")]
    Undeclared {
        /// The import.
        name: &'static str,
        /// What it needs.
        capability: &'static str,
    },
}

/// What WebAssembly a filter may be made of.
pub(crate) const FEATURES: WasmFeatures = WasmFeatures::MUTABLE_GLOBAL
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::SIMD)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::FLOATS)
    .union(WasmFeatures::GC_TYPES);

/// Parameters and result of a function of the contract.
type Signature = (&'static [ValType], &'static [ValType]);

const I32: ValType = ValType::I32;
const I64: ValType = ValType::I64;

/// What the host offers.
const IMPORTS: [(&str, Signature); 13] = [
    (import::LOG, (&[I32, I32, I32], &[])),
    (import::FAIL, (&[I32, I32], &[])),
    (import::NOW, (&[], &[I64])),
    (import::METRIC, (&[I32, I32, I32, I32], &[I32])),
    (import::MAP_OPEN, (&[I32, I32, I32], &[I32])),
    (import::MAP_GET, (&[I32, I32, I32], &[I32])),
    (import::MAP_SET, (&[I32, I32, I32], &[I32])),
    (import::MAP_REMOVE, (&[I32, I32], &[I32])),
    (import::MAP_ADD, (&[I32, I32, I64, I32], &[I32])),
    (import::MAP_EXCHANGE, (&[I32, I32, I32, I32], &[I32])),
    (import::MAP_GET_ALL, (&[I32; 5], &[I32])),
    (import::MAP_EXCHANGE_ALL, (&[I32; 7], &[I32])),
    (import::EMIT, (&[I32, I32, I32], &[I32])),
];

/// What every module exports.
const EXPORTS: [(&str, Signature); 2] =
    [(export::ALLOC, (&[I32], &[I32])), (export::CONFIGURE, (&[I32, I32], &[I32]))];

/// What a module exports for each hook.
const HOOKS: [(Hook, &str, Signature); 4] = [
    (Hook::Flow, export::FLOW, (&[I32, I32, I32], &[I32])),
    (Hook::Packet, export::PACKET, (&[I32, I32, I32], &[I32])),
    (Hook::Tick, export::TICK, (&[I64], &[I32])),
    (Hook::Update, export::UPDATE, (&[I32, I32], &[I32])),
];

/// Checks everything of a module that can be checked without compiling it. `memory_limit` is what
/// its instances will get at most, in bytes.
///
/// # Errors
/// The first thing that is wrong. Bytes of any kind are safe to pass.
pub fn check(bytes: &[u8], memory_limit: usize) -> Result<Manifest, Refusal> {
    if bytes.len() > limits::MAX_MODULE {
        return Err(Refusal::TooLarge { len: bytes.len(), limit: limits::MAX_MODULE });
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(Refusal::NotWasm);
    }

    let outline = Outline::read(bytes)?;

    // the manifest before the rest: "built for another ABI" explains every other difference
    let manifest = outline.manifest()?;
    outline.check_imports(&manifest)?;
    outline.check_exports(&manifest)?;
    if let Some(wanted) = outline.memory
        && wanted > memory_limit as u64
    {
        return Err(Refusal::MemoryTooLarge { wanted, limit: memory_limit as u64 });
    }
    Validator::new_with_features(FEATURES).validate_all(bytes).map_err(invalid)?;
    Ok(manifest)
}

/// The parts of a module that the contract speaks of.
#[derive(Default)]
struct Outline<'a> {
    types: Vec<Option<FuncType>>,
    imports: Vec<(&'a str, &'a str, TypeRef)>,
    /// Type of each function, imported ones first.
    functions: Vec<u32>,
    exports: BTreeMap<&'a str, (ExternalKind, u32)>,
    /// Bytes the memory starts with.
    memory: Option<u64>,
    manifests: Vec<&'a [u8]>,
}

impl<'a> Outline<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let mut outline = Self::default();
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(invalid)? {
                Payload::Version { encoding: Encoding::Component, .. } => {
                    return Err(Refusal::Component);
                }
                Payload::TypeSection(types) => {
                    for group in types {
                        for ty in group.map_err(invalid)?.into_types() {
                            let function = match ty.composite_type.inner {
                                wasmparser::CompositeInnerType::Func(function) => Some(function),
                                _ => None,
                            };
                            outline.types.push(function);
                        }
                    }
                }
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        let import = import.map_err(invalid)?;
                        if let TypeRef::Func(ty) = import.ty {
                            outline.functions.push(ty);
                        }
                        outline.imports.push((import.module, import.name, import.ty));
                    }
                }
                Payload::FunctionSection(functions) => {
                    for ty in functions {
                        outline.functions.push(ty.map_err(invalid)?);
                    }
                }
                Payload::MemorySection(memories) => {
                    for memory in memories {
                        let pages = memory.map_err(invalid)?.initial;
                        outline.memory = Some(pages.saturating_mul(64 << 10));
                    }
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export.map_err(invalid)?;
                        outline.exports.insert(export.name, (export.kind, export.index));
                    }
                }
                Payload::CustomSection(section) if section.name() == MANIFEST_SECTION => {
                    outline.manifests.push(section.data());
                }
                _ => {}
            }
        }
        Ok(outline)
    }

    fn manifest(&self) -> Result<Manifest, ManifestError> {
        match self.manifests.as_slice() {
            [] => Err(ManifestError::Missing),
            [one] => Manifest::parse(one),
            _ => Err(ManifestError::Repeated),
        }
    }

    fn check_imports(&self, manifest: &Manifest) -> Result<(), Refusal> {
        for &(module, name, ty) in &self.imports {
            let offered = IMPORTS
                .into_iter()
                .find(|&(offered, _)| module == import::MODULE && name == offered);
            let (Some((name, expected)), TypeRef::Func(ty)) = (offered, ty) else {
                let (module, name) = (printable(module), printable(name));
                return Err(Refusal::UnknownImport { module, name });
            };
            let found = self.signature(ty);
            if found != print(expected) {
                return Err(Refusal::ImportSignature { name, found, expected: print(expected) });
            }
            if name == import::EMIT && !manifest.capabilities().contains(Capability::Emit) {
                return Err(Refusal::Undeclared { name, capability: Capability::Emit.label() });
            }
        }
        Ok(())
    }

    fn check_exports(&self, manifest: &Manifest) -> Result<(), Refusal> {
        if !matches!(self.exports.get(export::MEMORY), Some((ExternalKind::Memory, _))) {
            return Err(Refusal::MissingExport {
                name: export::MEMORY,
                signature: "(a memory)".to_owned(),
                remedy: "; the linker does so unless told `--import-memory` or `--no-export-memory`",
            });
        }
        for (name, signature) in EXPORTS {
            self.check_export(name, signature)?;
        }
        for (hook, name, signature) in HOOKS {
            let mismatch = |claims, has| Refusal::HookMismatch {
                hook: hook.label(),
                export: name,
                claims,
                has,
            };
            match (manifest.has(hook), self.exports.contains_key(name)) {
                (true, true) => self.check_export(name, signature)?,
                (true, false) => return Err(mismatch("names", "does not export")),
                (false, true) => return Err(mismatch("does not name", "exports")),
                (false, false) => {}
            }
        }
        Ok(())
    }

    fn check_export(&self, name: &'static str, expected: Signature) -> Result<(), Refusal> {
        let Some(&(ExternalKind::Func, index)) = self.exports.get(name) else {
            let remedy = "; with the Rust SDK, `filter!` exports it";
            return Err(Refusal::MissingExport { name, signature: print(expected), remedy });
        };
        let ty = self.functions.get(index as usize).copied().unwrap_or(u32::MAX);
        let found = self.signature(ty);
        if found != print(expected) {
            return Err(Refusal::ExportSignature { name, found, expected: print(expected) });
        }
        Ok(())
    }

    /// The signature of function type `ty`, printed.
    fn signature(&self, ty: u32) -> String {
        match self.types.get(ty as usize) {
            Some(Some(function)) => print((function.params(), function.results())),
            _ => "no function type".to_owned(),
        }
    }
}

fn print((params, results): (&[ValType], &[ValType])) -> String {
    let list =
        |types: &[ValType]| types.iter().map(|ty| ty.to_string()).collect::<Vec<_>>().join(", ");
    match results {
        [] => format!("({})", list(params)),
        _ => format!("({}) -> {}", list(params), list(results)),
    }
}

fn known_imports() -> String {
    IMPORTS.map(|(name, _)| format!("`{}.{name}`", import::MODULE)).join(", ")
}

fn import_hint(module: &str) -> &'static str {
    match module {
        m if m.starts_with("wasi") => "; filters have no WASI: build for `wasm32-unknown-unknown`",
        "env" => {
            "; an undefined symbol became an import: link with `--no-allow-undefined` to find it"
        }
        m if m.contains("wbindgen") => "; filters have no JavaScript: remove wasm-bindgen",
        _ => "",
    }
}

/// Names come from the module: cut and cleaned for terminals.
fn printable(name: &str) -> String {
    name.chars().take(80).flat_map(char::escape_default).collect()
}

fn invalid(error: wasmparser::BinaryReaderError) -> Refusal {
    Refusal::Invalid(error.to_string())
}
