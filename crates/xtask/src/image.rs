//! `cargo xtask image`: the service's container image, written without a daemon.
//!
//! The image holds the binary (built without the parts that play Azure), the shared libraries that the binary
//! names, the authorities that TLS trusts, and its bill of materials; no shell, no package manager, nothing that
//! writes. The same binary gives the same bytes: entries are sorted, and every time is that of the commit, or
//! `SOURCE_DATE_EPOCH`. Nothing is fetched and nothing is pushed.

mod contents;
mod layout;
mod sbom;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::test::{cargo, executable};

/// What is built: the service without `demo`, `emulate`, `simulate` and `bench`.
const SERVICE: [&str; 5] = [
    "--package",
    "stampworks",
    "--no-default-features",
    "--features",
    "service",
];
const PROGRAM: &str = "stampworks-service";
/// The same beside one of the workspace's tests, whichever: libraries then have the features that all tests
/// together give them, and none is compiled again for the image that the tests look at.
const BESIDE_TESTS: [&str; 6] = [
    "--workspace",
    "--test",
    "tools",
    "--no-default-features",
    "--features",
    "stampworks/service,stamp-fuzz/default",
];
/// Of the only machines that the binary is built for.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What to build and where to put it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Image {
    profile: String,
    out: Option<PathBuf>,
}

impl Image {
    /// Reads `[--profile NAME] [--out DIR]`.
    pub(crate) fn parse(arguments: &[&str]) -> Result<Self> {
        let mut image = Self {
            profile: "dist".to_owned(),
            out: None,
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let value = rest
                .next()
                .with_context(|| format!("`{argument}` needs a value"))?;
            match *argument {
                "--profile" => image.profile = (*value).to_owned(),
                "--out" => image.out = Some(PathBuf::from(value)),
                other => bail!("unknown argument `{other}` of image"),
            }
        }
        Ok(image)
    }
}

/// Builds the binary, writes the image and its bill of materials, and prints the digest and the sizes.
pub(crate) fn run(root: &Path, image: &Image) -> Result<()> {
    crate::require_workspace(root)?;
    let out = match &image.out {
        Some(out) => out.clone(),
        None => root.join("target/image"),
    };
    let binary = build(root, &image.profile)?;
    let about = About::of(root)?;
    let system = contents::system(&binary)?;
    let bill = sbom::write(root, &about, &system)?;
    let program = contents::program(root, &binary, &out, bill.clone())?;
    let layers = [system.files, program];
    let written = layout::write(&out, &about, &layers)?;
    fs::write(out.join("sbom.cdx.json"), bill).context("write the bill of materials")?;
    println!("image: {}", out.join("oci").display());
    println!("archive: {}", written.archive.display());
    println!("digest: {}", written.digest);
    println!(
        "size: {} bytes unpacked, {} bytes packed",
        written.unpacked_bytes, written.packed_bytes
    );
    Ok(())
}

/// The binary of the service, built as `profile` says.
fn build(root: &Path, profile: &str) -> Result<PathBuf> {
    let what: &[&str] = match profile {
        "dev" => &BESIDE_TESTS,
        _ => &SERVICE,
    };
    let mut command = cargo();
    command
        .args(["build", "--locked", "--profile", profile])
        .args(what)
        .args(["--bin", PROGRAM])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(root);
    if profile == "dist" {
        command.env("RUSTFLAGS", remapped(root)?);
    }
    executable(&process::output_beside_errors(&mut command)?, PROGRAM)
}

/// Flags that keep the folders of this machine out of the binary, so that another machine builds the same one.
fn remapped(root: &Path) -> Result<String> {
    let home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cargo"),
    };
    let given = std::env::var("RUSTFLAGS").unwrap_or_default();
    let flags = format!(
        "{given} --remap-path-prefix={}=/source --remap-path-prefix={}=/cargo",
        root.display(),
        home.display()
    );
    Ok(flags.trim_start().to_owned())
}

/// What the labels say.
pub(crate) struct About {
    /// Of the workspace.
    pub(crate) version: String,
    /// The commit; with `-dirty` when the tree differs from it.
    pub(crate) revision: String,
    /// Seconds since 1970 that every time in the image is.
    pub(crate) epoch: u64,
}

impl About {
    fn of(root: &Path) -> Result<Self> {
        let git = |arguments: &[&str]| {
            let mut git = Command::new("git");
            process::output(git.args(arguments).current_dir(root))
                .map(|text| text.trim().to_owned())
        };
        let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
        let commit = git(&["rev-parse", "HEAD"])?;
        let epoch = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(epoch) => epoch,
            Err(_) => git(&["log", "-1", "--format=%ct"])?,
        };
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: if changed {
                format!("{commit}-dirty")
            } else {
                commit
            },
            epoch: epoch
                .parse()
                .with_context(|| format!("SOURCE_DATE_EPOCH {epoch:?} is no number of seconds"))?,
        })
    }

    /// The labels of the image, by the OCI's own keys ("Annotations", image-spec).
    pub(crate) fn labels(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("org.opencontainers.image.title", "stampworks".to_owned()),
            (
                "org.opencontainers.image.description",
                "Telemetry of an Azure IoT deployment stamp, from Event Hub partitions to Parquet tables"
                    .to_owned(),
            ),
            ("org.opencontainers.image.version", self.version.clone()),
            ("org.opencontainers.image.revision", self.revision.clone()),
            ("org.opencontainers.image.licenses", "Apache-2.0 OR MIT".to_owned()),
            (
                "org.opencontainers.image.source",
                "https://github.com/stampworks/stampworks".to_owned(),
            ),
            ("org.opencontainers.image.created", layout::time(self.epoch)),
        ])
    }
}
