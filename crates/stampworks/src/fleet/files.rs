//! Reads the files of a catalogue.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use stamp_consumer::ConfigError;
use stamp_placement::catalogue::{Catalogue, Finding, Source, error_at, read};
use stamp_provisioner::{CatalogueFile, ProvisionError, catalogue_files};
use stamp_schema::{SCHEMA_BYTES_MAX, Schema};

use crate::exit::Failure;
use crate::output;

/// Where the catalogue is.
#[derive(Debug, Args)]
pub(crate) struct CataloguePath {
    /// The catalogue: a file, or a folder whose `.toml` files are read together.
    #[arg(long = "fleet", value_name = "PATH", default_value = "fleet.toml")]
    pub(crate) path: PathBuf,
}

/// A good catalogue and the files it came from.
pub(crate) struct Loaded {
    pub(crate) files: Vec<CatalogueFile>,
    pub(crate) catalogue: Catalogue,
}

/// Reads the files of a catalogue, by name.
pub(crate) fn read_files(path: &Path) -> Result<Vec<CatalogueFile>, Failure> {
    catalogue_files(path).map_err(|error| ProvisionError::from(error).into())
}

/// Reads a text file of bounded size.
pub(crate) fn read_text(path: &Path, bytes_max: usize) -> Result<String, Failure> {
    let size = fs::metadata(path)
        .map_err(|cause| unreadable(path, cause))?
        .len();
    if size > bytes_max as u64 {
        let cause = io::Error::other(format!("{size} bytes; at most {bytes_max}"));
        return Err(unreadable(path, cause));
    }
    fs::read_to_string(path).map_err(|cause| unreadable(path, cause))
}

fn unreadable(path: &Path, cause: io::Error) -> Failure {
    let path = path.to_owned();
    Failure::Config(ConfigError::Read { path, cause })
}

pub(crate) fn sources(files: &[CatalogueFile]) -> Vec<Source<'_>> {
    let named = files.iter().map(|file| (&file.name, &file.text));
    named.map(|(name, text)| Source { name, text }).collect()
}

/// What is wrong with the schema files that the tenants name.
pub(crate) fn check_schemas(files: &[CatalogueFile], catalogue: &Catalogue) -> Vec<Finding> {
    let sources = sources(files);
    let mut found = Vec::new();
    for (tenant, place) in catalogue.fleet.tenants().iter().zip(&catalogue.schemas) {
        let path = schema_path(&files[place.source].path, &tenant.schema);
        let wrong = match fs::metadata(&path).map(|meta| meta.len()) {
            Ok(size) if size > SCHEMA_BYTES_MAX as u64 => Some(format!("has {size} bytes")),
            Ok(_) => match fs::read_to_string(&path) {
                Ok(text) => Schema::parse(&text).err().map(|error| error.to_string()),
                Err(cause) => Some(cause.to_string()),
            },
            Err(cause) => Some(cause.to_string()),
        };
        if let Some(wrong) = wrong {
            let key = format!("tenants[{}].schema", tenant.id);
            let message = format!("{}: {wrong}", path.display());
            found.push(error_at(&sources, place, &key, message));
        }
    }
    found
}

/// A schema file, relative to the catalogue file that names it.
pub(crate) fn schema_path(file: &Path, schema: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new(".")).join(schema)
}

/// A catalogue that may be used; its problems go to stderr.
pub(crate) fn load(path: &Path) -> Result<Loaded, Failure> {
    let files = read_files(path)?;
    match read(&sources(&files)) {
        Ok(catalogue) => {
            tell(&catalogue.warnings);
            Ok(Loaded { files, catalogue })
        }
        Err(found) => {
            tell(&found);
            Err(Failure::Catalogue(found.len()))
        }
    }
}

fn tell(found: &[Finding]) {
    found
        .iter()
        .for_each(|finding| output::note(&finding.to_string()));
}
