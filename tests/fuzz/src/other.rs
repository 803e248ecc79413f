//! Asks another crate's parser for its opinion.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use stamp_emulator::amqp::decode::{Reader, Value};

thread_local! {
    static ASKING: Cell<bool> = const { Cell::new(false) };
}

static QUIET: Once = Once::new();

/// What the other parser says; `None` when it panics, as `serde_amqp` does on a map with an odd
/// number of entries. It is not ours to mend, and the tap keeps what peers send away from it.
pub(crate) fn opinion<T>(ask: impl FnOnce() -> T) -> Option<T> {
    // libFuzzer ends the process in its panic hook, before anything could be caught.
    QUIET.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !ASKING.get() {
                before(info);
            }
        }));
    });
    ASKING.set(true);
    let opinion = catch_unwind(AssertUnwindSafe(ask)).ok();
    ASKING.set(false);
    opinion
}

/// Whether `serde_amqp` reads these values, one after the other, as they are: they are well-formed,
/// and none holds an array without elements, whose constructor it takes for the next value.
pub(crate) fn reads_well(encoded: &[u8]) -> bool {
    let mut reader = Reader::new(encoded);
    while !reader.is_empty() {
        match reader.value() {
            Ok(value) if !has_empty_array(&value) => {}
            _ => return false,
        }
    }
    true
}

fn has_empty_array(value: &Value) -> bool {
    match value {
        Value::Array(values) => values.is_empty() || values.iter().any(has_empty_array),
        Value::List(values) => values.iter().any(has_empty_array),
        Value::Map(pairs) => pairs
            .iter()
            .any(|(key, value)| has_empty_array(key) || has_empty_array(value)),
        Value::Described(descriptor, value) => {
            has_empty_array(descriptor) || has_empty_array(value)
        }
        _ => false,
    }
}
