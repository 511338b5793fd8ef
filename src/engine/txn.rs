//! Reading and writing records: the whole surface that the rooms see of the store.
//!
//! Small on purpose: get, visit in order, put, delete. A log with its state in memory can serve it as well as a tree.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use redb::{ReadableDatabase, ReadableTable, TableDefinition};

use crate::error::StoreError;

use super::error;

/// A table: byte keys in their order, each with a byte value. Tables need not be made first; one never written is empty.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Table(&'static str);

impl Table {
    /// The table of this name. Names are part of the format of the directory.
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    fn definition(self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        TableDefinition::new(self.0)
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({:?})", self.0)
    }
}

/// In which order keys are visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The lowest first.
    Forward,
    /// The highest first.
    Backward,
}

/// A range of keys.
pub type Range<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Called with a key and its value, in order; stops the visit with `Break`.
pub type Visitor<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// Reading records: what [`Txn`] and [`Snapshot`] have in common.
///
/// # Errors
/// All methods: [`StoreError::Unavailable`]; [`StoreError::Corrupt`].
pub trait Records {
    /// The value under `key`.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Calls `visit` for each record of a range, in order, until it breaks off. `visit` must not use this transaction.
    fn visit(&self, table: Table, range: Range<'_>, direction: Direction, visit: Visitor<'_>)
    -> Result<(), StoreError>;

    /// The records of a range, in order, at most `limit`.
    fn scan(
        &self,
        table: Table,
        range: Range<'_>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let mut found = Vec::new();
        if limit == 0 {
            return Ok(found);
        }
        self.visit(table, range, direction, &mut |key, value| {
            found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(found)
    }
}

fn visit_in(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    range: Range<'_>,
    direction: Direction,
    visit: Visitor<'_>,
) -> Result<(), redb::StorageError> {
    let mut records = table.range::<&[u8]>(range)?;
    loop {
        let next = match direction {
            Direction::Forward => records.next(),
            Direction::Backward => records.next_back(),
        };
        let Some(record) = next else { return Ok(()) };
        let (key, value) = record?;
        if visit(key.value(), value.value()).is_break() {
            return Ok(());
        }
    }
}

type ReadOnly = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

/// What was committed last. Later commits do not change it.
pub struct Snapshot(redb::ReadTransaction);

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Snapshot")
    }
}

impl Snapshot {
    pub(super) fn begin(database: &redb::Database) -> Result<Self, StoreError> {
        database.begin_read().map(Self).map_err(error::transaction)
    }

    /// The names of all tables.
    pub(super) fn tables(&self) -> Result<Vec<String>, StoreError> {
        let tables = self.0.list_tables().map_err(|e| error::storage(&e))?;
        Ok(tables.map(|table| redb::TableHandle::name(&table).to_owned()).collect())
    }

    /// As [`Records::visit`] forward, of a table that is known by its name only.
    pub(super) fn visit_named(&self, table: &str, range: Range<'_>, visit: Visitor<'_>) -> Result<(), StoreError> {
        let Some(table) = self.named(TableDefinition::new(table))? else { return Ok(()) };
        visit_in(&table, range, Direction::Forward, visit).map_err(|e| error::storage(&e))
    }

    fn table(&self, table: Table) -> Result<Option<ReadOnly>, StoreError> {
        self.named(table.definition())
    }

    fn named(&self, table: TableDefinition<'_, &'static [u8], &'static [u8]>) -> Result<Option<ReadOnly>, StoreError> {
        match self.0.open_table(table) {
            Ok(table) => Ok(Some(table)),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error::table(error)),
        }
    }
}

impl Records for Snapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let Some(table) = self.table(table)? else { return Ok(None) };
        let value = table.get(key).map_err(|e| error::storage(&e))?;
        Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
    }

    fn visit(
        &self,
        table: Table,
        range: Range<'_>,
        direction: Direction,
        visit: Visitor<'_>,
    ) -> Result<(), StoreError> {
        let Some(table) = self.table(table)? else { return Ok(()) };
        visit_in(&table, range, direction, visit).map_err(|e| error::storage(&e))
    }
}

