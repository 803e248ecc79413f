//! UTF-8, UTF-16 and UTF-32 bodies.

use crate::rejection::{Decoded, Fault, RejectionCode};

/// How characters are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charset {
    Utf8,
    Utf16(Order),
    Utf32(Order),
}

/// Order of the bytes in a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Big,
    Little,
    /// By byte order mark; without one, by the zero bytes of the first character, which is ASCII
    /// in every JSON text.
    Found,
}

impl Charset {
    pub(super) fn parse(token: &str) -> Option<Self> {
        const NAMES: [(&str, Charset); 13] = [
            ("utf-8", Charset::Utf8),
            ("utf8", Charset::Utf8),
            ("us-ascii", Charset::Utf8),
            ("utf-16", Charset::Utf16(Order::Found)),
            ("utf16", Charset::Utf16(Order::Found)),
            ("utf-16le", Charset::Utf16(Order::Little)),
            ("utf16le", Charset::Utf16(Order::Little)),
            ("utf-16be", Charset::Utf16(Order::Big)),
            ("utf16be", Charset::Utf16(Order::Big)),
            ("utf-32", Charset::Utf32(Order::Found)),
            ("utf32", Charset::Utf32(Order::Found)),
            ("utf-32le", Charset::Utf32(Order::Little)),
            ("utf-32be", Charset::Utf32(Order::Big)),
        ];
        let named = NAMES
            .iter()
            .find(|(name, _)| token.eq_ignore_ascii_case(name));
        named.map(|(_, charset)| *charset)
    }
}

pub(super) fn utf8(bytes: &[u8]) -> Decoded<&str> {
    std::str::from_utf8(bytes).map_err(|error| {
        let message = if bytes.starts_with(&[0x1f, 0x8b]) {
            "looks like gzip, but content-encoding does not say so"
        } else if bytes.iter().take(4).any(|b| *b == 0) {
            "looks like UTF-16 or UTF-32, but content-encoding does not say so"
        } else {
            "not UTF-8"
        };
        Fault::new(RejectionCode::NotUtf8, message).at(error.valid_up_to())
    })
}

pub(super) fn utf16<'a>(
    bytes: &[u8],
    order: Order,
    max: usize,
    out: &'a mut String,
) -> Decoded<&'a str> {
    let little = match (order, bytes) {
        (Order::Found, [0xfe, 0xff, ..] | [0, ..]) | (Order::Big, _) => false,
        (Order::Found, _) | (Order::Little, _) => true,
    };
    let (units, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(broken("UTF-16", bytes.len()));
    }
    let unit = |b: &[u8; 2]| {
        if little {
            u16::from_le_bytes(*b)
        } else {
            u16::from_be_bytes(*b)
        }
    };
    out.clear();
    // Two bytes become at most three; `push` never goes above the limit, so this is the only
    // allocation.
    out.reserve_exact(max.min(units.len() * 3));
    let mut at = 0;
    for decoded in char::decode_utf16(units.iter().map(unit)) {
        let c = decoded.map_err(|_| broken("UTF-16", at))?;
        push(out, c, max)?;
        at += c.len_utf16() * 2;
    }
    Ok(out)
}

pub(super) fn utf32<'a>(
    bytes: &[u8],
    order: Order,
    max: usize,
    out: &'a mut String,
) -> Decoded<&'a str> {
    let little = match (order, bytes) {
        (Order::Found, [0, ..]) | (Order::Big, _) => false,
        (Order::Found, _) | (Order::Little, _) => true,
    };
    let (units, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(broken("UTF-32", bytes.len()));
    }
    let unit = |b: &[u8; 4]| {
        if little {
            u32::from_le_bytes(*b)
        } else {
            u32::from_be_bytes(*b)
        }
    };
    out.clear();
    out.reserve_exact(max.min(bytes.len()));
    for (index, bytes) in units.iter().enumerate() {
        let c = char::from_u32(unit(bytes)).ok_or_else(|| broken("UTF-32", index * 4))?;
        push(out, c, max)?;
    }
    Ok(out)
}

fn push(out: &mut String, c: char, max: usize) -> Decoded<()> {
    if out.len() + c.len_utf8() > max {
        let message = format!("more than {max} bytes of UTF-8");
        return Err(Fault::new(RejectionCode::TooLarge, message).rule("limits.decompressed-max"));
    }
    out.push(c);
    Ok(())
}

#[cold]
fn broken(charset: &str, at: usize) -> Box<Fault> {
    Fault::new(RejectionCode::NotUtf8, format!("not {charset}")).at(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "{\"name\": \"Öl 😀\"}";

    fn encode16(text: &str, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(to_bytes).collect()
    }

    fn encode32(text: &str, to_bytes: fn(u32) -> [u8; 4]) -> Vec<u8> {
        text.chars().flat_map(|c| to_bytes(u32::from(c))).collect()
    }

    #[test]
    fn every_order_is_read_with_and_without_a_mark() {
        let marked = format!("\u{feff}{TEXT}");
        for text in [TEXT, &marked] {
            let mut out = String::new();
            for (bytes, named) in [
                (encode16(text, u16::to_le_bytes), Order::Little),
                (encode16(text, u16::to_be_bytes), Order::Big),
            ] {
                assert_eq!(utf16(&bytes, named, 100, &mut out).unwrap(), text);
                assert_eq!(utf16(&bytes, Order::Found, 100, &mut out).unwrap(), text);
            }
            for (bytes, named) in [
                (encode32(text, u32::to_le_bytes), Order::Little),
                (encode32(text, u32::to_be_bytes), Order::Big),
            ] {
                assert_eq!(utf32(&bytes, named, 100, &mut out).unwrap(), text);
                assert_eq!(utf32(&bytes, Order::Found, 100, &mut out).unwrap(), text);
            }
        }
    }

    #[test]
    fn half_characters_and_lone_surrogates_are_refused() {
        let mut out = String::new();
        for bytes in [
            &[b'{', 0, b'}'][..],
            &[0x00, 0xd8, b'}', 0],
            &[b'{', 0, 0x00, 0xdc],
        ] {
            let code = utf16(bytes, Order::Little, 100, &mut out).unwrap_err().code;
            assert_eq!(code, RejectionCode::NotUtf8);
        }
        for bytes in [&[b'{', 0, 0][..], &[0, 0xd8, 0, 0], &[0, 0, 0x11, 0]] {
            let code = utf32(bytes, Order::Little, 100, &mut out).unwrap_err().code;
            assert_eq!(code, RejectionCode::NotUtf8);
        }
    }

    #[test]
    fn the_size_limit_counts_the_text_that_comes_out() {
        let bytes = encode16("éé", u16::to_le_bytes);
        let mut out = String::new();
        assert!(utf16(&bytes, Order::Little, 4, &mut out).is_ok());
        let code = utf16(&bytes, Order::Little, 3, &mut out).unwrap_err().code;
        assert_eq!(code, RejectionCode::TooLarge);
    }
}
