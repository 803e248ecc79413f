//! Prints sizes to the byte: what `--print-config` shows is the configuration in force, and the
//! library's own form is rounded to a tenth of a unit.

use bytesize::ByteSize;
use serde::Serializer;

pub(super) fn print<S: Serializer>(size: &ByteSize, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&exact(*size))
}

pub(super) fn print_optional<S: Serializer>(
    size: &Option<ByteSize>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match size {
        Some(size) => to.serialize_some(&exact(*size)),
        None => to.serialize_none(),
    }
}

/// In the largest unit of which it is a whole number.
fn exact(size: ByteSize) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let bytes = size.as_u64();
    let whole = UNITS
        .iter()
        .find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit));
    match whole {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}
