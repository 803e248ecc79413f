//! Chromium, driven by Playwright, as somebody who looks at a status page.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::script::{Language, run_script_with};

/// Far more than a look takes: it shares the machine with builds.
const LOOK_MAX: Duration = Duration::from_secs(400);

/// What the browser does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Waits until the page shows newer numbers by itself.
    Watch,
    /// Reads it, and looks at it on a light desk and on a dark phone.
    Glance,
    /// The same on a desk and on a phone, light and dark, and uses every control.
    Inspect,
}

/// What a browser finds at `address`; pictures go to a folder. `node/status_page.cjs` has the fields.
///
/// # Panics
/// When Chromium or the driver is not installed, or when the page does not do what the look waits for.
#[must_use]
#[track_caller]
pub fn status_page(look: Look, address: &str, pictures: &Path) -> Value {
    let program = chromium();
    let what = match look {
        Look::Watch => "watch",
        Look::Glance => "glance",
        Look::Inspect => "inspect",
    };
    let text = |path: &Path| path.to_str().expect("a path of text").to_owned();
    let (program, pictures) = (text(&program), text(pictures));
    // The profile goes with it, also when the script is killed.
    let profile = tempfile::tempdir().expect("a folder");
    run_script_with(
        Language::Node,
        "node/status_page.cjs",
        &[&program, what, address, &pictures],
        &[("TMPDIR", &text(profile.path()))],
        LOOK_MAX,
    )
}

#[track_caller]
fn chromium() -> PathBuf {
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let mut programs = std::env::split_paths(&on_path).map(|folder| folder.join("chromium"));
    programs.find(|path| path.is_file()).unwrap_or_else(|| {
        panic!(
            "no `chromium` on the path: `cargo xtask test` installs it on Debian or Ubuntu as root"
        )
    })
}
