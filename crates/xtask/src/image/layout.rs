//! Files to layers, layers to an OCI image layout (image-spec 1.1) and to one archive of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::About;
use super::contents::{File, PROGRAM, USER};

/// What was written.
pub(super) struct Written {
    pub(super) archive: PathBuf,
    /// Of the manifest: what a registry calls the image.
    pub(super) digest: String,
    /// Layers as files, and as a registry keeps them.
    pub(super) unpacked_bytes: u64,
    pub(super) packed_bytes: u64,
}

/// Writes `OUT/oci`, the layout, `OUT/stampworks-VERSION.tar`, the same in one file, and `OUT/root`, what a
/// container of it sees.
pub(super) fn write(out: &Path, about: &About, layers: &[Vec<File>]) -> Result<Written> {
    let mut blobs: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut put = |bytes: Vec<u8>| {
        let digest = sha256(&bytes);
        let size = bytes.len();
        blobs.insert(format!("blobs/sha256/{digest}"), bytes);
        (format!("sha256:{digest}"), size)
    };
    let (mut ids, mut described) = (Vec::new(), Vec::new());
    let (mut unpacked_bytes, mut packed_bytes) = (0, 0);
    for files in layers {
        let plain = tar_of(files, about.epoch)?;
        ids.push(format!("sha256:{}", sha256(&plain)));
        unpacked_bytes += plain.len() as u64;
        let (digest, size) = put(gzip(&plain)?);
        packed_bytes += size as u64;
        described.push(descriptor(
            "application/vnd.oci.image.layer.v1.tar+gzip",
            &digest,
            size,
        ));
    }
    let (digest, size) = put(text(&config(about, &ids))?);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &digest, size),
        "layers": described,
        "annotations": about.labels(),
    });
    let (digest, size) = put(text(&manifest)?);
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &digest, size);
    entry["platform"] = json!({ "architecture": "amd64", "os": "linux" });
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": about.version });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    });
    blobs.insert("index.json".to_owned(), text(&index)?);
    let version = json!({ "imageLayoutVersion": "1.0.0" });
    blobs.insert("oci-layout".to_owned(), text(&version)?);

    let folder = emptied(&out.join("oci"))?;
    let mut files = Vec::new();
    for (path, bytes) in blobs {
        let place = folder.join(&path);
        let above = place.parent().unwrap_or(&folder);
        fs::create_dir_all(above).with_context(|| format!("make {}", above.display()))?;
        fs::write(&place, &bytes).with_context(|| format!("write {}", place.display()))?;
        let mode = 0o444;
        files.push(File { path, mode, bytes });
    }
    unpack(&emptied(&out.join("root"))?, layers)?;
    let archive = out.join(format!("stampworks-{}.tar", about.version));
    fs::write(&archive, tar_of(&files, about.epoch)?)
        .with_context(|| format!("write {}", archive.display()))?;
    Ok(Written {
        archive,
        digest,
        unpacked_bytes,
        packed_bytes,
    })
}

fn emptied(folder: &Path) -> Result<PathBuf> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder.to_owned())
}

fn unpack(root: &Path, layers: &[Vec<File>]) -> Result<()> {
    for file in layers.iter().flatten() {
        let place = root.join(&file.path);
        let above = place.parent().unwrap_or(root);
        fs::create_dir_all(above).with_context(|| format!("make {}", above.display()))?;
        fs::write(&place, &file.bytes).with_context(|| format!("write {}", place.display()))?;
        let mode = fs::Permissions::from_mode(file.mode);
        fs::set_permissions(&place, mode)
            .with_context(|| format!("set the rights of {}", place.display()))?;
    }
    Ok(())
}

/// The seconds as the OCI writes a time (RFC 3339).
pub(super) fn time(epoch: u64) -> String {
    let time = i64::try_from(epoch)
        .ok()
        .and_then(|s| jiff::Timestamp::from_second(s).ok());
    time.unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

fn config(about: &About, layers: &[String]) -> Value {
    let created = time(about.epoch);
    let history: Vec<Value> = ["system libraries and authorities", "stampworks"]
        .iter()
        .map(|what| json!({ "created": created, "created_by": format!("cargo xtask image: {what}") }))
        .collect();
    json!({
        "created": created,
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "User": format!("{USER}:{USER}"),
            "Entrypoint": [format!("/{PROGRAM}")],
            "Env": ["PATH=/usr/local/bin"],
            "WorkingDir": "/",
            "StopSignal": "SIGTERM",
            "Labels": about.labels(),
        },
        "rootfs": { "type": "layers", "diff_ids": layers },
        "history": history,
    })
}

fn descriptor(media_type: &str, digest: &str, size: usize) -> Value {
    json!({ "mediaType": media_type, "digest": digest, "size": size })
}

/// Folders first, then files, by name; all of one time and of root.
fn tar_of(files: &[File], epoch: u64) -> Result<Vec<u8>> {
    let mut folders = BTreeSet::new();
    for file in files {
        let above = Path::new(&file.path).ancestors().skip(1);
        folders.extend(
            above
                .filter(|path| *path != Path::new(""))
                .map(Path::to_path_buf),
        );
    }
    let mut sorted: Vec<&File> = files.iter().collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    let mut archive = tar::Builder::new(Vec::new());
    for folder in folders {
        let mut header = header(epoch, 0o755, 0, tar::EntryType::Directory);
        let name = format!("{}/", folder.display());
        archive.append_data(&mut header, name, std::io::empty())?;
    }
    for file in sorted {
        let size = file.bytes.len() as u64;
        let mut header = header(epoch, file.mode, size, tar::EntryType::Regular);
        archive.append_data(&mut header, &file.path, file.bytes.as_slice())?;
    }
    archive.into_inner().context("close an archive in memory")
}

fn header(epoch: u64, mode: u32, size: u64, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(epoch);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Without name or time of its own.
fn gzip(plain: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::new(6));
    encoder.write_all(plain).context("pack a layer")?;
    encoder.finish().context("pack a layer")
}

fn text(value: &Value) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value).context("write JSON")?;
    bytes.push(b'\n');
    Ok(bytes)
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
