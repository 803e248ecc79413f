//! From the bytes of a message to UTF-8 text: content encodings, charsets, and the size limits.
//!
//! A message that is plain UTF-8 is borrowed as it is. Everything else is written into one buffer
//! that never grows above the schema's limit, whatever a compressed body claims.

mod charset;
mod compression;

use stamp_model::Event;

use crate::rejection::{Decoded, Fault, RejectionCode, cut};
use crate::schema::Limits;

use charset::Charset;
use compression::Compression;

/// Space for bodies that are not plain UTF-8, kept from event to event.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    inflated: Vec<u8>,
    text: String,
}

impl Buffers {
    /// Gives large buffers back, so that one big body does not hold memory for ever.
    pub(crate) fn shrink(&mut self) {
        const KEPT_BYTES_MAX: usize = 1 << 20;
        if self.inflated.capacity() > KEPT_BYTES_MAX {
            self.inflated = Vec::new();
        }
        if self.text.capacity() > KEPT_BYTES_MAX {
            self.text = String::new();
        }
    }
}

/// How the bytes are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Encoding {
    compression: Compression,
    charset: Charset,
}

/// The body as text, without a byte order mark.
pub(crate) fn text<'a>(
    event: &'a Event,
    limits: &Limits,
    buffers: &'a mut Buffers,
) -> Decoded<&'a str> {
    let body: &[u8] = &event.body;
    if body.is_empty() {
        return Err(Fault::new(
            RejectionCode::EmptyBody,
            "the body has no bytes",
        ));
    }
    if body.len() > limits.body_bytes_max {
        let message = format!(
            "{} bytes; at most {} are read",
            body.len(),
            limits.body_bytes_max
        );
        return Err(Fault::new(RejectionCode::TooLarge, message).rule("limits.body-max"));
    }
    let encoding = encoding(event)?;
    let max = limits.decompressed_bytes_max;
    let Buffers { inflated, text } = buffers;
    let bytes = match encoding.compression {
        Compression::None => body,
        Compression::Gzip => compression::gunzip(body, max, inflated)?,
        Compression::Deflate => compression::inflate(body, max, inflated)?,
    };
    let decoded = match encoding.charset {
        Charset::Utf8 => charset::utf8(bytes)?,
        Charset::Utf16(order) => charset::utf16(bytes, order, max, text)?,
        Charset::Utf32(order) => charset::utf32(bytes, order, max, text)?,
    };
    Ok(decoded.strip_prefix('\u{feff}').unwrap_or(decoded))
}

fn encoding(event: &Event) -> Decoded<Encoding> {
    let mut encoding = Encoding {
        compression: Compression::None,
        charset: Charset::Utf8,
    };
    if is_plain(event) {
        return Ok(encoding);
    }
    if let Some(content_type) = &event.content_type
        && let Some(name) = charset_parameter(content_type)
    {
        encoding.charset = Charset::parse(name).ok_or_else(|| unsupported("charset", name))?;
    }
    let Some(tokens) = &event.content_encoding else {
        return Ok(encoding);
    };
    for token in tokens.split(',').map(str::trim) {
        apply(&mut encoding, token)?;
    }
    Ok(encoding)
}

/// Whether the properties say UTF-8 without compression in the words that most devices use.
#[inline]
fn is_plain(event: &Event) -> bool {
    let plain_type = match event.content_type.as_deref() {
        None => true,
        Some(content_type) => !content_type.as_bytes().contains(&b';'),
    };
    let plain_encoding = match event.content_encoding.as_deref() {
        None | Some("") => true,
        Some(encoding) => encoding.eq_ignore_ascii_case("utf-8"),
    };
    plain_type && plain_encoding
}

fn apply(encoding: &mut Encoding, token: &str) -> Decoded<()> {
    if token.is_empty()
        || token.eq_ignore_ascii_case("identity")
        || token.eq_ignore_ascii_case("none")
    {
        return Ok(());
    }
    if let Some(charset) = Charset::parse(token) {
        encoding.charset = charset;
        return Ok(());
    }
    let compression =
        Compression::parse(token).ok_or_else(|| unsupported("content encoding", token))?;
    if encoding.compression != Compression::None {
        return Err(unsupported("a second compression", token));
    }
    encoding.compression = compression;
    Ok(())
}

fn charset_parameter(content_type: &str) -> Option<&str> {
    let (_, parameters) = content_type.split_once(';')?;
    parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("charset").then_some(value)
    })
}

#[cold]
fn unsupported(what: &str, name: &str) -> Box<Fault> {
    let message = format!(
        "{what} \"{}\"; supported are none, gzip, deflate, utf-8, utf-16 and utf-32",
        cut(name)
    );
    Fault::new(RejectionCode::UnsupportedEncoding, message)
}
