use super::{Malformed, Reader, Value};

fn read(bytes: &[u8]) -> Result<Value<'_>, Malformed> {
    let mut reader = Reader::new(bytes);
    let value = reader.value()?;
    assert!(reader.is_empty(), "{bytes:x?} was not read to its end");
    Ok(value)
}

#[test]
fn every_simple_encoding_is_read() {
    let cases: [(&[u8], Value<'_>); 29] = [
        (&[0x40], Value::Null),
        (&[0x41], Value::Bool(true)),
        (&[0x42], Value::Bool(false)),
        (&[0x56, 1], Value::Bool(true)),
        (&[0x56, 0], Value::Bool(false)),
        (&[0x43], Value::Uint(0)),
        (&[0x44], Value::Uint(0)),
        (&[0x50, 0xff], Value::Uint(255)),
        (&[0x60, 1, 0], Value::Uint(256)),
        (&[0x52, 7], Value::Uint(7)),
        (&[0x70, 0, 1, 0, 0], Value::Uint(65_536)),
        (&[0x53, 9], Value::Uint(9)),
        (
            &[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            Value::Uint(u64::MAX),
        ),
        (&[0x51, 0x80], Value::Int(-128)),
        (&[0x61, 0xff, 0xfe], Value::Int(-2)),
        (&[0x54, 0xff], Value::Int(-1)),
        (&[0x71, 0x80, 0, 0, 0], Value::Int(i64::from(i32::MIN))),
        (&[0x55, 0x7f], Value::Int(127)),
        (&[0x81, 0x80, 0, 0, 0, 0, 0, 0, 0], Value::Int(i64::MIN)),
        (&[0x72, 0x3f, 0x80, 0, 0], Value::Float(1.0)),
        (&[0x82, 0xbf, 0xf0, 0, 0, 0, 0, 0, 0], Value::Float(-1.0)),
        (&[0x73, 0, 0, 0, 0x41], Value::Char(0x41)),
        (
            &[0x83, 0, 0, 0, 0, 0, 0, 3, 0xe8],
            Value::TimestampMs(1_000),
        ),
        (&[0xa0, 2, 5, 6], Value::Binary(&[5, 6])),
        (&[0xb0, 0, 0, 0, 1, 5], Value::Binary(&[5])),
        (&[0xa1, 1, b'x'], Value::Text(b"x")),
        (&[0xb1, 0, 0, 0, 1, b'x'], Value::Text(b"x")),
        (&[0xa3, 1, b'y'], Value::Text(b"y")),
        (&[0xb3, 0, 0, 0, 1, b'y'], Value::Text(b"y")),
    ];
    for (bytes, expected) in cases {
        assert_eq!(read(bytes), Ok(expected), "{bytes:x?}");
    }
    assert_eq!(
        read(&[[0x98].as_slice(), &[7; 16]].concat()),
        Ok(Value::Uuid(&[7; 16]))
    );
}

#[test]
fn compounds_are_read_lazily_in_all_their_widths() {
    let lists: [&[u8]; 3] = [
        &[0x45],
        &[0xc0, 3, 1, 0x52, 7],
        &[0xd0, 0, 0, 0, 6, 0, 0, 0, 1, 0x52, 7],
    ];
    for (bytes, length) in lists.into_iter().zip([0, 1, 1]) {
        let Ok(Value::List(mut list)) = read(bytes) else {
            panic!("{bytes:x?} is a list");
        };
        let mut values = Vec::new();
        while !list.is_empty() {
            values.push(list.value().unwrap());
        }
        assert_eq!(values, vec![Value::Uint(7); length]);
    }
    let Ok(Value::Array(array)) = read(&[0xe0, 6, 2, 0xa1, 1, b'a', 1, b'b']) else {
        panic!("it is an array");
    };
    let values: Result<Vec<_>, _> = array.values().collect();
    assert_eq!(values, Ok(vec![Value::Text(b"a"), Value::Text(b"b")]));
}

#[test]
fn what_has_no_form_here_is_kept_whole() {
    let described: &[u8] = &[0x00, 0x53, 0x0a, 0xa1, 1, b'x'];
    assert_eq!(read(described), Ok(Value::Other(described)));
    let decimal: &[u8] = &[0x74, 1, 2, 3, 4];
    assert_eq!(read(decimal), Ok(Value::Other(decimal)));
}

#[test]
fn lengths_that_lie_are_refused() {
    let bad: [&[u8]; 8] = [
        &[],
        &[0xa1, 2, b'x'],
        &[0xb0, 0xff, 0xff, 0xff, 0xff, 1],
        &[0x80, 1, 2],
        &[0xc0, 0],
        &[0x3f],
        &[0x00, 0x53],
        &[0xe0, 1, 1],
    ];
    for bytes in bad {
        assert!(read(bytes).is_err(), "{bytes:x?} was accepted");
    }
    // Twelve descriptors inside one another.
    assert!(read(&[0; 32]).is_err());
}

#[test]
fn an_array_that_claims_endless_empty_elements_ends_at_once() {
    let bytes = [0xf0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x40];
    let Ok(Value::Array(array)) = read(&bytes) else {
        panic!("it is an array");
    };
    let values: Result<Vec<_>, _> = array.values().collect();
    assert!(values.is_err());
}
