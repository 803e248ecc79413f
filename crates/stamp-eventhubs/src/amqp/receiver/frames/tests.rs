use proptest::prelude::*;

use super::*;

/// A frame with so many bytes of body, each of them `fill`.
fn frame(length: usize, fill: u8) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, 0, 3, &vec![fill; length]);
    out
}

/// Hears `bytes` in pieces of at most `piece`; gives the whole frames as they are given out.
fn hear(frames: &mut Frames, bytes: &[u8], piece: usize) -> Result<Vec<Bytes>, HubError> {
    let mut given = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let space = frames.space();
        let length = rest.len().min(piece).min(space.capacity() - space.len());
        assert!(length > 0, "there is always space to read into");
        let (now, later) = rest.split_at(length);
        space.extend_from_slice(now);
        rest = later;
        while let Some(place) = frames.next()? {
            given.push(frames.chunk().slice(place));
        }
    }
    Ok(given)
}

#[test]
fn frames_come_whole_wherever_the_stream_is_cut() {
    let said: Vec<Vec<u8>> = (0..4).map(|n| frame(usize::from(n) * 5, n)).collect();
    let stream = said.concat();
    for cut in 1..stream.len() {
        let mut frames = Frames::new();
        let mut given = hear(&mut frames, &stream[..cut], usize::MAX).unwrap();
        given.extend(hear(&mut frames, &stream[cut..], usize::MAX).unwrap());
        assert_eq!(given, said, "cut at {cut}");
    }
}

#[test]
fn a_buffer_is_read_into_again_when_its_frames_are_gone() {
    let mut frames = Frames::new();
    let stream = frame(1_000, 1).repeat(100);
    let mut buffers = std::collections::BTreeSet::new();
    for _ in 0..200 {
        for given in hear(&mut frames, &stream, usize::MAX).unwrap() {
            buffers.insert(given.as_ptr() as usize / BUFFER_BYTES);
        }
    }
    // Twenty megabytes went through; a buffer may lie across three such places.
    assert!(
        buffers.len() <= 6,
        "{} places were read into",
        buffers.len()
    );
}

#[test]
fn frames_that_are_kept_are_never_read_over() {
    let mut frames = Frames::new();
    let mut kept = Vec::new();
    for number in 0..2_000_u32 {
        let said = frame(1_000, number as u8);
        kept.extend(hear(&mut frames, &said, usize::MAX).unwrap());
    }
    for (number, frame) in kept.iter().enumerate() {
        assert!(frame[8..].iter().all(|&byte| byte == number as u8));
    }
    assert!(frames.kept.len() <= BUFFERS_KEPT);
}

#[test]
fn a_size_that_no_frame_has_is_refused_with_its_place() {
    for (size, shown) in [
        (7_u32, "a frame claims 7 bytes"),
        (65_537, "a frame claims 65537 bytes"),
        (u32::from_be_bytes(*b"AMQP"), "a protocol header"),
    ] {
        let stream = [frame(2, 0), size.to_be_bytes().to_vec()].concat();
        let error = hear(&mut Frames::new(), &stream, 3)
            .unwrap_err()
            .to_string();
        assert!(error.contains(shown), "{error}");
        assert!(error.contains("at byte 10 of the stream"), "{error}");
    }
}

#[test]
fn a_frame_says_where_its_body_begins() {
    let mut wide = frame(8, 7);
    wide[4] = 3;
    assert_eq!(head(&wide).unwrap().1, 12);
    for offset in [0, 1, 5, 255] {
        wide[4] = offset;
        assert!(head(&wide).is_err(), "offset {offset}");
    }
}

proptest! {
    #[test]
    fn the_pieces_and_sizes_do_not_matter(
        lengths in prop::collection::vec(prop_oneof![0_usize..600, 60_000_usize..65_528], 1..30),
        piece in 1_usize..200_000,
    ) {
        let said: Vec<Vec<u8>> = (0..).zip(&lengths).map(|(n, &length)| frame(length, n)).collect();
        let given = hear(&mut Frames::new(), &said.concat(), piece).unwrap();
        prop_assert_eq!(given, said);
    }
}
