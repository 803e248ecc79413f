//! `stampworks fleet promote`: changes the versions in the catalogue, ring by ring.
//!
//! It writes the catalogue and the record and nothing else: what runs changes when the rendered
//! overlays are applied. The record is written first, so that a crash between the two never makes a
//! version look older than it is.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use clap::{ArgGroup, Args};
use jiff::Timestamp;
use serde::Serialize;
use stamp_model::StampId;
use stamp_placement::Ring;
use stamp_placement::catalogue::Place;
use stamp_placement::rollout::{Action, Change, Entry, Observed, Wish, decide};
use stamp_provisioner::CatalogueFile;

use super::files::{CataloguePath, Loaded, load};
use super::live::{Bounds, look};
use super::record::RecordPath;
use super::{OutputFormat, print_json};
use crate::exit::Failure;
use crate::output;

/// Arguments of `stampworks fleet promote`.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("what").required(true).args(["version", "rollback", "pause", "resume"]),
    after_help = "Examples:\n  stampworks fleet promote --ring canary --version 0.2.0\n  \
    stampworks fleet promote --ring early --version 0.2.0 --dry-run\n  \
    stampworks fleet promote --ring general --version 0.2.1 --security-fix --reason CVE-2026-1\n  \
    stampworks fleet promote --ring early --rollback\n  stampworks fleet promote --pause --reason 'holiday'\n\n\
    Exits with 1 when the rings before are not healthy; nothing is changed then."
)]
pub(super) struct PromoteArgs {
    #[command(flatten)]
    fleet: CataloguePath,
    #[command(flatten)]
    bounds: Bounds,
    #[command(flatten)]
    record: RecordPath,
    /// The ring whose stamps change: `canary`, `early` or `general`.
    #[arg(long, required_unless_present_any = ["pause", "resume"], conflicts_with_all = ["pause", "resume"], value_parser = ring)]
    ring: Option<Ring>,
    /// The version that the ring is to run.
    #[arg(long, value_name = "TAG", value_parser = version)]
    version: Option<String>,
    /// Go back to what each stamp of the ring ran before.
    #[arg(long)]
    rollback: bool,
    /// Let nothing be promoted until it is resumed. Rollbacks and security fixes still work.
    #[arg(long)]
    pause: bool,
    /// End a pause.
    #[arg(long)]
    resume: bool,
    /// Wait for no ring and no pause. Recorded as such.
    #[arg(long, requires = "version", requires = "reason")]
    security_fix: bool,
    /// How long the rings before must have had the version.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = humantime::parse_duration)]
    soak: Duration,
    /// Who does it.
    #[arg(long, env = "USER", default_value = "unknown")]
    by: String,
    /// Why, for the record.
    #[arg(long)]
    reason: Option<String>,
    /// Say what would change and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// How the changes are printed.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

fn ring(text: &str) -> Result<Ring, String> {
    Ring::parse(text).ok_or_else(|| "is canary, early or general".to_owned())
}

fn version(text: &str) -> Result<String, String> {
    stamp_placement::catalogue::parse_version(text)
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    dry_run: bool,
    changes: &'a [Change],
    blocked: Vec<String>,
}

pub(super) fn run(args: &PromoteArgs) -> Result<(), Failure> {
    let path = &args.fleet.path;
    let loaded = load(path)?;
    let record = args.record.read(path)?;
    let now_ms = Timestamp::now().as_millisecond();
    let Some(ring) = args.ring else {
        return pause(args, now_ms);
    };
    let wish = match &args.version {
        Some(version) => Wish::Promote {
            version,
            security_fix: args.security_fix,
        },
        None => Wish::RollBack,
    };
    let observed = observe(args, &loaded, ring)?;
    let soak_ms = i64::try_from(args.soak.as_millis()).unwrap_or(i64::MAX);
    let fleet = &loaded.catalogue.fleet;
    let decided = decide(fleet, &record, &observed, ring, wish, now_ms, soak_ms);
    let (changes, blocked) = match decided {
        Ok(changes) => (changes, Vec::new()),
        Err(blocked) => (
            Vec::new(),
            blocked.iter().map(ToString::to_string).collect(),
        ),
    };
    if !args.dry_run && !changes.is_empty() {
        let entries: Vec<Entry> = changes
            .iter()
            .map(|c| args.entry(now_ms, Some(c)))
            .collect();
        args.record.append(path, &entries)?;
        write_versions(&loaded, &changes)?;
    }
    let report = Report {
        dry_run: args.dry_run,
        changes: &changes,
        blocked,
    };
    match args.output {
        OutputFormat::Json => print_json(&report)?,
        OutputFormat::Text => print(ring, &report),
    }
    if report.blocked.is_empty() {
        return Ok(());
    }
    Err(Failure::because(format!("ring {ring} was left as it is")))
}

impl PromoteArgs {
    fn entry(&self, at_ms: i64, change: Option<&Change>) -> Entry {
        let action = match self {
            Self { pause: true, .. } => Action::Pause,
            Self { resume: true, .. } => Action::Resume,
            Self { rollback: true, .. } => Action::RollBack,
            Self {
                security_fix: true, ..
            } => Action::SecurityFix,
            _ => Action::Promote,
        };
        Entry {
            at_ms,
            by: self.by.clone(),
            action,
            reason: self.reason.clone(),
            stamp: change.map(|change| change.stamp.clone()),
            from: change.map(|change| change.from.clone()),
            to: change.map(|change| change.to.clone()),
        }
    }
}

fn pause(args: &PromoteArgs, now_ms: i64) -> Result<(), Failure> {
    if !args.dry_run {
        args.record
            .append(&args.fleet.path, &[args.entry(now_ms, None)])?;
    }
    output::line(if args.pause { "paused" } else { "resumed" });
    Ok(())
}

/// What the rings before say; nobody is asked when it does not matter.
fn observe(
    args: &PromoteArgs,
    loaded: &Loaded,
    ring: Ring,
) -> Result<BTreeMap<StampId, Observed>, Failure> {
    if args.security_fix || args.rollback || ring == Ring::Canary {
        return Ok(BTreeMap::new());
    }
    let look = look(&loaded.catalogue.fleet, args.bounds, None);
    let live = crate::runtime()?.block_on(look);
    let observed = live.into_iter().map(|(stamp, live)| {
        let (versions, complaints) = (live.versions, live.complaints);
        (
            stamp,
            Observed {
                versions,
                complaints,
            },
        )
    });
    Ok(observed.collect())
}

/// Puts the new versions where the old ones are written, a whole file at a time.
fn write_versions(loaded: &Loaded, changes: &[Change]) -> Result<(), Failure> {
    let catalogue = &loaded.catalogue;
    let mut edits: BTreeMap<usize, Vec<(&Place, &str)>> = BTreeMap::new();
    for (stamp, place) in catalogue.fleet.stamps().iter().zip(&catalogue.versions) {
        if let Some(change) = changes.iter().find(|change| change.stamp == stamp.id) {
            edits
                .entry(place.source)
                .or_default()
                .push((place, &change.to));
        }
    }
    for (source, mut edits) in edits {
        let file = &loaded.files[source];
        // From the end, so that the places before stay right.
        edits.sort_by_key(|(place, _)| std::cmp::Reverse(place.bytes.start));
        let mut text = file.text.clone();
        for (place, version) in edits {
            text.replace_range(place.bytes.clone(), &format!("\"{version}\""));
        }
        replace(file, &text)?;
    }
    Ok(())
}

/// Replaces a file in one step, unless somebody changed it since it was read.
fn replace(file: &CatalogueFile, text: &str) -> Result<(), Failure> {
    let failed = |cause| Failure::failed(format!("cannot write {}", file.name), cause);
    if fs::read_to_string(&file.path).map_err(failed)? != file.text {
        let what = format!("{} was changed meanwhile; ask again", file.name);
        return Err(Failure::because(what));
    }
    let folder = file.path.parent().filter(|folder| *folder != Path::new(""));
    let folder = folder.unwrap_or(Path::new("."));
    let new = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    fs::write(new.path(), text).map_err(failed)?;
    let rights = fs::metadata(&file.path).map_err(failed)?.permissions();
    fs::set_permissions(new.path(), rights).map_err(failed)?;
    new.as_file().sync_all().map_err(failed)?;
    new.persist(&file.path)
        .map_err(|error| failed(error.error))?;
    Ok(())
}

fn print(ring: Ring, report: &Report<'_>) {
    for reason in &report.blocked {
        output::line(&format!("blocked: {reason}"));
    }
    let would = if report.dry_run {
        "would change"
    } else {
        "changed"
    };
    for change in report.changes {
        output::line(&format!(
            "{}: {would} from {} to {}",
            change.stamp, change.from, change.to
        ));
    }
    if report.blocked.is_empty() && report.changes.is_empty() {
        output::line(&format!("every stamp of ring {ring} has this version"));
    }
}
