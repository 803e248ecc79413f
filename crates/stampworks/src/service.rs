//! The binary of the image, which is built without the feature `emulator`. A name of its own, so that building it
//! never replaces the binary that the tests run.

use std::process::ExitCode;

fn main() -> ExitCode {
    stampworks::run()
}
