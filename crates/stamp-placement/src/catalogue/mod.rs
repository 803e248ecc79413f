//! `fleet.toml`: text in, a [`Fleet`] or every problem out.
//!
//! A catalogue is one file or several; the caller reads them. All problems are found in one pass,
//! each with file, line and key: a person who wrote five mistakes is told five. Nothing of a
//! catalogue with an error takes effect; a warning stops nothing.

mod checks;
mod finding;
mod section;
mod stamps;
mod tenants;

use crate::fleet::{Fleet, Stamp, Tenant};

use finding::Findings;
pub use finding::{Finding, Place, Severity};
use section::{Draft, Section};
pub use stamps::version as parse_version;

/// Most bytes of one catalogue file that are read: 16 MiB, some 30,000 stamps.
pub const FILE_BYTES_MAX: usize = 16 << 20;
/// Most files of a catalogue.
pub const FILES_MAX: usize = 10_000;
/// Most problems that are told. The rest is counted in the last one.
pub const FINDINGS_MAX: usize = 1_000;

/// The only version of the catalogue's language so far.
const LANGUAGE_VERSION: u64 = 1;

/// One file of a catalogue.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// What messages call it, such as its path.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
}

/// A catalogue that may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogue {
    /// What it says.
    pub fleet: Fleet,
    /// What is allowed and probably not meant.
    pub warnings: Vec<Finding>,
    /// Where each stamp's `version` is written, quotes included, in the order of [`Fleet::stamps`]:
    /// a tool can change it and leave everything else of the file as it was.
    pub versions: Vec<Place>,
    /// Where each tenant's `schema` is written, in the order of [`Fleet::tenants`].
    pub schemas: Vec<Place>,
}

/// What the files say, before it is compared.
#[derive(Default)]
struct Drafts {
    image: Option<Draft<String>>,
    stamps: Vec<Draft<Stamp>>,
    tenants: Vec<Draft<Tenant>>,
    /// Ids of sections that could not be read: a reference to one of them is not dangling.
    unreadable: Vec<String>,
}

/// Reads a catalogue.
///
/// # Errors
/// Every problem found, errors and warnings, in the order of files and lines; at least one of them
/// is an error. At most [`FINDINGS_MAX`].
pub fn read(sources: &[Source<'_>]) -> Result<Catalogue, Vec<Finding>> {
    let mut findings = Findings::new(sources);
    let mut drafts = Drafts::default();
    if sources.len() > FILES_MAX {
        let message = format!("{} files; at most {FILES_MAX} are read", sources.len());
        findings.error(&Place::start(0), "", message);
        return Err(findings.finish());
    }
    for (index, source) in sources.iter().enumerate() {
        read_file(index, source.text, &mut drafts, &mut findings);
    }
    checks::run(&drafts, &mut findings);
    let found = findings.finish();
    if found.iter().any(|f| f.severity == Severity::Error) {
        return Err(found);
    }
    Ok(finish(drafts, found))
}

fn finish(mut drafts: Drafts, warnings: Vec<Finding>) -> Catalogue {
    drafts.stamps.sort_by(|a, b| a.item.id.cmp(&b.item.id));
    drafts.tenants.sort_by(|a, b| a.item.id.cmp(&b.item.id));
    let stamps = drafts.stamps.iter().map(|draft| draft.place("version"));
    let versions = stamps.cloned().collect();
    let tenants = drafts.tenants.iter().map(|draft| draft.place("schema"));
    let schemas = tenants.cloned().collect();
    let image = drafts
        .image
        .map_or_else(|| "stampworks".into(), |draft| draft.item);
    let stamps = drafts.stamps.into_iter().map(|draft| draft.item).collect();
    let tenants = drafts.tenants.into_iter().map(|draft| draft.item).collect();
    Catalogue {
        fleet: Fleet::new(image, stamps, tenants),
        warnings,
        versions,
        schemas,
    }
}

/// An error at a place of the sources that only the caller could see, such as a file that is missing.
#[must_use]
pub fn error_at(sources: &[Source<'_>], place: &Place, key: &str, message: String) -> Finding {
    Findings::new(sources).made(Severity::Error, place, key, message)
}

fn read_file(source: usize, text: &str, drafts: &mut Drafts, findings: &mut Findings<'_>) {
    if text.len() > FILE_BYTES_MAX {
        let message = format!("{} bytes; at most {FILE_BYTES_MAX} are read", text.len());
        findings.error(&Place::start(source), "", message);
        return;
    }
    let (table, errors) = toml::de::DeTable::parse_recoverable(text);
    let broken = !errors.is_empty();
    for error in errors {
        let bytes = error.span().unwrap_or(0..0);
        let place = Place { source, bytes };
        findings.error(&place, "", error.message().to_owned());
    }
    if broken {
        // What a parser makes of the rest of a broken file would be told as problems that are none.
        return;
    }
    let mut file = Section::file(source, table.get_ref());
    file.number("version", LANGUAGE_VERSION..=LANGUAGE_VERSION, findings);
    if let Some(mut fleet) = file.section("fleet", findings) {
        read_fleet(&mut fleet, drafts, findings);
        fleet.finish(findings);
    }
    for mut section in file.sections("stamps", findings) {
        let id = section.name_by("id");
        let stamp = stamps::read(&mut section, findings);
        section.finish(findings);
        match stamp {
            Some(stamp) => drafts.stamps.push(section.draft(stamp)),
            None => drafts.unreadable.extend(id),
        }
    }
    for mut section in file.sections("tenants", findings) {
        section.name_by("id");
        let tenant = tenants::read(&mut section, findings);
        section.finish(findings);
        if let Some(tenant) = tenant {
            drafts.tenants.push(section.draft(tenant));
        }
    }
    file.finish(findings);
}

fn read_fleet(section: &mut Section<'_, '_>, drafts: &mut Drafts, findings: &mut Findings<'_>) {
    let Some(image) = section.text("image", findings) else {
        return;
    };
    if let Some(first) = &drafts.image {
        let other = findings.named(first.section());
        let place = section.place("image").clone();
        findings.error(&place, "fleet.image", format!("{other} has it already"));
        return;
    }
    if image.contains(char::is_whitespace) || image.contains('@') {
        let place = section.place("image").clone();
        let message = "is an image without tag or digest, such as registry.example/stampworks";
        findings.error(&place, "fleet.image", message);
        return;
    }
    drafts.image = Some(section.draft(image));
}

#[cfg(test)]
mod tests;
