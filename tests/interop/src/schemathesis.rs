//! Schemathesis: reads an OpenAPI description, and asks the server everything that it promises.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::script::{How, run};

/// Far more than a run takes: it shares the machine with builds.
const RUN_MAX: Duration = Duration::from_secs(300);

/// Asks a server all that a description promises. `description` is a file or an address, `url` the
/// server, `header` goes with every request, `examples` is how many requests each operation gets
/// beside those at the edges of its types: the same in every run. `settings` is a file of this folder. What it found, as it printed it, when that is anything.
///
/// # Errors
/// What the server did not keep of the description.
///
/// # Panics
/// When it is not installed as pinned, or does not end.
#[track_caller]
pub fn schemathesis(
    settings: &str,
    description: &str,
    url: &str,
    header: &str,
    examples: u32,
) -> Result<(), String> {
    crate::require_stamp("schemathesis.stamp", &[include_str!("../schemathesis.txt")]);
    let home = crate::tools().join("schemathesis");
    let program: PathBuf = home.join("bin/schemathesis");
    let settings = crate::folder().join(settings);
    let mut command = Command::new(program);
    command.arg("--config-file").arg(settings);
    command.args(["run", description, "--url", url, "--header", header]);
    command.args(["--checks", "all", "--max-examples", &examples.to_string()]);
    command.args([
        "--generation-deterministic",
        "--continue-on-failure",
        "--no-color",
    ]);
    // Its own notes go into the folder that it runs in.
    let folder = tempfile::tempdir().expect("a folder");
    let end = run(command_in(command, folder.path()), RUN_MAX);
    match end.how {
        How::Success => Ok(()),
        How::Failure(status) if status.code() == Some(1) => Err(end.stdout),
        How::Failure(status) => panic!("schemathesis ended with {status}{}", end.shown()),
        How::TimeLimit => panic!("schemathesis was killed after {RUN_MAX:?}{}", end.shown()),
    }
}

fn command_in(mut command: Command, folder: &std::path::Path) -> Command {
    command.current_dir(folder);
    command
}
