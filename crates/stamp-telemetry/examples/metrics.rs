//! Prints docs/metrics.md: `cargo run -p stamp-telemetry --example metrics`.

use std::io::Write;

fn main() -> std::io::Result<()> {
    std::io::stdout().write_all(stamp_telemetry::catalogue::markdown().as_bytes())
}
