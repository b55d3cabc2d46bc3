//! What a stage is to be: a module, its configuration, and the terms it runs on.

use millrace_control::filter::{Filter, ModuleBytes, OnFault, OnRefused, StageMode};
use millrace_dataplane::control::request::StageTerms;
use millrace_dataplane::control::{Dataplane, StageError};
use millrace_dataplane::stage;

/// What is to be in a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) module: ModuleBytes,
    /// JSON.
    pub(super) config: String,
    pub(super) terms: StageTerms,
    /// Whether it is a filter, and not what stands in for one.
    pub(super) is_filter: bool,
}

impl Wanted {
    /// A filter, with its module.
    pub(super) fn of(filter: &Filter, module: ModuleBytes, mode: StageMode) -> Self {
        let config = filter.config.to_string();
        Self { module, config, terms: terms(filter, mode), is_filter: true }
    }

    /// What lets nothing pass that a filter would be asked about.
    pub(super) fn closed(filter: &Filter) -> Self {
        let module = millrace_builtin::find(CLOSED).expect("the agent has the examples").bytes;
        let usual = StageTerms::default();
        let kinds = filter.kinds.clone();
        Self {
            module: ModuleBytes::from(module.to_vec()),
            // a rule that states nothing is about everything
            config: r#"{"rules":[{}]}"#.to_owned(),
            terms: StageTerms { kinds, on_refused: on_refused(filter.on_refused), ..usual },
            is_filter: false,
        }
    }

    /// Whether it is another version than this one for a stage, which counts those: another mode makes none.
    pub(super) fn is_another_version(&self, before: &Self) -> bool {
        self.module != before.module || self.config != before.config || self.has_other_terms(before)
    }

    /// Puts it into a stage that has something else; says what that took.
    pub(super) fn replace(
        &self,
        before: &Self,
        plane: &Dataplane,
        name: &str,
    ) -> Result<&'static str, StageError> {
        if self.has_other_terms(before) {
            let Self { module, config, terms, .. } = self;
            plane.renew(name, module.bytes(), config, terms.clone())?;
            return Ok("runs on other terms");
        }
        let mut done = "swapped";
        if self.module != before.module {
            plane.swap(name, self.module.bytes(), Some(&self.config))?;
        } else if self.config != before.config {
            plane.configure(name, &self.config)?;
            done = "configured";
        }
        if self.terms.mode != before.terms.mode {
            plane.set_mode(name, self.terms.mode)?;
        }
        Ok(done)
    }

    fn has_other_terms(&self, before: &Self) -> bool {
        self.terms != (StageTerms { mode: self.terms.mode, ..before.terms.clone() })
    }
}

fn terms(filter: &Filter, mode: StageMode) -> StageTerms {
    let usual = StageTerms::default();
    StageTerms {
        ports: usual.ports,
        kinds: filter.kinds.clone(),
        on_fault: match filter.on_fault {
            OnFault::Closed => stage::OnFault::Closed,
            OnFault::Open => stage::OnFault::Open,
        },
        on_refused: on_refused(filter.on_refused),
        mode: match mode {
            StageMode::Enforce => stage::Mode::Enforce,
            StageMode::Shadow => stage::Mode::Shadow,
        },
        capabilities: filter.capabilities.unwrap_or(usual.capabilities),
        memory: filter.memory.map_or(usual.memory, |bytes| bytes as usize),
        deadline: filter.deadline.unwrap_or(usual.deadline),
    }
}

fn on_refused(said: OnRefused) -> stage::OnRefused {
    match said {
        OnRefused::Drop => stage::OnRefused::Drop,
        OnRefused::Keep => stage::OnRefused::Keep,
        OnRefused::Reset => stage::OnRefused::Reset,
    }
}

/// The example that drops what its rules say.
const CLOSED: &str = "deny-list";
