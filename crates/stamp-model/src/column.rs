//! Readings as columns: what the decoder fills, the rollup reads and the lake encodes.
//!
//! One buffer belongs to one tenant and, until small buffers are put together for a file, to one
//! partition. No row objects exist between body and file.

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

    /// Appends `rows` of `other`.
    ///
    /// # Panics
    /// When the columns are of different kinds, or `other` has no such row.
    fn append(&mut self, other: &Self, rows: &[u32]) {
        let before = self.len();
        match (&mut self.values, &other.values) {
            (Values::Bool(to), Values::Bool(from)) => pick(to, from, rows),
            (Values::I64(to), Values::I64(from))
            | (Values::Timestamp(to), Values::Timestamp(from)) => pick(to, from, rows),
            (Values::F64(to), Values::F64(from)) => pick(to, from, rows),
            (
                Values::String { texts, keys },
                Values::String {
                    texts: other_texts,
                    keys: from,
                },
            ) => {
                let renamed = texts.adopt(other_texts);
                keys.extend(rows.iter().map(|&row| renamed[from[row as usize] as usize]));
            }
            _ => panic!("columns of different kinds do not go together"),
        }
        match (&mut self.valid, &other.valid) {
            (None, None) => {}
            (to, None) => {
                let to = to.get_or_insert_default();
                to.resize(before + rows.len(), true);
            }
            (to, Some(from)) => {
                let to = to.get_or_insert_with(|| vec![true; before]);
                pick(to, from, rows);
            }
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

/// `rows` of `from`, behind what is in `to`.
fn pick<T: Copy>(to: &mut Vec<T>, from: &[T], rows: &[u32]) {
    to.extend(rows.iter().map(|&row| from[row as usize]));
}

/// Readings of one tenant from one partition, in arrival order; or of several, put together by
/// [`Readings::append`] for one file.
///
/// All vectors have one entry per row. Rows of one event (a device batch) share its sequence.
#[derive(Debug, Clone)]
pub struct Readings {
    /// Where the rows came from, unless [`Self::partitions`] says it for each.
    pub partition: PartitionId,
    /// Where each row came from, in a buffer that was put together.
    pub partitions: Option<Vec<PartitionId>>,
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
            partitions: None,
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
        if let Some(each) = &mut self.partitions {
            each.truncate(rows);
        }
        for column in &mut self.columns {
            column.truncate(rows);
        }
    }

    /// Whether every column has one entry per row.
    #[must_use]
    pub fn is_rectangular(&self) -> bool {
        let rows = self.sequence.len();
        let each = self.partitions.as_ref();
        each.is_none_or(|each| each.len() == rows)
            && self.device.len() == rows
            && self.ts_us.len() == rows
            && self.enqueued_at_us.len() == rows
            && self.late.len() == rows
            && self.clock_suspect.len() == rows
            && self.columns.iter().all(|column| {
                column.len() == rows && column.valid.as_ref().is_none_or(|v| v.len() == rows)
            })
    }

    /// The partition of row `i`.
    #[inline]
    #[must_use]
    pub fn partition_of(&self, i: usize) -> PartitionId {
        self.partitions
            .as_ref()
            .map_or(self.partition, |each| each[i])
    }

    /// Appends `rows` of `other`, in that order. Each row then has its own partition, if it had not.
    ///
    /// # Panics
    /// When the two are of different shapes, or `other` has no such row.
    pub fn append(&mut self, other: &Self, rows: &[u32]) {
        let before = self.len();
        let each = self
            .partitions
            .get_or_insert_with(|| vec![self.partition; before]);
        each.extend(rows.iter().map(|&row| other.partition_of(row as usize)));
        let devices = self.devices.adopt(&other.devices);
        self.device.extend(
            rows.iter()
                .map(|&row| devices[other.device[row as usize] as usize]),
        );
        pick(&mut self.ts_us, &other.ts_us, rows);
        pick(&mut self.enqueued_at_us, &other.enqueued_at_us, rows);
        pick(&mut self.late, &other.late, rows);
        pick(&mut self.clock_suspect, &other.clock_suspect, rows);
        pick(&mut self.sequence, &other.sequence, rows);
        assert_eq!(self.columns.len(), other.columns.len(), "of one shape");
        for (to, from) in self.columns.iter_mut().zip(&other.columns) {
            to.append(from, rows);
        }
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
            + self
                .partitions
                .as_ref()
                .map_or(0, |each| each.capacity() * size_of::<PartitionId>())
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
    fn rows_that_are_put_together_keep_their_values_nulls_and_partitions() {
        let field = |name: &str, kind| FieldDef {
            name: name.into(),
            kind,
            unit: None,
            required: false,
            rollup: false,
        };
        let shape = Shape {
            fields: vec![
                field("text", FieldKind::String),
                field("number", FieldKind::I64),
            ],
        };
        let buffer = |partition, rows: &[(&str, &str, Option<i64>)]| {
            let mut buffer = Readings::new(&shape, PartitionId::new(partition).unwrap());
            for (row, (device, text, number)) in (0..).zip(rows) {
                let device = buffer.devices.intern(device);
                buffer.device.push(device);
                buffer.ts_us.push(row);
                buffer.enqueued_at_us.push(row);
                buffer.late.push(false);
                buffer.clock_suspect.push(row == 1);
                buffer.sequence.push(row * 10);
                if let Values::String { texts, keys } = &mut buffer.columns[0].values {
                    keys.push(texts.intern(text));
                }
                match (number, &mut buffer.columns[1]) {
                    (Some(number), column) => {
                        if let Values::I64(values) = &mut column.values {
                            values.push(*number);
                        }
                        column.pushed();
                    }
                    (None, column) => column.push_null(),
                }
            }
            buffer
        };
        let parts = [
            buffer(3, &[("b", "x", Some(1)), ("a", "y", Some(2))]),
            buffer(
                7,
                &[("a", "z", None), ("c", "y", Some(3)), ("b", "x", None)],
            ),
            buffer(3, &[("d", "x", Some(4))]),
        ];

        let mut all = Readings::new(&shape, parts[0].partition);
        all.append(&parts[0], &[1, 0]);
        all.append(&parts[1], &[0, 2]);
        all.append(&parts[2], &[0]);

        assert!(all.is_rectangular());
        let (Values::String { texts, keys }, Values::I64(numbers)) =
            (&all.columns[0].values, &all.columns[1].values)
        else {
            panic!("the columns changed their kind");
        };
        let rows: Vec<_> = (0..all.len())
            .map(|row| {
                let number = all.columns[1].is_valid(row).then_some(numbers[row]);
                let partition = all.partition_of(row).number();
                let device = all.devices.get(all.device[row]);
                (partition, device, texts.get(keys[row]), number)
            })
            .collect();
        assert_eq!(
            rows,
            [
                (3, "a", "y", Some(2)),
                (3, "b", "x", Some(1)),
                (7, "a", "z", None),
                (7, "b", "x", None),
                (3, "d", "x", Some(4)),
            ]
        );
        assert_eq!(all.sequence, [10, 0, 0, 20, 0]);
        assert_eq!(all.clock_suspect, [true, false, false, false, false]);
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
