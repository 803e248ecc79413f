//! gzip and deflate, with a cap on what comes out.

use std::io::Read;

use flate2::bufread::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};

use crate::rejection::{Decoded, Fault, RejectionCode};

/// A content encoding that compresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Deflate,
}

impl Compression {
    pub(super) fn parse(token: &str) -> Option<Self> {
        const NAMES: [(&str, Compression); 3] = [
            ("gzip", Compression::Gzip),
            ("x-gzip", Compression::Gzip),
            ("deflate", Compression::Deflate),
        ];
        let named = NAMES
            .iter()
            .find(|(name, _)| token.eq_ignore_ascii_case(name));
        named.map(|(_, compression)| *compression)
    }
}

/// First size of the output buffer.
const START_BYTES: usize = 4 << 10;

/// Decompresses all gzip members of `body` into `out`.
pub(super) fn gunzip<'a>(body: &[u8], max: usize, out: &'a mut Vec<u8>) -> Decoded<&'a [u8]> {
    let mut decoder = MultiGzDecoder::new(body);
    let mut filled = 0;
    out.clear();
    loop {
        grow(out, filled, max);
        if filled == out.len() {
            // The buffer is as large as it may get: one byte more is one too many.
            return match decoder.read(&mut [0]) {
                Ok(0) => Ok(out),
                Ok(_) => Err(too_large(max)),
                Err(error) => Err(bad("gzip", &error.to_string())),
            };
        }
        match decoder.read(&mut out[filled..]) {
            Ok(0) => {
                out.truncate(filled);
                return Ok(out);
            }
            Ok(read) => filled += read,
            Err(error) => return Err(bad("gzip", &error.to_string())),
        }
    }
}

/// Decompresses `deflate`, which by RFC 9110 is a zlib stream and by long custom often a raw one.
pub(super) fn inflate<'a>(body: &[u8], max: usize, out: &'a mut Vec<u8>) -> Decoded<&'a [u8]> {
    let zlib = if has_zlib_header(body) {
        run(Decompress::new(true), body, max, out)
    } else {
        Err(bad("deflate", "no zlib header"))
    };
    // A raw stream can begin with two bytes that look like a zlib header, so a failure is no
    // proof yet. A body that is too large under either reading is refused as such.
    match zlib {
        Err(fault) if fault.code == RejectionCode::BadCompression => {
            run(Decompress::new(false), body, max, out)?;
        }
        other => other?,
    }
    Ok(out)
}

/// RFC 1950: method 8 in the low half byte, and the first two bytes are a multiple of 31.
fn has_zlib_header(body: &[u8]) -> bool {
    match body {
        [method, flags, ..] => {
            method & 0x0f == 8 && (u16::from(*method) << 8 | u16::from(*flags)) % 31 == 0
        }
        _ => false,
    }
}

fn run(mut stream: Decompress, body: &[u8], max: usize, out: &mut Vec<u8>) -> Decoded<()> {
    out.clear();
    loop {
        let read = usize::try_from(stream.total_in()).unwrap_or(usize::MAX);
        let filled = usize::try_from(stream.total_out()).unwrap_or(usize::MAX);
        grow(out, filled, max);
        let full = filled == out.len();
        // A full buffer gets one spare byte: a stream that is done will not use it.
        let mut spare = [0];
        let target = if full {
            &mut spare[..]
        } else {
            &mut out[filled..]
        };
        let status = stream
            .decompress(&body[read..], target, FlushDecompress::None)
            .map_err(|error| bad("deflate", &error.to_string()))?;
        let written = usize::try_from(stream.total_out()).unwrap_or(usize::MAX);
        if full && written > filled {
            return Err(too_large(max));
        }
        if status == Status::StreamEnd {
            out.truncate(written);
            let rest = body.len() as u64 - stream.total_in();
            return if rest == 0 {
                Ok(())
            } else {
                Err(bad("deflate", &format!("{rest} bytes follow the end")))
            };
        }
        if written == filled && stream.total_in() == read as u64 {
            return Err(bad("deflate", "the data ends early"));
        }
    }
}

/// Makes room after `filled` bytes: doubled, but never above `max`.
fn grow(out: &mut Vec<u8>, filled: usize, max: usize) {
    if filled == out.len() && filled < max {
        let size = (filled * 2).max(START_BYTES).min(max);
        out.reserve_exact(size - filled);
        out.resize(size, 0);
    }
}

#[cold]
fn bad(format: &str, why: &str) -> Box<Fault> {
    Fault::new(
        RejectionCode::BadCompression,
        format!("not {format}: {why}"),
    )
}

#[cold]
fn too_large(max: usize) -> Box<Fault> {
    let message = format!("decompresses to more than {max} bytes");
    Fault::new(RejectionCode::TooLarge, message).rule("limits.decompressed-max")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression as Level;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    type Unpack = for<'a> fn(&[u8], usize, &'a mut Vec<u8>) -> Decoded<&'a [u8]>;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Level::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(data: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Level::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn raw(data: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Level::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_size_limit_is_exact() {
        let data = vec![b'x'; 10_000];
        let mut out = Vec::new();
        assert_eq!(gunzip(&gzip(&data), 10_000, &mut out).unwrap(), data);
        assert_eq!(inflate(&zlib(&data), 10_000, &mut out).unwrap(), data);
        assert_eq!(inflate(&raw(&data), 10_000, &mut out).unwrap(), data);
        for result in [
            gunzip(&gzip(&data), 9_999, &mut Vec::new()).map(<[u8]>::len),
            inflate(&zlib(&data), 9_999, &mut Vec::new()).map(<[u8]>::len),
            inflate(&raw(&data), 9_999, &mut Vec::new()).map(<[u8]>::len),
        ] {
            assert_eq!(result.unwrap_err().code, RejectionCode::TooLarge);
        }
    }

    /// Fault scenario 27.
    #[test]
    fn a_bomb_allocates_no_more_than_the_limit() {
        let bomb = vec![0; 32 << 20];
        let max = 3 << 20;
        for (pack, unpack) in [
            (gzip(&bomb), gunzip as Unpack),
            (zlib(&bomb), inflate),
            (raw(&bomb), inflate),
        ] {
            let mut out = Vec::new();
            let code = unpack(&pack, max, &mut out).unwrap_err().code;
            assert_eq!(code, RejectionCode::TooLarge);
            assert!(
                out.capacity() <= max,
                "{} bytes were allocated",
                out.capacity()
            );
        }
    }

    #[test]
    fn cut_and_padded_streams_are_refused() {
        let data = b"{\"temp\": 21.5, \"more\": \"0123456789 abcdefghij\"}";
        for (packed, unpack) in [
            (gzip(data), gunzip as Unpack),
            (zlib(data), inflate),
            (raw(data), inflate),
        ] {
            let mut padded = packed.clone();
            padded.extend(b"junk");
            assert!(unpack(&padded, 1 << 20, &mut Vec::new()).is_err());
            for len in 0..packed.len() {
                assert!(
                    unpack(&packed[..len], 1 << 20, &mut Vec::new()).is_err(),
                    "{len} bytes"
                );
            }
        }
    }

    #[test]
    fn members_of_a_gzip_file_are_joined() {
        let joined = [gzip(b"{\"a\":1}\n"), gzip(b"{\"a\":2}\n")].concat();
        assert_eq!(
            gunzip(&joined, 100, &mut Vec::new()).unwrap(),
            b"{\"a\":1}\n{\"a\":2}\n"
        );
    }
}
