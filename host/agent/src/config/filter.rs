//! A filter as the command line and the configuration file name it: where its module and
//! its configuration are to be found.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};
use millrace_abi::limits;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::api::types::{LoadFilter, Module, Position, Terms, Wasm, not_built_in};

/// A filter of the chain.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FilterSpec {
    /// The name of its stage: what `millrace filter` calls it.
    pub(crate) name: String,
    /// Its module: the name of a built-in filter, or the path of a module (which has a `/` in it
    /// or ends in `.wasm`). In a file, paths are relative to the file's folder.
    pub(crate) module: ModuleSource,
    /// Its configuration: a mapping, or the path of a JSON file.
    #[serde(default)]
    pub(crate) config: ConfigSource,
    /// The terms it runs on.
    #[serde(default)]
    pub(crate) terms: Terms,
}

/// Where a module is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ModuleSource {
    /// The host has it.
    BuiltIn(String),
    /// In a file.
    File(PathBuf),
}

/// Where a configuration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConfigSource {
    /// Here.
    Inline(Value),
    /// In a file.
    File(PathBuf),
}

impl FilterSpec {
    /// Makes paths relative to `folder`.
    pub(crate) fn anchor(&mut self, folder: &Path) {
        if let ModuleSource::File(path) = &mut self.module {
            *path = folder.join(&*path);
        }
        if let ConfigSource::File(path) = &mut self.config {
            *path = folder.join(&*path);
        }
    }

    /// Reads what is to be loaded.
    pub(crate) fn read(self) -> anyhow::Result<LoadFilter> {
        let read = || anyhow::Ok((self.module.read()?, self.config.read()?));
        let (module, config) = read().with_context(|| format!("filter `{}`", self.name))?;
        Ok(LoadFilter {
            name: self.name,
            module,
            config,
            position: Position::Last,
            terms: self.terms,
        })
    }
}

impl FromStr for FilterSpec {
    type Err = String;

    /// Reads `[NAME=]MODULE[:CONFIG]`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (head, config) = match text.split_once(':') {
            Some((head, config)) => (head, config.parse()?),
            None => (text, ConfigSource::default()),
        };
        let (name, module) = match head.split_once('=') {
            Some((name, module)) => (name.to_owned(), module.parse()?),
            None => {
                let module: ModuleSource = head.parse()?;
                (module.usual_name(), module)
            }
        };
        Ok(Self { name, module, config, terms: Terms::default() })
    }
}

impl ModuleSource {
    /// Reads the module, if it is in a file.
    pub(crate) fn read(&self) -> anyhow::Result<Module> {
        match self {
            Self::BuiltIn(name) => Ok(Module::BuiltIn(name.clone())),
            Self::File(path) => {
                let bytes = read_at_most(path, limits::MAX_MODULE)
                    .with_context(|| format!("module {}", path.display()))?;
                Ok(Module::Wasm(Wasm(bytes)))
            }
        }
    }

    /// What a stage with this module is called unless said otherwise.
    fn usual_name(&self) -> String {
        match self {
            Self::BuiltIn(name) => name.clone(),
            Self::File(path) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }
}

impl FromStr for ModuleSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('/') || text.ends_with(".wasm") {
            return Ok(Self::File(text.into()));
        }
        if millrace_builtin::find(text).is_none() {
            return Err(format!(
                "no built-in filter is called {}; the path of a module has a `/` in it or ends in \
                 `.wasm`",
                not_built_in(text)
            ));
        }
        Ok(Self::BuiltIn(text.to_owned()))
    }
}

impl fmt::Display for ModuleSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(name) => f.write_str(name),
            Self::File(path) => fmt::Display::fmt(&path.display(), f),
        }
    }
}

impl<'de> Deserialize<'de> for ModuleSource {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        crate::text::deserialize(from)
    }
}

