//! Who refuses a live connection, as the kernel's counts of dropped packets are kept under it.

use millrace_abi::Reason;
use millrace_abi::limits::MAX_NAME;
use millrace_fastpath::RefuserName;

/// A stage's rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Refuser {
    pub(crate) stage: String,
    pub(crate) reason: Reason,
    /// 0 if it names none.
    pub(crate) rule: u32,
}

impl Refuser {
    /// What the cache knows it by.
    pub(crate) fn name(&self) -> RefuserName {
        let mut name = [0; size_of::<RefuserName>()];
        name[..4].copy_from_slice(&self.rule.to_le_bytes());
        name[4..6].copy_from_slice(&(self.reason as u16).to_le_bytes());
        // names of stages are no longer, and have no zeros
        let stage = self.stage.as_bytes();
        name[STAGE..STAGE + stage.len()].copy_from_slice(stage);
        name
    }

    /// Who is known so; nobody that this version knows, if nothing.
    pub(crate) fn of(name: &RefuserName) -> Option<Self> {
        let rule = u32::from_le_bytes(*name.first_chunk()?);
        let reason = Reason::from_u16(u16::from_le_bytes(*name[4..].first_chunk()?))?;
        let stage = std::str::from_utf8(&name[STAGE..]).ok()?.trim_end_matches('\0');
        (!stage.is_empty()).then(|| Self { stage: stage.to_owned(), reason, rule })
    }
}

/// Where the stage's name begins.
const STAGE: usize = 8;
const _: () = assert!(STAGE + MAX_NAME == size_of::<RefuserName>());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_refuses_is_known_again_by_the_longest_name_too() {
        for stage in ["policy".to_owned(), "x".repeat(MAX_NAME)] {
            let refuser = Refuser { stage, reason: Reason::Isolated, rule: 70_000 };
            assert_eq!(Refuser::of(&refuser.name()), Some(refuser));
        }
        assert_eq!(Refuser::of(&[0; 72]), None);
        assert_eq!(Refuser::of(&[0xff; 72]), None);
    }
}
