//! What is in `deploy`, looked at by others: `kubectl kustomize`, the schemas of Kubernetes and of KEDA, and
//! a reader of Terraform's language with the arguments of the azurerm provider.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::script::{How, Language, run, run_script};

/// Far more than a run takes: it shares the machine with builds.
const RUN_MAX: Duration = Duration::from_secs(300);
/// The Kubernetes whose schemas are asked: the one of the pinned package.
const VERSION: &str = "1.37";

/// What `kubectl apply -k` would send for this folder, as YAML.
///
/// # Errors
/// What kustomize did not like.
///
/// # Panics
/// When kubectl is not installed as pinned.
#[track_caller]
pub fn kustomize(folder: &Path) -> Result<String, String> {
    let mut command = Command::new(program("kubectl"));
    command.arg("kustomize").arg(folder);
    let end = run(command, RUN_MAX);
    match end.how {
        How::Success => Ok(end.stdout),
        _ => Err(end.shown()),
    }
}

/// The objects of a file of YAML, and what the schemas of Kubernetes (strict: an unknown field is an
/// error too) and of KEDA say against them, each with its object.
///
/// # Panics
/// When the tools are not installed as pinned.
#[must_use]
#[track_caller]
pub fn validate_manifests(file: &Path) -> (Vec<Value>, Vec<String>) {
    let told = python("scripts/manifests.py", &[VERSION.as_ref(), file]);
    let objects = told["objects"].as_array().cloned().unwrap_or_default();
    let mut errors = strings(&told["errors"]);
    let is_keda = |object: &&Value| {
        let version = object["apiVersion"].as_str();
        version.is_some_and(|version| version.starts_with("keda.sh/"))
    };
    for object in objects.iter().filter(is_keda) {
        let text = object.to_string();
        let told = run_script(Language::Node, "scripts/keda.cjs", &[&text], RUN_MAX);
        errors.extend(strings(&told));
    }
    (objects, errors)
}

/// The local values of Terraform's configuration in a folder, and what is wrong with it: what cannot be read, an
/// argument that the azurerm provider does not have or that is missing, a name that leads nowhere, a module that
/// is not given what it asks for.
///
/// # Panics
/// When the tools are not installed as pinned.
#[must_use]
#[track_caller]
pub fn read_terraform(folder: &Path) -> (Value, Vec<String>) {
    let arguments = crate::folder().join("azurerm.json");
    let told = python("scripts/terraform.py", &[&arguments, folder]);
    (told["locals"].clone(), strings(&told["errors"]))
}

#[track_caller]
fn python(script: &str, arguments: &[&Path]) -> Value {
    let mut command = Command::new(program("python"));
    command.arg(crate::folder().join(script)).args(arguments);
    let end = run(command, RUN_MAX);
    match end.how {
        How::Success => serde_json::from_str(&end.stdout).expect("the script prints JSON"),
        _ => panic!("{script} failed{}", end.shown()),
    }
}

fn program(name: &str) -> std::path::PathBuf {
    crate::require_stamp("deploy.stamp", &[include_str!("../deploy.txt")]);
    crate::tools().join("deploy/bin").join(name)
}

fn strings(list: &Value) -> Vec<String> {
    let texts = list.as_array().into_iter().flatten();
    texts
        .filter_map(|text| Some(text.as_str()?.to_owned()))
        .collect()
}
