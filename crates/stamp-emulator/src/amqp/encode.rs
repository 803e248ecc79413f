//! Writes AMQP 1.0 values at the end of a buffer.
//!
//! Numbers take their full width: a frame's size is then known before its values are, and the
//! fields can be patched in place.

pub fn null(out: &mut Vec<u8>) {
    out.push(0x40);
}

pub fn boolean(out: &mut Vec<u8>, value: bool) {
    out.push(if value { 0x41 } else { 0x42 });
}

pub fn ubyte(out: &mut Vec<u8>, value: u8) {
    out.extend_from_slice(&[0x50, value]);
}

pub fn ushort(out: &mut Vec<u8>, value: u16) {
    out.push(0x60);
    out.extend_from_slice(&value.to_be_bytes());
}

pub fn uint(out: &mut Vec<u8>, value: u32) {
    out.push(0x70);
    out.extend_from_slice(&value.to_be_bytes());
}

pub fn ulong(out: &mut Vec<u8>, value: u64) {
    out.push(0x80);
    out.extend_from_slice(&value.to_be_bytes());
}

pub fn int(out: &mut Vec<u8>, value: i32) {
    out.push(0x71);
    out.extend_from_slice(&value.to_be_bytes());
}

pub fn long(out: &mut Vec<u8>, value: i64) {
    out.push(0x81);
    out.extend_from_slice(&value.to_be_bytes());
}

pub fn timestamp(out: &mut Vec<u8>, value_ms: i64) {
    out.push(0x83);
    out.extend_from_slice(&value_ms.to_be_bytes());
}

/// Variable-width value: the short form when it fits.
fn variable(out: &mut Vec<u8>, short: u8, bytes: &[u8]) {
    match u8::try_from(bytes.len()) {
        Ok(n) => out.extend_from_slice(&[short, n]),
        Err(_) => {
            out.push(short + 0x10);
            // Every caller's bytes are bounded by the frame or message size, far below u32::MAX.
            let n = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            out.extend_from_slice(&n.to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

pub fn binary(out: &mut Vec<u8>, bytes: &[u8]) {
    variable(out, 0xa0, bytes);
}

pub fn string(out: &mut Vec<u8>, text: &str) {
    variable(out, 0xa1, text.as_bytes());
}

pub fn symbol(out: &mut Vec<u8>, text: &str) {
    variable(out, 0xa3, text.as_bytes());
}

/// An optional value: null when it is not there.
pub fn or_null<T>(out: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    match value {
        Some(value) => put(out, value),
        None => null(out),
    }
}

/// The descriptor of a section or performative; all of AMQP's own fit one byte.
pub fn descriptor(out: &mut Vec<u8>, code: u8) {
    out.extend_from_slice(&[0x00, 0x53, code]);
}

fn compound(out: &mut Vec<u8>, code: u8, count: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    out.push(code);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&count.to_be_bytes());
    fill(out);
    let size = out.len() - at - 4;
    patch_size(out, at, size);
}

/// A list of `count` values, which `fill` writes.
pub fn list(out: &mut Vec<u8>, count: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    compound(out, 0xd0, count, fill);
}

/// A map of `pairs` keys and values, which `fill` writes alternately.
pub fn map(out: &mut Vec<u8>, pairs: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    compound(out, 0xd1, pairs * 2, fill);
}

/// An array of short symbols. Texts above 255 bytes are not for this.
pub fn symbols(out: &mut Vec<u8>, texts: &[&str]) {
    short_array(out, 0xa3, texts.iter().map(|t| t.as_bytes()));
}

/// An array of short strings. Texts above 255 bytes are not for this.
pub fn strings(out: &mut Vec<u8>, texts: &[String]) {
    short_array(out, 0xa1, texts.iter().map(|t| t.as_bytes()));
}

fn short_array<'a>(out: &mut Vec<u8>, code: u8, texts: impl ExactSizeIterator<Item = &'a [u8]>) {
    let count = u32::try_from(texts.len()).unwrap_or(u32::MAX);
    compound(out, 0xf0, count, |out| {
        out.push(code);
        for text in texts {
            let n = u8::try_from(text.len()).unwrap_or(u8::MAX);
            out.push(n);
            out.extend_from_slice(&text[..usize::from(n)]);
        }
    });
}

/// Writes a size over four bytes that were left for it.
pub fn patch_size(out: &mut [u8], at: usize, size: usize) {
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&size.to_be_bytes());
}
