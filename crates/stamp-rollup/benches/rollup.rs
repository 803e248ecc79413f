//! Cost of ordering and folding one row.

fn main() {}
