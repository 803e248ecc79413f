//! Installs the programs of the interop tests below `target/interop`, once.
//!
//! What is installed is pinned in `tests/interop`: `requirements.txt` for Python, `schemathesis.txt` and
//! `deploy.txt` for programs that want packages of their own, `package.json` and `package-lock.json` for
//! Node.js. A stamp file beside the installation holds the pinned text
//! itself: equal text means nothing to do, and the tests compare it again before they use a tool.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process;

/// Oldest Python that every pinned package supports.
const PYTHON_MINOR_MIN: u32 = 10;
/// Oldest Node.js that every pinned package supports.
const NODE_MAJOR_MIN: u32 = 20;

/// Installs what is missing or differs from the pins.
pub(crate) fn install(root: &Path) -> Result<()> {
    let place = root.join("target/interop");
    fs::create_dir_all(&place).with_context(|| format!("make {}", place.display()))?;
    install_python(
        &root.join("tests/interop"),
        "requirements.txt",
        &place,
        "python",
    )?;
    install_python(
        &root.join("tests/interop"),
        "schemathesis.txt",
        &place,
        "schemathesis",
    )?;
    install_python(&root.join("tests/interop"), "deploy.txt", &place, "deploy")?;
    install_node(&root.join("tests/interop"), &place)?;
    require_postgres()?;
    require_chromium()?;
    fetch_prometheus(&place.join("prometheus"))
}

/// Prometheus and `promtool`: on the path, or taken out of Debian's package.
///
/// Taken out rather than installed: an installed one is a service that would run from now on.
fn fetch_prometheus(place: &Path) -> Result<()> {
    let answer = |folder: &Path| {
        ["prometheus", "promtool"]
            .iter()
            .all(|program| answers(Command::new(folder.join(program)).arg("--version")))
    };
    let programs = place.join("usr/bin");
    if answer(Path::new("")) || answer(&programs) {
        return Ok(());
    }
    if answers(Command::new("dpkg-deb").arg("--version")) {
        println!("interop: fetching Debian's package of Prometheus");
        remove(place)?;
        fs::create_dir_all(place).with_context(|| format!("make {}", place.display()))?;
        let download = || {
            let mut apt = Command::new("apt-get");
            process::output(
                apt.args(["download", "--quiet", "prometheus"])
                    .current_dir(place),
            )
        };
        // Only root may read the lists of packages anew; everybody may use the ones there are.
        if download().is_err() && is_root() {
            process::succeed(Command::new("apt-get").args(["update", "--quiet"]))?;
            download()?;
        }
        for package in packages_in(place)? {
            let mut extract = Command::new("dpkg-deb");
            process::succeed(extract.arg("--extract").arg(&package).arg(place))?;
            fs::remove_file(&package).with_context(|| format!("remove {}", package.display()))?;
        }
    }
    if answer(&programs) {
        return Ok(());
    }
    bail!(
        "`prometheus` and `promtool` are needed by the tests of alerts and dashboards and were not found: \
         install Prometheus"
    )
}

fn packages_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect())
}

/// PostgreSQL's server programs: on the path, or where Debian keeps them.
fn require_postgres() -> Result<()> {
    let is_there = || {
        let mut programs = vec![PathBuf::from("initdb")];
        if let Ok(versions) = fs::read_dir("/usr/lib/postgresql") {
            let versions = versions.filter_map(|version| Some(version.ok()?.path()));
            programs.extend(versions.map(|version| version.join("bin/initdb")));
        }
        programs
            .iter()
            .any(|program| answers(Command::new(program).arg("--version")))
    };
    if is_there() || (apt_install(&["postgresql"])? && is_there()) {
        return Ok(());
    }
    bail!(
        "PostgreSQL's `initdb` is needed by the tests of reservations and was not found: install it \
         (on Debian or Ubuntu, apt-get install postgresql)"
    )
}

/// Chromium, which the test of the status page drives: on the path, or from Debian's package.
///
/// Installed rather than taken out of its package: it needs some hundred libraries, and starts nothing
/// by itself.
fn require_chromium() -> Result<()> {
    require("chromium", &["chromium", "fonts-dejavu-core"])
        .context("the test of the status page needs Chromium as `chromium` on the path")
}

