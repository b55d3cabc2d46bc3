//! What the host keeps of tables, and what it publishes.
//!
//! Rows are kept as octets: what is published is compared, kept and taken back without a look
//! into it.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::update::{COMMIT, REMOVE, RESET, UPSERT, record_len, write};
use crate::{Key, Row, Table, Update};

/// Tables as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables(pub(crate) BTreeMap<(Table, Octets), Octets>);

/// What makes other tables of some: rows that are there, and keys whose rows are gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta(pub(crate) BTreeMap<(Table, Octets), Option<Octets>>);

pub(crate) type Octets = Box<[u8]>;

impl Tables {
    /// Puts a row in, in place of one with its key.
    pub fn put(&mut self, row: &Row<'_>) {
        let key = row.key();
        self.0.insert((key.table(), key.octets().into()), row.value().into());
    }

    /// Whether there is a row with this key.
    pub fn has(&self, key: &Key) -> bool {
        self.0.contains_key(&(key.table(), key.octets().into()))
    }

    /// How many rows a table has.
    pub fn rows_of(&self, table: Table) -> usize {
        self.0.keys().filter(|(of, _)| *of == table).count()
    }

    /// What makes `next` of these.
    pub fn delta(&self, next: &Self) -> Delta {
        let changed = next.0.iter().filter(|(key, value)| self.0.get(*key) != Some(*value));
        let changed = changed.map(|(key, value)| (key.clone(), Some(value.clone())));
        let gone = self.0.keys().filter(|key| !next.0.contains_key(*key));
        Delta(changed.chain(gone.map(|key| (key.clone(), None))).collect())
    }

    /// Makes other tables of these, and returns what makes these of them again.
    pub fn apply(&mut self, delta: &Delta) -> Delta {
        let change = |(key, value): (&(Table, Octets), &Option<Octets>)| {
            let before = match value {
                Some(value) => self.0.insert(key.clone(), value.clone()),
                None => self.0.remove(key),
            };
            (key.clone(), before)
        };
        Delta(delta.0.iter().map(change).collect())
    }

    /// All that is in `tables`, for a guest that knows nothing yet: updates of `most` octets or, with
    /// a row that has more, of that row. The last one commits.
    pub fn whole(&self, tables: &[Table], generation: u64, most: usize) -> Vec<Vec<u8>> {
        let mut pages = Pages::new(most);
        tables.iter().for_each(|table| pages.add(RESET, *table as u8, &[], &[]));
        for ((table, key), value) in self.0.iter().filter(|((of, _), _)| tables.contains(of)) {
            pages.add(UPSERT, *table as u8, key, value);
        }
        pages.commit(generation)
    }
}

impl Delta {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether rows of `table` change.
    pub fn touches(&self, table: Table) -> bool {
        self.0.keys().any(|(of, _)| *of == table)
    }

    /// The part of it that is about `tables`, for a guest that knows what was before; as
    /// [`Tables::whole`] has it.
    pub fn updates(&self, tables: &[Table], generation: u64, most: usize) -> Vec<Vec<u8>> {
        let mut pages = Pages::new(most);
        for ((table, key), value) in self.0.iter().filter(|((of, _), _)| tables.contains(of)) {
            match value {
                Some(value) => pages.add(UPSERT, *table as u8, key, value),
                None => pages.add(REMOVE, *table as u8, key, &[]),
            }
        }
        pages.commit(generation)
    }
}

impl<'u> Update<'u> {
    /// Makes of `tables` what this update says; for hosts that are played.
    ///
    /// # Errors
    /// If it is malformed; what came before that is made.
    pub fn apply_to(self, tables: &mut Tables) -> Result<(), crate::Malformed> {
        use crate::Change;
        for change in self.changes() {
            match change? {
                Change::Reset(table) => tables.0.retain(|(of, _), _| *of != table),
                Change::Upsert(row) => tables.put(&row),
                Change::Remove(key) => {
                    tables.0.remove(&(key.table(), key.octets().into()));
                }
                Change::Commit(_) => {}
            }
        }
        Ok(())
    }
}

/// Updates in the making.
struct Pages {
    most: usize,
    pages: Vec<Vec<u8>>,
    page: Vec<u8>,
}

impl Pages {
    fn new(most: usize) -> Self {
        Self { most, pages: Vec::new(), page: Vec::new() }
    }

    fn add(&mut self, operation: u8, table: u8, key: &[u8], value: &[u8]) {
        if !self.page.is_empty() && self.page.len() + record_len(key, value) > self.most {
            self.pages.push(core::mem::take(&mut self.page));
        }
        write(&mut self.page, operation, table, key, value);
    }

    fn commit(mut self, generation: u64) -> Vec<Vec<u8>> {
        self.add(COMMIT, 0, &generation.to_le_bytes(), &[]);
        self.pages.push(self.page);
        self.pages
    }
}
