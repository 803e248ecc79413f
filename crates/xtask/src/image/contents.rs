//! What is in the image: which files, where, with which rights. Every file belongs to root and nobody may
//! write any.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::TARGET;
use crate::process;

/// Where the binary is in the image.
pub(super) const PROGRAM: &str = "usr/local/bin/stampworks";
/// The user the image runs as; nobody else's in the usual ranges.
pub(super) const USER: u32 = 65_532;
/// Where scanners look for a bill of materials.
const BILL: &str = "usr/share/sbom/stampworks.cdx.json";
/// Where rustls looks for the authorities it trusts, and where Debian and Fedora keep theirs.
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";
const AUTHORITIES_HERE: [&str; 2] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
];
/// The libraries that the binary may name. One more is a decision, not an accident.
const LIBRARIES: [&str; 3] = ["libc.so.6", "libm.so.6", "libgcc_s.so.1"];
/// From this version on glibc itself asks files and DNS for names; before, it loads libraries for that.
const GLIBC_MIN: (u32, u32) = (2, 34);

/// One file of a layer.
pub(super) struct File {
    /// Below the root, without a leading slash.
    pub(super) path: String,
    pub(super) mode: u32,
    pub(super) bytes: Vec<u8>,
}

impl File {
    fn new(path: &str, mode: u32, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            path: path.trim_start_matches('/').to_owned(),
            mode,
            bytes: bytes.into(),
        }
    }
}

/// The layer that changes with the build machine, and what it was taken from.
pub(super) struct System {
    pub(super) files: Vec<File>,
    /// Name and version of each of the system's packages, where the system can tell.
    pub(super) packages: Vec<(String, String)>,
}

/// Libraries, authorities and the few files that libc reads.
pub(super) fn system(binary: &Path) -> Result<System> {
    let loader = loader(binary)?;
    require_glibc(&loader)?;
    let mut taken = vec![loader.clone()];
    taken.extend(libraries(&loader, binary)?);
    let mut files = Vec::new();
    for path in &taken {
        let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        files.push(File::new(&path.to_string_lossy(), 0o755, bytes));
    }
    let authorities = AUTHORITIES_HERE
        .iter()
        .map(Path::new)
        .find(|path| path.is_file());
    let authorities = authorities.with_context(|| {
        format!(
            "none of {} is there: install ca-certificates",
            AUTHORITIES_HERE.join(", ")
        )
    })?;
    taken.push(authorities.to_owned());
    let bytes = fs::read(authorities).context("read the authorities")?;
    files.push(File::new(AUTHORITIES, 0o444, bytes));
    let user = format!("root:x:0:0::/:/none\nstampworks:x:{USER}:{USER}::/:/none\n");
    files.push(File::new("etc/passwd", 0o444, user));
    files.push(File::new(
        "etc/group",
        0o444,
        format!("root:x:0:\nstampworks:x:{USER}:\n"),
    ));
    files.push(File::new("etc/nsswitch.conf", 0o444, "hosts: files dns\n"));
    Ok(System {
        packages: packages(&taken),
        files,
    })
}

/// The layer that changes with the code.
pub(super) fn program(root: &Path, binary: &Path, out: &Path, bill: Vec<u8>) -> Result<Vec<File>> {
    fs::create_dir_all(out).with_context(|| format!("make {}", out.display()))?;
    let stripped = out.join("stampworks.stripped");
    let mut strip = Command::new("strip");
    strip.args(["--strip-all", "-o"]).arg(&stripped).arg(binary);
    process::succeed(&mut strip).context("`strip` is of the binutils that the linker needs too")?;
    let bytes = fs::read(&stripped).context("read the stripped binary")?;
    fs::remove_file(&stripped).context("remove the stripped binary")?;
    let mut files = vec![
        File::new(PROGRAM, 0o555, bytes),
        File::new(BILL, 0o444, bill),
    ];
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        let text = crate::read(&root.join(licence))?;
        files.push(File::new(
            &format!("usr/share/doc/stampworks/{licence}"),
            0o444,
            text,
        ));
    }
    Ok(files)
}

/// The loader that the binary asks for.
fn loader(binary: &Path) -> Result<PathBuf> {
    let mut readelf = Command::new("readelf");
    let headers = process::output(readelf.args(["--program-headers", "--wide"]).arg(binary))
        .context("`readelf` is of the binutils that the linker needs too")?;
    let named = headers.lines().find_map(|line| {
        let rest = line.split_once("Requesting program interpreter: ")?.1;
        Some(PathBuf::from(rest.trim_end_matches(']')))
    });
    named.with_context(|| {
        format!(
            "{} asks for no loader; it is to be a binary of {TARGET}",
            binary.display()
        )
    })
}

fn require_glibc(loader: &Path) -> Result<()> {
    let told = process::output(Command::new(loader).arg("--version"))?;
    // "ld.so (GNU libc) stable release version 2.36."
    let version = told.split_whitespace().find_map(|word| {
        let (major, minor) = word.trim_end_matches('.').split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    match version {
        Some(version) if version >= GLIBC_MIN => Ok(()),
        _ => bail!(
            "{} is not of glibc {}.{} or newer, which resolves names by itself: {told}",
            loader.display(),
            GLIBC_MIN.0,
            GLIBC_MIN.1
        ),
    }
}

/// The libraries that the loader finds for the binary, as it says.
fn libraries(loader: &Path, binary: &Path) -> Result<Vec<PathBuf>> {
    let told = process::output(Command::new(loader).arg("--list").arg(binary))?;
    let mut found = Vec::new();
    for line in told.lines() {
        // `name => path (address)`; the kernel's own and the loader have no arrow, or point at themselves.
        let Some((name, path)) = line.trim().split_once(" => ") else {
            continue;
        };
        let path = PathBuf::from(path.split(" (").next().unwrap_or(path));
        if Path::new(name) == loader {
            continue;
        }
        if !LIBRARIES.contains(&name) {
            bail!(
                "the binary wants {name}, and the image holds only {}",
                LIBRARIES.join(", ")
            );
        }
        found.push(path);
    }
    Ok(found)
}

/// Debian's packages of these files; nothing on other systems.
fn packages(files: &[PathBuf]) -> Vec<(String, String)> {
    let mut packages = Vec::new();
    for file in files {
        // Debian's list knows a library by the name before /lib became a link to /usr/lib, or after.
        let after = Path::new("/usr").join(file.strip_prefix("/").unwrap_or(file));
        let whole = fs::canonicalize(file).unwrap_or_else(|_| file.clone());
        let owner = [file.clone(), after, whole].iter().find_map(|name| {
            let told =
                process::output(Command::new("dpkg-query").arg("--search").arg(name)).ok()?;
            Some(told.split(": ").next()?.split(':').next()?.to_owned())
        });
        // The bundle is written when its package is installed, and belongs to none.
        let owner = owner.or_else(|| {
            let is_bundle = file.ends_with("ca-certificates.crt");
            is_bundle.then(|| "ca-certificates".to_owned())
        });
        let Some(owner) = owner else { continue };
        let mut query = Command::new("dpkg-query");
        query.args(["--show", "--showformat=${Version}\n", &owner]);
        let version = process::output(&mut query).ok();
        if let Some(version) = version.as_deref().and_then(|text| text.lines().next()) {
            packages.push((owner, version.to_owned()));
        }
    }
    packages.sort();
    packages.dedup();
    packages
}
