//! Paths of requests.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// What stays as it is in a segment of a path, and in a field of a token (RFC 3986, unreserved).
pub(crate) const ESCAPED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Joins segments to a path; each is escaped, so an id is always one segment.
pub(crate) fn path(segments: &[&str]) -> String {
    let mut path = String::new();
    for segment in segments {
        path.push('/');
        path.extend(percent_encode(segment.as_bytes(), &ESCAPED));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_always_one_segment() {
        assert_eq!(
            path(&["devices", "a.b+c%d#e?f"]),
            "/devices/a.b%2Bc%25d%23e%3Ff"
        );
        assert_eq!(path(&["devices", "../x"]), "/devices/..%2Fx");
    }
}
