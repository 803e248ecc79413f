//! Damage that messages take: flipped bits, moved pieces, other spellings.

use proptest::prelude::*;

/// One change; positions are fractions of the body in 1/65,536.
#[derive(Debug, Clone)]
pub(crate) enum Mutation {
    FlipBit(u16, u8),
    Insert(u16, &'static str),
    Remove(u16, u8),
    Truncate(u16),
    /// Copies a piece to another place.
    Copy(u16, u8, u16),
    /// Spells the letter at this place as an escape.
    Escape(u16),
    /// Repeats the member that starts at the next quote after this place.
    RepeatMember(u16),
    /// Replaces the number after this place.
    Number(u16, &'static str),
}

/// Mostly none, so that shapes are learned; else a few.
pub(crate) fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    prop_oneof![
        3 => Just(Vec::new()),
        4 => prop::collection::vec(mutation(), 1..3),
    ]
}

fn mutation() -> impl Strategy<Value = Mutation> {
    const PIECES: [&str; 17] = [
        " ", "\n", "\t", ",", "\"", "\\", "{", "}", "[", "]", "0", "-", "e5", "\\u0041", "ü",
        "null", "\u{0}",
    ];
    const NUMBERS: [&str; 12] = [
        "1e999",
        "-1e999",
        "01",
        "1.",
        ".5",
        "NaN",
        "9223372036854775808",
        "-9223372036854775808",
        "0.30000000000000004",
        "123456789012345678901234567890",
        "1E-400",
        "null",
    ];
    prop_oneof![
        (any::<u16>(), 0_u8..8).prop_map(|(at, bit)| Mutation::FlipBit(at, bit)),
        (any::<u16>(), prop::sample::select(&PIECES[..]))
            .prop_map(|(at, piece)| Mutation::Insert(at, piece)),
        (any::<u16>(), 1_u8..9).prop_map(|(at, len)| Mutation::Remove(at, len)),
        any::<u16>().prop_map(Mutation::Truncate),
        (any::<u16>(), 1_u8..30, any::<u16>())
            .prop_map(|(from, len, to)| Mutation::Copy(from, len, to)),
        any::<u16>().prop_map(Mutation::Escape),
        any::<u16>().prop_map(Mutation::RepeatMember),
        (any::<u16>(), prop::sample::select(&NUMBERS[..]))
            .prop_map(|(at, number)| Mutation::Number(at, number)),
    ]
}

/// The body after these changes, in order.
pub(crate) fn apply(mut body: Vec<u8>, mutations: &[Mutation]) -> Vec<u8> {
    for mutation in mutations {
        change(&mut body, mutation);
    }
    body
}

fn place(body: &[u8], fraction: u16) -> usize {
    body.len() * usize::from(fraction) / 65_536
}

fn change(body: &mut Vec<u8>, mutation: &Mutation) {
    if body.is_empty() {
        return;
    }
    match *mutation {
        Mutation::FlipBit(at, bit) => {
            let at = place(body, at);
            body[at] ^= 1 << bit;
        }
        Mutation::Insert(at, piece) => {
            let at = place(body, at);
            body.splice(at..at, piece.bytes());
        }
        Mutation::Remove(at, len) => {
            let at = place(body, at);
            let end = body.len().min(at + usize::from(len));
            body.drain(at..end);
        }
        Mutation::Truncate(at) => body.truncate(place(body, at)),
        Mutation::Copy(from, len, to) => {
            let (from, to) = (place(body, from), place(body, to));
            let end = body.len().min(from + usize::from(len));
            let piece = body[from..end].to_vec();
            body.splice(to..to, piece);
        }
        Mutation::Escape(at) => {
            let at = place(body, at);
            let found = body[at..].iter().position(u8::is_ascii_lowercase);
            if let Some(offset) = found {
                let escape = format!("\\u{:04x}", body[at + offset]);
                body.splice(at + offset..=at + offset, escape.bytes());
            }
        }
        Mutation::RepeatMember(at) => repeat_member(body, at),
        Mutation::Number(at, number) => {
            let at = place(body, at);
            let digit = |b: &u8| b.is_ascii_digit() || *b == b'.';
            if let Some(offset) = body[at..].iter().position(digit) {
                let start = at + offset;
                let len = body[start..].iter().take_while(|b| digit(b)).count();
                body.splice(start..start + len, number.bytes());
            }
        }
    }
}

fn repeat_member(body: &mut Vec<u8>, at: u16) {
    let at = place(body, at);
    let Some(start) = body[at..]
        .iter()
        .position(|b| *b == b'"')
        .map(|offset| at + offset)
    else {
        return;
    };
    let Some(comma) = body[start..]
        .iter()
        .position(|b| *b == b',')
        .map(|offset| start + offset)
    else {
        return;
    };
    let member = body[start..=comma].to_vec();
    body.splice(start..start, member);
}
