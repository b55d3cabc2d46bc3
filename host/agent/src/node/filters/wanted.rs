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
}

impl Wanted {
    /// A filter, with its module.
    pub(super) fn of(filter: &Filter, module: ModuleBytes, mode: StageMode) -> Self {
        Self { module, config: filter.config.to_string(), terms: terms(filter, mode) }
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
        }
    }

    /// Puts it into a stage that has something else; says what that took.
    pub(super) fn replace(
        &self,
        before: &Self,
        plane: &Dataplane,
        name: &str,
    ) -> Result<&'static str, StageError> {
        let mode = self.terms.mode;
        if self.terms != (StageTerms { mode, ..before.terms.clone() }) {
            let Self { module, config, terms } = self;
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
        if mode != before.terms.mode {
            plane.set_mode(name, mode)?;
        }
        Ok(done)
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
