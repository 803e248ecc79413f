//! `stamp-soak --seconds N [--seed S]`: what `cargo xtask soak` starts. Exit codes: 0 every event
//! is there once, 1 the soak did not work or the stamp did not settle, 2 usage, 5 differences.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program: its output is its result"
)]

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use stamp_soak::Plan;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let plan = match plan(&arguments) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("stamp-soak: {error:#}\nstamp-soak --seconds N [--seed S]");
            return ExitCode::from(2);
        }
    };
    match stamp_soak::run(plan).await {
        Ok(report) if report.is_good() => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Ok(report) => {
            print!("{report}");
            ExitCode::from(5)
        }
        Err(error) => {
            eprintln!("stamp-soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The plan, with the `stampworks` that lies beside this program.
fn plan(arguments: &[String]) -> Result<Plan> {
    let (mut seconds, mut seed) = (None, 1);
    for pair in arguments.chunks(2) {
        let [option, value] = pair else {
            bail!("`{}` takes a number", pair[0]);
        };
        let number: u64 = value
            .parse()
            .with_context(|| format!("`{option} {value}`: not a number"))?;
        match option.as_str() {
            "--seconds" => seconds = Some(number),
            "--seed" => seed = number,
            other => bail!("unknown option `{other}`"),
        }
    }
    let seconds = seconds.context("--seconds is missing")?;
    let program = std::env::current_exe()
        .context("find this program")?
        .with_file_name("stampworks");
    Ok(Plan::new(Duration::from_secs(seconds), seed, program))
}
