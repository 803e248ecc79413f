//! From the cells of one element to one row of the columns.

use stamp_model::{Event, Readings, Values};

use crate::field::Cell;
use crate::rejection::Decoded;
use crate::schema::{EventTime, Schema};
use crate::walk::Scratch;

/// Checks that the element has every required value.
#[inline]
pub(crate) fn check_required(schema: &Schema, cells: &[Cell]) -> Decoded<()> {
    for &slot in &schema.required {
        if cells[slot] == Cell::Missing {
            return Err(schema.slots[slot].missing());
        }
    }
    Ok(())
}

/// Appends the element to the columns.
#[inline]
pub(crate) fn push_row(
    schema: &Schema,
    event: &Event,
    device: u32,
    text: &str,
    scratch: &Scratch,
    into: &mut Readings,
) {
    let enqueued_at_us = event.enqueued_at_us;
    let ts_us = match (
        schema.event_time,
        scratch.cells.get(schema.shape.fields.len()),
    ) {
        (EventTime::Field { .. }, Some(Cell::TimestampUs(us))) => *us,
        _ => enqueued_at_us,
    };
    into.device.push(device);
    into.ts_us.push(ts_us);
    into.enqueued_at_us.push(enqueued_at_us);
    into.late.push(false);
    into.clock_suspect
        .push(schema.event_time.is_suspect(ts_us, enqueued_at_us));
    into.sequence.push(event.sequence);
    for (column, cell) in into.columns.iter_mut().zip(&scratch.cells) {
        match (&mut column.values, *cell) {
            (Values::F64(values), Cell::F64(value)) => values.push(value),
            (Values::I64(values), Cell::I64(value)) => values.push(value),
            (Values::Bool(values), Cell::Bool(value)) => values.push(value),
            (Values::Timestamp(values), Cell::TimestampUs(us)) => values.push(us),
            (Values::String { texts, keys }, Cell::Text { start, end }) => {
                keys.push(texts.intern(slice(text, start, end)));
            }
            (Values::String { texts, keys }, Cell::Unescaped { start, end }) => {
                keys.push(texts.intern(slice(&scratch.unescaped, start, end)));
            }
            _ => {
                column.push_null();
                continue;
            }
        }
        column.pushed();
    }
}

#[inline]
fn slice(text: &str, start: u32, end: u32) -> &str {
    text.get(start as usize..end as usize).unwrap_or_default()
}
