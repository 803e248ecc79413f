//! Reads the files of a catalogue, and notices when they change. Blocks; nothing is written.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use stamp_placement::catalogue::{Catalogue, FILE_BYTES_MAX, FILES_MAX, Severity, Source, read};

use crate::CatalogueError;

/// What a file was like when it was looked at.
pub(crate) type Mark = (PathBuf, Option<(u64, SystemTime)>);

/// One file of a catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueFile {
    /// Where it is.
    pub path: PathBuf,
    /// As messages call it.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// Reads a catalogue: a file, or a folder whose `.toml` files are read together.
///
/// # Errors
/// [`CatalogueError::Read`] with the file, [`CatalogueError::Wrong`] with every problem.
pub fn read_catalogue(path: &Path) -> Result<Catalogue, CatalogueError> {
    let files = catalogue_files(path)?;
    let named = files.iter().map(|file| (&file.name, &file.text));
    let sources: Vec<Source<'_>> = named.map(|(name, text)| Source { name, text }).collect();
    read(&sources).map_err(|mut findings| {
        findings.retain(|finding| finding.severity == Severity::Error);
        CatalogueError::Wrong(findings)
    })
}

/// The files of a catalogue, by name, each of bounded size.
///
/// # Errors
/// [`CatalogueError::Read`] with the file or folder.
pub fn catalogue_files(path: &Path) -> Result<Vec<CatalogueFile>, CatalogueError> {
    let file = |path: PathBuf| {
        let text = text(&path)?;
        let name = path.display().to_string();
        Ok(CatalogueFile { path, name, text })
    };
    paths(path)?.into_iter().map(file).collect()
}

fn paths(path: &Path) -> Result<Vec<PathBuf>, CatalogueError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut paths = Vec::new();
    for entry in fs::read_dir(path).map_err(|cause| unreadable(path, cause))? {
        let entry = entry.map_err(|cause| unreadable(path, cause))?.path();
        if entry.is_file() && entry.extension().is_some_and(|end| end == "toml") {
            paths.push(entry);
        }
        if paths.len() > FILES_MAX {
            return Err(unreadable(
                path,
                io::Error::other(format!("over {FILES_MAX} files")),
            ));
        }
    }
    if paths.is_empty() {
        return Err(unreadable(
            path,
            io::Error::other("the folder has no .toml file"),
        ));
    }
    paths.sort_unstable();
    Ok(paths)
}

fn text(path: &Path) -> Result<String, CatalogueError> {
    let refuse = |cause| unreadable(path, cause);
    let size = fs::metadata(path).map_err(refuse)?.len();
    if size > FILE_BYTES_MAX as u64 {
        let cause = io::Error::other(format!("{size} bytes; at most {FILE_BYTES_MAX}"));
        return Err(refuse(cause));
    }
    fs::read_to_string(path).map_err(refuse)
}

fn unreadable(path: &Path, cause: io::Error) -> CatalogueError {
    let path = path.to_owned();
    CatalogueError::Read { path, cause }
}

/// Size and time of each of these files, and of each file of a folder among them. What cannot be
/// looked at is part of the mark too.
pub(crate) fn marks<'a>(watched: impl IntoIterator<Item = &'a PathBuf>) -> Vec<Mark> {
    let mut marks = Vec::new();
    for path in watched {
        for file in paths(path).unwrap_or_else(|_| vec![path.clone()]) {
            let looked = fs::metadata(&file).and_then(|meta| Ok((meta.len(), meta.modified()?)));
            marks.push((file, looked.ok()));
        }
    }
    marks
}
