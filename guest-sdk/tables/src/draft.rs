//! Tables in the making, and how they were when others were told of them last: what there is to
//! tell follows from both, however many changes were made meanwhile and taken back.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;

use crate::store::Octets;
use crate::{Delta, Key, Row, Table, Tables};

/// Tables that change, a row at a time.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    tables: Tables,
    /// What others were told of rows that were touched since.
    told: BTreeMap<(Table, Octets), Option<Octets>>,
}

impl Draft {
    /// The tables as they are now.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Puts a row in, in place of one with its key.
    pub fn put(&mut self, row: &Row<'_>) {
        let key = row.key();
        self.set((key.table(), key.octets().into()), Some(row.value().into()));
    }

    /// Takes the row with this key out, if there is one.
    pub fn remove(&mut self, key: &Key) {
        self.set((key.table(), key.octets().into()), None);
    }

    /// Makes all these changes.
    pub fn apply(&mut self, delta: &Delta) {
        for (key, value) in &delta.0 {
            self.set(key.clone(), value.clone());
        }
    }

    /// What others have to be told.
    pub fn delta(&self) -> Delta {
        let now = |key: &(Table, Octets)| self.tables.0.get(key).cloned();
        let touched = self.told.iter().map(|(key, told)| (key, told, now(key)));
        let changed = touched.filter(|(_, told, now)| *told != now);
        Delta(changed.map(|(key, _, now)| (key.clone(), now)).collect())
    }

    /// Takes note that others were told.
    pub fn adopt(&mut self) {
        self.told.clear();
    }

    fn set(&mut self, key: (Table, Octets), value: Option<Octets>) {
        let before = match value {
            Some(value) => self.tables.0.insert(key.clone(), value),
            None => self.tables.0.remove(&key),
        };
        if let Entry::Vacant(told) = self.told.entry(key) {
            told.insert(before);
        }
    }
}
