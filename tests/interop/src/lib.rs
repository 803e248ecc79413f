//! Programs nobody here wrote, for tests: [`Azurite`], [`Postgres`], [`Prometheus`], a browser that looks at a
//! [`status_page`], and scripts in Python and
//! Node.js. Beside them what stands between such programs and ours: [`FaultProxy`] and [`WallClock`], and
//! [`Vocabulary`], which knows what a query may name.
//!
//! `cargo xtask test` installs them below `target/interop`, exactly as `requirements.txt`,
//! `schemathesis.txt`, `deploy.txt` and `package-lock.json` of this folder pin them. A test that needs a tool and
//! finds none, or another version, fails and says so: it is never skipped. Nothing here is part of the product.

mod azurite;
mod browser;
mod deploy;
mod postgres;
mod prometheus;
mod promql;
mod proxy;
mod schemathesis;
mod script;
mod wall_clock;

pub use azurite::{ACCOUNT_KEY, ACCOUNT_NAME, Azurite};
pub use browser::{Look, status_page};
pub use deploy::{kustomize, read_terraform, validate_manifests};
pub use postgres::Postgres;
pub use prometheus::{Prometheus, promtool};
pub use promql::Vocabulary;
pub use proxy::{Answer, BODY_BYTES_MAX, Fault, FaultProxy, Rule, Seen};
pub use schemathesis::schemathesis;
pub use script::{Language, run_script, run_script_with};
pub use wall_clock::WallClock;

use std::path::{Path, PathBuf};

/// The pinned Python of the tests.
///
/// # Panics
/// When it is not installed as pinned; the message says what to run.
#[must_use]
#[track_caller]
pub fn python() -> PathBuf {
    require_stamp("python.stamp", &[include_str!("../requirements.txt")]);
    tools().join("python/bin/python")
}

/// The machine's Node.js; packages come from [`node_modules`].
///
/// # Panics
/// When the pinned packages are not installed; the message says what to run.
#[must_use]
#[track_caller]
pub fn node() -> PathBuf {
    // Packages and program belong together: one without the other helps nobody.
    let _packages = node_modules();
    PathBuf::from("node")
}

/// The folder of the pinned Node.js packages.
///
/// # Panics
/// When they are not installed as pinned; the message says what to run.
#[must_use]
#[track_caller]
pub fn node_modules() -> PathBuf {
    require_stamp(
        "node.stamp",
        &[
            include_str!("../package.json"),
            include_str!("../package-lock.json"),
        ],
    );
    tools().join("node_modules")
}

/// Where `cargo xtask test` installs: `target/interop` of the workspace, whatever the build's own
/// target folder is.
fn tools() -> PathBuf {
    folder().join("../../target/interop")
}

/// The folder of this crate.
fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn require_stamp(file: &str, pins: &[&str]) {
    let installed = std::fs::read_to_string(tools().join(file)).unwrap_or_default();
    assert!(
        installed == pins.concat(),
        "run `cargo xtask test` once: it installs the interop tools ({file} in target/interop is \
         missing or of other pins)"
    );
}
