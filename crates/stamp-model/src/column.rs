//! Readings as columns: what the decoder fills, the rollup reads and the lake encodes.
//!
//! One buffer belongs to one tenant and one partition. No row objects exist between body and file.

use crate::{Dictionary, PartitionId};

/// The type of a tenant's field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldKind {
    /// `true` or `false`
    Bool,
    /// 64-bit signed integer
    I64,
    /// 64-bit float, always finite
    F64,
    /// UTF-8 text
    String,
    /// Microseconds since 1970 UTC
    Timestamp,
}

/// One field of a tenant's schema, as far as a table needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldDef {
    /// Column name.
    pub name: String,
    /// Type of its values.
    pub kind: FieldKind,
    /// Unit such as `Cel` or `kPa`, kept in the column's metadata.
    pub unit: Option<String>,
    /// Whether every reading has it.
    pub required: bool,
    /// Whether rollups are made of it; only for [`FieldKind::I64`] and [`FieldKind::F64`].
    pub rollup: bool,
}

/// The fields of a tenant's readings, in column order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shape {
    /// Tenant fields only; the columns every readings table has are not listed.
    pub fields: Vec<FieldDef>,
}

/// The values of one column. A null row holds a default value here.
#[derive(Debug, Clone)]
pub enum Values {
    /// For [`FieldKind::Bool`]
    Bool(Vec<bool>),
    /// For [`FieldKind::I64`]
    I64(Vec<i64>),
    /// For [`FieldKind::F64`]
    F64(Vec<f64>),
    /// For [`FieldKind::String`]: a key into the dictionary per row.
    String {
        /// The distinct texts.
        texts: Dictionary,
        /// One key per row.
        keys: Vec<u32>,
    },
    /// For [`FieldKind::Timestamp`]: microseconds.
    Timestamp(Vec<i64>),
}

/// One column with its nulls.
#[derive(Debug, Clone)]
pub struct Column {
    /// As long as the buffer has rows.
    pub values: Values,
    /// `None` while no row is null; else one flag per row, `true` for a value.
    pub valid: Option<Vec<bool>>,
}

impl Column {
    /// An empty column of `kind`.
    #[must_use]
    pub fn new(kind: FieldKind) -> Self {
        let values = match kind {
            FieldKind::Bool => Values::Bool(Vec::new()),
            FieldKind::I64 => Values::I64(Vec::new()),
            FieldKind::F64 => Values::F64(Vec::new()),
            FieldKind::String => Values::String {
                texts: Dictionary::default(),
                keys: Vec::new(),
            },
            FieldKind::Timestamp => Values::Timestamp(Vec::new()),
        };
        Self {
            values,
            valid: None,
        }
    }

    /// Rows so far.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.values {
            Values::Bool(v) => v.len(),
            Values::I64(v) | Values::Timestamp(v) => v.len(),
            Values::F64(v) => v.len(),
            Values::String { keys, .. } => keys.len(),
        }
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether row `i` has a value.
    #[inline]
    #[must_use]
    pub fn is_valid(&self, i: usize) -> bool {
        self.valid.as_ref().is_none_or(|valid| valid[i])
    }

    /// Notes that the row just pushed has a value. Call after pushing to `values`.
    #[inline]
    pub fn pushed(&mut self) {
        if let Some(valid) = &mut self.valid {
            valid.push(true);
        }
    }

    /// Appends a null row.
    pub fn push_null(&mut self) {
        let before = self.len();
        match &mut self.values {
            Values::Bool(v) => v.push(false),
            Values::I64(v) | Values::Timestamp(v) => v.push(0),
            Values::F64(v) => v.push(0.0),
            Values::String { texts, keys } => keys.push(texts.intern("")),
        }
        self.valid
            .get_or_insert_with(|| vec![true; before])
            .push(false);
    }

    /// Drops rows from the end until `rows` are left. Texts stay in the dictionary.
    pub fn truncate(&mut self, rows: usize) {
        match &mut self.values {
            Values::Bool(v) => v.truncate(rows),
            Values::I64(v) | Values::Timestamp(v) => v.truncate(rows),
            Values::F64(v) => v.truncate(rows),
            Values::String { keys, .. } => keys.truncate(rows),
        }
        if let Some(valid) = &mut self.valid {
            valid.truncate(rows);
        }
    }

    fn heap_bytes(&self) -> usize {
        let values = match &self.values {
            Values::Bool(v) => v.capacity(),
            Values::I64(v) | Values::Timestamp(v) => v.capacity() * 8,
            Values::F64(v) => v.capacity() * 8,
            Values::String { texts, keys } => texts.heap_bytes() + keys.capacity() * 4,
        };
        values + self.valid.as_ref().map_or(0, Vec::capacity)
    }
}

