//! Compares columns by what they say.

use stamp_model::{Column, Dictionary, Readings, Values};

/// A value in a form in which equal means equal bit for bit.
type Bits<'a> = Option<(u64, &'a str)>;

/// Panics unless both hold the same rows. Dictionaries may hold texts that no row uses: a rejected
/// event may leave some behind.
pub(crate) fn assert_same(a: &Readings, b: &Readings) {
    assert!(a.is_rectangular() && b.is_rectangular());
    assert_eq!(devices(a), devices(b));
    assert_eq!(a.ts_us, b.ts_us);
    assert_eq!(a.enqueued_at_us, b.enqueued_at_us);
    assert_eq!(a.late, b.late);
    assert_eq!(a.clock_suspect, b.clock_suspect);
    assert_eq!(a.sequence, b.sequence);
    assert_eq!(a.columns.len(), b.columns.len());
    for (a, b) in a.columns.iter().zip(&b.columns) {
        assert_eq!(bits(a), bits(b));
    }
}

fn devices(readings: &Readings) -> Vec<&str> {
    texts(&readings.devices, &readings.device)
}

fn texts<'a>(dictionary: &'a Dictionary, keys: &[u32]) -> Vec<&'a str> {
    keys.iter().map(|&key| dictionary.get(key)).collect()
}

fn bits(column: &Column) -> Vec<Bits<'_>> {
    let valid = |row| column.is_valid(row);
    let number = |row: usize, bits: u64| valid(row).then_some((bits, ""));
    match &column.values {
        Values::Bool(values) => (0..)
            .zip(values)
            .map(|(i, v)| number(i, u64::from(*v)))
            .collect(),
        Values::I64(values) | Values::Timestamp(values) => (0..)
            .zip(values)
            .map(|(i, v)| number(i, v.cast_unsigned()))
            .collect(),
        Values::F64(values) => (0..)
            .zip(values)
            .map(|(i, v)| number(i, v.to_bits()))
            .collect(),
        Values::String { texts: all, keys } => (0..)
            .zip(texts(all, keys))
            .map(|(i, text)| valid(i).then_some((0, text)))
            .collect(),
    }
}
