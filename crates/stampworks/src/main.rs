//! The whole of it: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    stampworks::run()
}
