//! Takes choices and pieces from the front of a fuzz target's bytes.

/// Separates the pieces of one input: the record separator of ASCII, which no text format that is
/// fuzzed here uses.
pub(crate) const SEPARATOR: u8 = 0x1e;

/// The bytes that are left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    /// The next byte; 0 when there is none.
    pub(crate) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// The next number, big-endian; missing bytes are 0.
    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// The next `length` bytes, or all that are left.
    pub(crate) fn take(&mut self, length: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(length.min(self.0.len()));
        self.0 = tail;
        head
    }

    /// Everything that is left, cut at each separator; at most `max` pieces, the last one whole.
    pub(crate) fn pieces(self, max: usize) -> impl Iterator<Item = &'a [u8]> {
        self.0.splitn(max, |byte| *byte == SEPARATOR)
    }
}