/// Readings of one tenant from one partition, in arrival order.
///
/// All vectors have one entry per row. Rows of one event (a device batch) share its sequence.
#[derive(Debug, Clone)]
pub struct Readings {
    /// Where the rows came from.
    pub partition: PartitionId,
    /// Distinct device ids.
    pub devices: Dictionary,
    /// Key of the row's device.
    pub device: Vec<u32>,
    /// Event time as the device claims it, or the hub's when the schema says so.
    pub ts_us: Vec<i64>,
    /// The hub's enqueued time.
    pub enqueued_at_us: Vec<i64>,
    /// Came later than the window's lateness allows. Set after decoding.
    pub late: Vec<bool>,
    /// The claimed event time is outside the schema's clock bound.
    pub clock_suspect: Vec<bool>,
    /// Sequence number of the row's event.
    pub sequence: Vec<i64>,
    /// The tenant's fields, in the order of [`Shape::fields`].
    pub columns: Vec<Column>,
}

impl Readings {
    /// An empty buffer for rows of this shape.
    #[must_use]
    pub fn new(shape: &Shape, partition: PartitionId) -> Self {
        Self {
            partition,
            devices: Dictionary::default(),
            device: Vec::new(),
            ts_us: Vec::new(),
            enqueued_at_us: Vec::new(),
            late: Vec::new(),
            clock_suspect: Vec::new(),
            sequence: Vec::new(),
            columns: shape
                .fields
                .iter()
                .map(|field| Column::new(field.kind))
                .collect(),
        }
    }

    /// Rows so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sequence.len()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sequence.is_empty()
    }

    /// The time that decides a row's window and date folder: event time, or the hub's enqueued
    /// time when the device's clock is not believed.
    #[inline]
    #[must_use]
    pub fn window_time_us(&self, row: usize) -> i64 {
        if self.clock_suspect[row] {
            self.enqueued_at_us[row]
        } else {
            self.ts_us[row]
        }
    }

    /// Drops rows from the end until `rows` are left, so that an event that fails half-way leaves
    /// nothing behind. Columns may be of different length when this is called.
    pub fn truncate(&mut self, rows: usize) {
        self.device.truncate(rows);
        self.ts_us.truncate(rows);
        self.enqueued_at_us.truncate(rows);
        self.late.truncate(rows);
        self.clock_suspect.truncate(rows);
        self.sequence.truncate(rows);
        for column in &mut self.columns {
            column.truncate(rows);
        }
    }

    /// Whether every column has one entry per row.
    #[must_use]
    pub fn is_rectangular(&self) -> bool {
        let rows = self.sequence.len();
        self.device.len() == rows
            && self.ts_us.len() == rows
            && self.enqueued_at_us.len() == rows
            && self.late.len() == rows
            && self.clock_suspect.len() == rows
            && self.columns.iter().all(|column| {
                column.len() == rows && column.valid.as_ref().is_none_or(|v| v.len() == rows)
            })
    }

    /// Bytes held on the heap, about. Counted against the tenant's buffer limit.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.devices.heap_bytes()
            + self.device.capacity() * 4
            + (self.ts_us.capacity() + self.enqueued_at_us.capacity() + self.sequence.capacity())
                * 8
            + self.late.capacity()
            + self.clock_suspect.capacity()
            + self.columns.iter().map(Column::heap_bytes).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_written_event_leaves_nothing_behind() {
        let shape = Shape {
            fields: vec![FieldDef {
                name: "t".into(),
                kind: FieldKind::F64,
                unit: None,
                required: false,
                rollup: true,
            }],
        };
        let mut readings = Readings::new(&shape, PartitionId::new(0).unwrap());
        readings.columns[0].push_null();
        readings.ts_us.push(1);

        readings.truncate(0);

        assert!(readings.is_empty() && readings.is_rectangular());
    }

    #[test]
    fn nulls_are_kept_beside_values() {
        let mut column = Column::new(FieldKind::I64);
        if let Values::I64(values) = &mut column.values {
            values.push(7);
        }
        column.pushed();
        column.push_null();

        assert!(column.is_valid(0) && !column.is_valid(1) && column.len() == 2);
    }
}
