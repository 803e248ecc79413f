//! Where JSON tokens begin and end. Strings are looked at eight bytes at a time.

use crate::number::{self, Number};
use crate::rejection::{Decoded, Fault, RejectionCode};

/// The text between the quotes of a JSON string.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quoted {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) escaped: bool,
}

/// A place in a body that is known to be UTF-8.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scan<'a> {
    pub(crate) text: &'a str,
    pub(crate) at: usize,
}

impl<'a> Scan<'a> {
    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    pub(crate) fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// The bytes from `start` to `end`, both of which lie at ASCII characters or at the end.
    #[inline]
    pub(crate) fn slice(&self, start: usize, end: usize) -> &'a str {
        self.text.get(start..end).unwrap_or_default()
    }

    #[cold]
    pub(crate) fn malformed(&self, expected: &str) -> Box<Fault> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let found = match rest.chars().next() {
            Some(c) => format!("found {c:?}"),
            None => "the body ends".to_owned(),
        };
        let message = format!("expected {expected}, {found}");
        Fault::new(RejectionCode::MalformedJson, message).at(self.at)
    }

    pub(crate) fn literal(&mut self, word: &str) -> Decoded<()> {
        if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(())
        } else {
            Err(self.malformed(&format!("`{word}`")))
        }
    }

    pub(crate) fn number(&mut self) -> Decoded<(Number, &'a str)> {
        let start = self.at;
        match number::scan(self.text.as_bytes(), start) {
            Ok(number) => {
                self.at = number.end;
                Ok((number, self.slice(start, number.end)))
            }
            Err(at) => {
                self.at = at;
                Err(self.malformed("a digit"))
            }
        }
    }

    /// Reads the string whose opening quote is here, checking characters and escapes.
    pub(crate) fn string(&mut self) -> Decoded<Quoted> {
        let start = self.at + 1;
        self.at = start;
        let mut escaped = false;
        loop {
            self.at = plain_end(self.text.as_bytes(), self.at);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => {
                    return Err(self.malformed("control characters in a string to be escaped"));
                }
                None => return Err(self.malformed("a closing quote")),
            }
        }
        let end = self.at;
        self.at += 1;
        Ok(Quoted {
            start,
            end,
            escaped,
        })
    }

    fn escape(&mut self) -> Decoded<char> {
        self.at += 1;
        let plain = match self.peek() {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return Err(self.malformed("an escape such as \\n or \\u00e9")),
        };
        self.at += 1;
        Ok(plain)
    }

    fn unicode(&mut self) -> Decoded<char> {
        let first = self.hex4()?;
        let code = match first {
            0xD800..=0xDBFF if self.text.as_bytes()[self.at..].starts_with(b"\\u") => {
                self.at += 1;
                let second = self.hex4()?;
                if !(0xDC00..=0xDFFF).contains(&second) {
                    return Err(self.malformed("the second half of a surrogate pair before this"));
                }
                0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00)
            }
            other => other,
        };
        char::from_u32(code).ok_or_else(|| self.malformed("no lone surrogate before this"))
    }

    /// Four hexadecimal digits after the `u` that is here.
    fn hex4(&mut self) -> Decoded<u32> {
        self.at += 1;
        let mut value = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|b| char::from(b).to_digit(16));
            value = value * 16 + digit.ok_or_else(|| self.malformed("a hexadecimal digit"))?;
            self.at += 1;
        }
        Ok(value)
    }
}

/// Appends the text that a string with escapes stands for. `content` came from [`Scan::string`].
pub(crate) fn unescape(content: &str, into: &mut String) -> Decoded<()> {
    let mut scan = Scan {
        text: content,
        at: 0,
    };
    while let Some(offset) = content[scan.at..].find('\\') {
        into.push_str(&content[scan.at..scan.at + offset]);
        scan.at += offset;
        into.push(scan.escape()?);
    }
    into.push_str(&content[scan.at..]);
    Ok(())
}

/// The first byte at or after `start` that a JSON string cannot hold as it is: a quote, a
/// backslash or a control character; or the end.
#[inline]
pub(crate) fn plain_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let special = special_bytes(u64::from_le_bytes(*chunk));
        if special != 0 {
            return at + (special.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while let Some(b) = bytes.get(at) {
        if *b == b'"' || *b == b'\\' || *b < 0x20 {
            break;
        }
        at += 1;
    }
    at
}

/// Sets the top bit of each special byte. A borrow can set wrong bits, but only above a right one,
/// so the lowest set bit is always right.
#[inline]
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let quote = word ^ (ONES * 0x22);
    let backslash = word ^ (ONES * 0x5c);
    let is_quote = quote.wrapping_sub(ONES) & !quote;
    let is_backslash = backslash.wrapping_sub(ONES) & !backslash;
    let is_control = word.wrapping_sub(ONES * 0x20) & !word;
    (is_quote | is_backslash | is_control) & TOPS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_mean_what_json_says() {
        let mut text = String::new();
        unescape(r#"a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00z"#, &mut text).unwrap();
        assert_eq!(text, "a\"\\/\u{8}\u{c}\n\r\té😀z");
    }

    #[test]
    fn broken_strings_are_refused() {
        for bad in [
            "\"",
            "\"abc",
            "\"\\",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\\ud800\"",
            "\"\\ud800x\"",
            "\"\\ud800\\n\"",
            "\"\\udc00\"",
            "\"\\ud800\\ud800\"",
            "\"a\nb\"",
            "\"a\0\"",
        ] {
            assert!(
                Scan { text: bad, at: 0 }.string().is_err(),
                "{bad:?} was read"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn the_wide_scan_finds_what_a_narrow_one_finds(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'"'), Just(b'\\'), 0x1e_u8..0x24, Just(b'a')], 0..40), start in 0_usize..40) {
            let start = start.min(bytes.len());
            let narrow = (start..bytes.len())
                .find(|&i| matches!(bytes[i], b'"' | b'\\' | 0..=0x1f))
                .unwrap_or(bytes.len());
            prop_assert_eq!(plain_end(&bytes, start), narrow);
        }

        #[test]
        fn every_string_survives_writing_and_reading(text in "\\PC{0,30}|[\\x00-\\x7f]{0,30}") {
            let json = serde_json::to_string(&text).unwrap();
            let mut scan = Scan { text: &json, at: 0 };
            let quoted = scan.string().unwrap();
            prop_assert_eq!(scan.at, json.len());
            let mut read = String::new();
            unescape(&json[quoted.start..quoted.end], &mut read).unwrap();
            prop_assert_eq!(read, text);
        }
    }
}