/// The packages of one file of pins, in a folder of their own.
pub(crate) fn install_python(pins: &Path, file: &str, place: &Path, folder: &str) -> Result<()> {
    let stamp = Stamp::new(place.join(format!("{folder}.stamp")), &[&pins.join(file)])?;
    let home = place.join(folder);
    let python = home.join("bin/python");
    if stamp.is_current() && answers(Command::new(&python).arg("--version")) {
        return Ok(());
    }
    println!("interop: installing the Python packages of {file}");
    stamp.clear()?;
    require("python3", &["python3", "python3-venv"])?;
    require_version(
        "python3",
        &["-c", "import sys; print(sys.version_info[1])"],
        PYTHON_MINOR_MIN,
    )
    .context("Python 3.10 or newer is needed")?;
    remove(&home)?;
    make_venv(&home)?;
    process::succeed(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--no-input"])
            .args(["--disable-pip-version-check", "--requirement"])
            .arg(pins.join(file)),
    )?;
    stamp.write()
}

/// Debian splits `venv` from Python: a first failure is answered by installing it where that is
/// allowed.
fn make_venv(home: &Path) -> Result<()> {
    let make = || process::output(Command::new("python3").args(["-m", "venv"]).arg(home));
    let Err(error) = make() else { return Ok(()) };
    if apt_install(&["python3-venv"])? {
        remove(home)?;
        return make().map(drop);
    }
    Err(error
        .context("`python3 -m venv` is needed: on Debian or Ubuntu, apt-get install python3-venv"))
}

fn install_node(pins: &Path, place: &Path) -> Result<()> {
    let files = ["package.json", "package-lock.json"];
    let stamp = Stamp::new(
        place.join("node.stamp"),
        &[&pins.join(files[0]), &pins.join(files[1])],
    )?;
    let modules = place.join("node_modules");
    require("node", &["nodejs"])?;
    if stamp.is_current() && modules.is_dir() {
        return Ok(());
    }
    println!("interop: installing the Node.js packages of tests/interop/package-lock.json");
    stamp.clear()?;
    require("npm", &["npm"])?;
    require_version(
        "node",
        &["-p", "process.versions.node.split('.')[0]"],
        NODE_MAJOR_MIN,
    )
    .context("Node.js 20 or newer is needed")?;
    remove(&modules)?;
    for file in files {
        fs::copy(pins.join(file), place.join(file)).with_context(|| format!("copy {file}"))?;
    }
    process::succeed(
        Command::new("npm")
            .args([
                "ci",
                "--omit=dev",
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
            ])
            .args(["--loglevel=error"])
            .current_dir(place),
    )?;
    stamp.write()
}

/// The pinned text, and the file that says with which text the tools were installed.
struct Stamp {
    path: PathBuf,
    text: String,
}

impl Stamp {
    fn new(path: PathBuf, pins: &[&Path]) -> Result<Self> {
        let mut text = String::new();
        for pin in pins {
            text.push_str(&crate::read(pin)?);
        }
        Ok(Self { path, text })
    }

    fn is_current(&self) -> bool {
        fs::read_to_string(&self.path).is_ok_and(|text| text == self.text)
    }

    fn clear(&self) -> Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }

    fn write(&self) -> Result<()> {
        fs::write(&self.path, &self.text).with_context(|| format!("write {}", self.path.display()))
    }
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Whether the program starts and succeeds.
pub(crate) fn answers(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Fails unless the program is there, after trying apt-get where that is allowed.
fn require(program: &str, packages: &[&str]) -> Result<()> {
    if answers(Command::new(program).arg("--version")) {
        return Ok(());
    }
    if apt_install(packages)? && answers(Command::new(program).arg("--version")) {
        return Ok(());
    }
    bail!(
        "`{program}` is needed by the interop tests and was not found: install it \
         (on Debian or Ubuntu, apt-get install {})",
        packages.join(" ")
    )
}

fn require_version(program: &str, arguments: &[&str], at_least: u32) -> Result<()> {
    let printed = process::output(Command::new(program).args(arguments))?;
    let found: u32 = printed
        .trim()
        .parse()
        .with_context(|| format!("version of {program}: {printed:?}"))?;
    if found < at_least {
        bail!("{program} answered version {found}, at least {at_least} is needed");
    }
    Ok(())
}

fn is_root() -> bool {
    process::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

/// Installs Debian packages; `false` when this is not Debian or not root, so nothing was tried.
fn apt_install(packages: &[&str]) -> Result<bool> {
    if !is_root() || !answers(Command::new("apt-get").arg("--version")) {
        return Ok(false);
    }
    println!("interop: apt-get install {}", packages.join(" "));
    process::succeed(Command::new("apt-get").args(["update", "--quiet"]))?;
    process::succeed(
        Command::new("apt-get")
            .args(["install", "--quiet", "--yes", "--no-install-recommends"])
            .args(packages),
    )?;
    Ok(true)
}