impl ConfigSource {
    /// Reads the configuration, if it is in a file.
    pub(crate) fn read(&self) -> anyhow::Result<Value> {
        match self {
            Self::Inline(value) => Ok(value.clone()),
            Self::File(path) => {
                let read = || {
                    let bytes = read_at_most(path, limits::MAX_CONFIG)?;
                    anyhow::Ok(serde_json::from_slice(&bytes)?)
                };
                read().with_context(|| format!("configuration {}", path.display()))
            }
        }
    }
}

impl Default for ConfigSource {
    /// No configuration is an empty one.
    fn default() -> Self {
        Self::Inline(json!({}))
    }
}

impl FromStr for ConfigSource {
    type Err = String;

    /// Reads JSON, `@FILE`, or the path of a file.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim_start().starts_with('{') {
            let value = serde_json::from_str(text);
            return value
                .map(Self::Inline)
                .map_err(|error| format!("`{text}` is not JSON: {error}"));
        }
        match text.strip_prefix('@').unwrap_or(text) {
            "" => Err("it is JSON, as in `{\"rules\": []}`, or the path of a JSON file".into()),
            path => Ok(Self::File(path.into())),
        }
    }
}

impl<'de> Deserialize<'de> for ConfigSource {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Value::deserialize(from)? {
            Value::String(text) => text.parse().map_err(serde::de::Error::custom),
            Value::Null => Ok(Self::default()),
            value => Ok(Self::Inline(value)),
        }
    }
}

/// The whole file, unless it is too long to be what it should be.
pub(crate) fn read_at_most(path: &Path, most: usize) -> anyhow::Result<Vec<u8>> {
    let size = fs::metadata(path)?.len();
    if size > most as u64 {
        bail!("it has {size} bytes, and may have {most}");
    }
    Ok(fs::read(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> FilterSpec {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_filter_is_read_from_its_flag() {
        let plain = read("bridge");
        assert_eq!(
            (&*plain.name, &plain.module),
            ("bridge", &ModuleSource::BuiltIn("bridge".into()))
        );
        assert_eq!(plain.config, ConfigSource::Inline(json!({})));

        let named = read(r#"deny=deny-list:{"rules": [{"from": "fd00::/8", "port": 22}]}"#);
        assert_eq!(
            (&*named.name, &named.module),
            ("deny", &ModuleSource::BuiltIn("deny-list".into()))
        );
        let config = json!({"rules": [{"from": "fd00::/8", "port": 22}]});
        assert_eq!(named.config, ConfigSource::Inline(config));

        let file = read("./out/mine.wasm:@mine.json");
        assert_eq!(
            (&*file.name, &file.module),
            ("mine", &ModuleSource::File("./out/mine.wasm".into()))
        );
        assert_eq!(file.config, ConfigSource::File("mine.json".into()));
        assert_eq!(read("x=mine.wasm:a/b.json").config, ConfigSource::File("a/b.json".into()));
    }

    #[test]
    fn a_wrong_filter_says_what_is_wrong_with_it() {
        for (text, complaint) in [
            ("x=firewall", "no built-in filter is called `firewall`; there are bridge, policy,"),
            ("brigde", "did you mean `bridge`?"),
            ("bridge:", "the path of a JSON file"),
            ("bridge:{rules}", "is not JSON"),
        ] {
            let error = text.parse::<FilterSpec>().unwrap_err();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named_with_its_filter() {
        let error = read("x=missing.wasm").read().unwrap_err();
        let text = format!("{error:#}");
        assert!(text.starts_with("filter `x`: module missing.wasm: No such file"), "{text}");
    }

    #[test]
    fn paths_are_relative_to_where_they_are_written() {
        let mut filter = read("x=a/b.wasm:/etc/c.json");
        filter.anchor(Path::new("/conf"));
        assert_eq!(filter.module, ModuleSource::File("/conf/a/b.wasm".into()));
        assert_eq!(filter.config, ConfigSource::File("/etc/c.json".into()));
    }
}
