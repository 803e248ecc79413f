//! Cost of decoding one event.

fn main() {}
