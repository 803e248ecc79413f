//! `stampworks fleet render`: a kustomize base, and one overlay a stamp.
//!
//! The same catalogue, with tenants on the same stamps, gives the same bytes. A manifest in the folder says what was written here; a
//! file that is not in it, or was changed since, is never overwritten or removed: nothing at all is
//! written then.

mod overlay;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::files::{CataloguePath, Loaded, load, read_text, schema_path};
use super::live::serves;
use super::usage::{UsageArgs, UsageFile};
use super::{OutputFormat, print_json};
use crate::exit::Failure;
use crate::output;

/// What was written, beside it.
const MANIFEST: &str = "stampworks-render.json";
const MANIFEST_BYTES_MAX: usize = 64 << 20;
/// Largest schema that goes into a config map, which holds 1 MiB in all.
const SCHEMA_BYTES_MAX: usize = 512 << 10;

/// Arguments of `stampworks fleet render`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  stampworks fleet render --fleet deploy/examples/fleet --out kubernetes\n  \
    stampworks fleet render --out kubernetes --reservations provision.toml\n  \
    kubectl apply -k kubernetes/overlays/weu-1\n\n\
    Writes OUT/base, and OUT/overlays/STAMP for every stamp that serves and has tenants. Exits with 1, and writes nothing, when a \
    file is in the way that it did not write or that was changed since."
)]
pub(super) struct RenderArgs {
    #[command(flatten)]
    fleet: CataloguePath,
    /// The folder to write to.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Where tenants are that the catalogue only has a rule for.
    #[command(flatten)]
    usage: UsageArgs,
    /// How the list of files is printed.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

/// Path below the folder, and hash of what was written there.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Manifest {
    files: BTreeMap<String, String>,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    written: Vec<String>,
    removed: Vec<String>,
    unchanged: usize,
    /// Stamps that serve and have no tenant yet.
    empty: Vec<String>,
    /// Stamps whose tables are in a local folder, which no pod keeps.
    local: Vec<String>,
}

pub(super) fn run(args: &RenderArgs) -> Result<(), Failure> {
    let loaded = load(&args.fleet.path)?;
    let usage = args.usage.load(&loaded.catalogue.fleet)?;
    let mut report = Report::default();
    let files = render(&loaded, &usage, &mut report)?;
    let before = manifest(&args.out)?;
    refuse_foreign(&args.out, &before, &files)?;
    write(&args.out, &before, &files, &mut report)?;
    match args.output {
        OutputFormat::Json => print_json(&report)?,
        OutputFormat::Text => print(&report),
    }
    Ok(())
}

/// Every file, by its path below the folder.
fn render(
    loaded: &Loaded,
    usage: &UsageFile,
    report: &mut Report,
) -> Result<BTreeMap<String, String>, Failure> {
    let fleet = &loaded.catalogue.fleet;
    let mut files = BTreeMap::new();
    for stamp in fleet.stamps().iter().filter(|stamp| serves(stamp)) {
        let mut tenants = Vec::new();
        for (tenant, place) in fleet.tenants().iter().zip(&loaded.catalogue.schemas) {
            if overlay::is_on(fleet, tenant, stamp, usage) {
                let path = schema_path(&loaded.files[place.source].path, &tenant.schema);
                tenants.push((tenant, read_text(&path, SCHEMA_BYTES_MAX)?));
            }
        }
        if tenants.is_empty() {
            report.empty.push(stamp.id.to_string());
            continue;
        }
        let Some(container) = overlay::container(stamp) else {
            report.local.push(stamp.id.to_string());
            continue;
        };
        for (name, text) in overlay::files(&fleet.image, stamp, container, &tenants) {
            files.insert(format!("overlays/{}/{name}", stamp.id), text);
        }
    }
    let base = overlay::BASE.map(|(name, text)| (name.to_owned(), text.to_owned()));
    files.extend(base);
    Ok(files)
}

fn manifest(out: &Path) -> Result<Manifest, Failure> {
    let path = out.join(MANIFEST);
    if !path.exists() {
        return Ok(Manifest::default());
    }
    let text = read_text(&path, MANIFEST_BYTES_MAX)?;
    serde_json::from_str(&text)
        .map_err(|cause| Failure::failed(format!("{} is no manifest", path.display()), cause))
}

fn hash(text: &str) -> String {
    let bytes = Sha256::digest(text.as_bytes());
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is there at a path, when it is a file.
fn there(path: &Path) -> Option<String> {
    fs::read(path)
        .ok()
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn refuse_foreign(
    out: &Path,
    before: &Manifest,
    files: &BTreeMap<String, String>,
) -> Result<(), Failure> {
    let touched = files.keys().chain(before.files.keys());
    let mut foreign: Vec<&str> = Vec::new();
    for name in touched {
        let Some(text) = there(&out.join(name)) else {
            continue;
        };
        let ours = before
            .files
            .get(name)
            .is_some_and(|written| *written == hash(&text));
        let same = files.get(name).is_some_and(|wanted| *wanted == text);
        if !ours && !same {
            foreign.push(name);
        }
    }
    foreign.dedup();
    match foreign.as_slice() {
        [] => Ok(()),
        foreign => {
            let list = foreign.join(", ");
            let what = format!(
                "not written by this command, or changed since: {list} in {}; move them away",
                out.display()
            );
            Err(Failure::because(what))
        }
    }
}

/// The manifest is written last. A run that is cut off leaves files that are as they should be, which
/// the next one takes for its own.
fn write(
    out: &Path,
    before: &Manifest,
    files: &BTreeMap<String, String>,
    report: &mut Report,
) -> Result<(), Failure> {
    let failed =
        |path: &Path, cause| Failure::failed(format!("cannot write {}", path.display()), cause);
    fs::create_dir_all(out).map_err(|cause| failed(out, cause))?;
    let after = Manifest {
        files: files
            .iter()
            .map(|(n, text)| (n.clone(), hash(text)))
            .collect(),
    };
    for (name, text) in files {
        let path = out.join(name);
        if there(&path).as_ref() == Some(text) {
            report.unchanged += 1;
            continue;
        }
        let folder = path.parent().unwrap_or(out);
        fs::create_dir_all(folder).map_err(|cause| failed(folder, cause))?;
        let new = tempfile::NamedTempFile::new_in(folder).map_err(|cause| failed(folder, cause))?;
        fs::write(new.path(), text).map_err(|cause| failed(&path, cause))?;
        new.persist(&path)
            .map_err(|error| failed(&path, error.error))?;
        report.written.push(name.clone());
    }
    for name in before
        .files
        .keys()
        .filter(|name| !files.contains_key(*name))
    {
        let path = out.join(name);
        if path.exists() {
            fs::remove_file(&path).map_err(|cause| failed(&path, cause))?;
            report.removed.push(name.clone());
        }
    }
    let path = out.join(MANIFEST);
    let text = serde_json::to_string_pretty(&after)
        .map_err(|cause| Failure::failed("cannot write the manifest", cause))?;
    fs::write(&path, text + "\n").map_err(|cause| failed(&path, cause))
}

fn print(report: &Report) {
    report
        .written
        .iter()
        .for_each(|name| output::line(&format!("wrote {name}")));
    report
        .removed
        .iter()
        .for_each(|name| output::line(&format!("removed {name}")));
    let unchanged = report.unchanged;
    output::line(&format!("{unchanged} files were as they should be"));
    for stamp in &report.empty {
        output::note(&format!("{stamp} has no tenant yet: no overlay"));
    }
    for stamp in &report.local {
        output::note(&format!(
            "{stamp} writes to a local folder, which no pod keeps: no overlay"
        ));
    }
}
