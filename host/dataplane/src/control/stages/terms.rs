//! Stages that run on other terms than before.

use super::{StageError, StageRecord, Stages, VersionRecord};
use crate::control::request::StageTerms;
use crate::io::Io;

impl<I: Io + 'static> Stages<I> {
    /// Puts a module into a stage, with this configuration and on these terms, in place of those in
    /// force. `ports` knows the numbers of ports by name.
    ///
    /// # Errors
    /// As [`Stages::load`].
    pub fn renew(
        &mut self,
        name: &str,
        module: &[u8],
        config: &str,
        terms: StageTerms,
        ports: &dyn Fn(&str) -> Option<u16>,
    ) -> Result<(), StageError> {
        let at = self.find(name)?;
        let module = self.sandbox.load(module, terms.memory)?;
        let next = VersionRecord::new(self.records[at].versions + 1, module, config)?;
        let found = terms.ports.iter().filter_map(|port| ports(port)).collect();
        let before = self.records[at].exchange_terms(terms, found);
        match self.put_in_force(at, next) {
            Ok(version) => {
                self.records[at].previous = Some(version);
                self.publish_spec(at)
            }
            Err(error) => {
                let (terms, ports) = before;
                self.records[at].exchange_terms(terms, ports);
                Err(error)
            }
        }
    }
}

impl StageRecord {
    fn exchange_terms(&mut self, terms: StageTerms, ports: Vec<u16>) -> (StageTerms, Vec<u16>) {
        (std::mem::replace(&mut self.terms, terms), std::mem::replace(&mut self.ports, ports))
    }
}