type Open<'a> = redb::Table<'a, &'static [u8], &'static [u8]>;

/// The transaction of a group of jobs, as one of them sees it.
pub struct Txn<'a> {
    inner: &'a redb::WriteTransaction,
    /// Opening a table costs a lookup, so each is opened once for the whole group. A handful: a linear search is right.
    tables: RefCell<Vec<(Table, Open<'a>)>>,
    hooks: Vec<Box<dyn FnOnce() + Send>>,
    written: Written,
    failure: Cell<Option<StoreError>>,
}

/// What was written in a transaction so far.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Written {
    /// Puts and deletes.
    pub(super) operations: u64,
    /// Bytes of the keys and values put.
    pub(super) bytes: u64,
    /// By how much the stored bytes grow or shrink.
    pub(super) growth: i64,
}

impl fmt::Debug for Txn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Txn").field("written", &self.written).finish_non_exhaustive()
    }
}

impl<'a> Txn<'a> {
    pub(super) fn new(inner: &'a redb::WriteTransaction) -> Self {
        Self {
            inner,
            tables: RefCell::default(),
            hooks: Vec::new(),
            written: Written::default(),
            failure: Cell::default(),
        }
    }

    /// Stores `value` under `key`, in place of what is there.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Full`], [`StoreError::Corrupt`]; the group is lost.
    pub fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let size = key.len() + value.len();
        self.written.operations += 1;
        self.written.bytes += size as u64;
        let old = self.on(table, |table| {
            let old = table.insert(key, value)?;
            Ok(old.map_or(0, |old| key.len() + old.value().len()))
        })?;
        self.written.growth += size as i64 - old as i64;
        Ok(())
    }

    /// Removes `key`; answers whether it was there.
    ///
    /// # Errors
    /// As [`Txn::put`].
    pub fn delete(&mut self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        self.written.operations += 1;
        let old = self.on(table, |table| {
            let old = table.remove(key)?;
            Ok(old.map(|old| key.len() + old.value().len()))
        })?;
        self.written.growth -= old.unwrap_or(0) as i64;
        Ok(old.is_some())
    }

    /// Runs `hook` on the committer once this group is committed, in the order of all hooks and before any answer; never
    /// if it is not. It must be quick and must not panic: every writer waits for it.
    pub fn on_commit(&mut self, hook: impl FnOnce() + Send + 'static) {
        self.hooks.push(Box::new(hook));
    }

    fn on<R>(
        &self,
        table: Table,
        run: impl FnOnce(&mut Open<'a>) -> Result<R, redb::StorageError>,
    ) -> Result<R, StoreError> {
        let mut tables = self.tables.borrow_mut();
        let result = match tables.iter().position(|(open, _)| *open == table) {
            Some(index) => Ok(index),
            None => self.inner.open_table(table.definition()).map_err(error::table).map(|open| {
                tables.push((table, open));
                tables.len() - 1
            }),
        };
        let result = result.and_then(|index| match tables.get_mut(index) {
            Some((_, open)) => run(open).map_err(|e| error::storage(&e)),
            None => Err(StoreError::Corrupt { store: super::NAME, why: format!("{table:?} is not open") }),
        });
        if let Err(error) = &result {
            self.failure.set(Some(error.clone()));
        }
        result
    }

    pub(super) fn written(&self) -> Written {
        self.written
    }

    /// The first thing to go wrong with the store itself; the transaction is then lost.
    pub(super) fn failure(&self) -> Option<StoreError> {
        let failure = self.failure.take();
        self.failure.set(failure.clone());
        failure
    }

    /// The tables are closed, so that the transaction can be committed.
    pub(super) fn into_hooks(self) -> Vec<Box<dyn FnOnce() + Send>> {
        self.hooks
    }
}

impl Records for Txn<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.on(table, |table| Ok(table.get(key)?.map(|value| Bytes::copy_from_slice(value.value()))))
    }

    fn visit(
        &self,
        table: Table,
        range: Range<'_>,
        direction: Direction,
        visit: Visitor<'_>,
    ) -> Result<(), StoreError> {
        self.on(table, |table| visit_in(table, range, direction, visit))
    }
}
