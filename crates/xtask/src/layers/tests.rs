//! The comparison, on tables and manifests small enough to see through.

use serde_json::json;

use super::differences;
use super::metadata::{self, Import, Package};
use super::table::{Layer, Row, parse};

const TABLE: &str = "\
# Text before

| layer | crate | what it does | only importer of |
|---|---|---|---|
| 0 words | `model` | words | |
| 1 logic | `schema` | decodes | |
| 2 doors | `hub` | reads | `amqp`, `amqp-types` |
| 2 doors | `lake` | writes | `parquet` |
| 3 programs | `consumer` | the service | |
| 4 binary | `stamp` | the binary | `clap` |
| dev | `emulator` | a hub on loopback | `amqp-types` |
| tests | `interop` | whole stamps | |

Text after | with a bar
";

/// Imports as a manifest lists them; `dev:` before a name is a dev-dependency.
fn package(name: &str, imports: &[&str]) -> Package {
    let imports = imports.iter().map(|name| match name.strip_prefix("dev:") {
        Some(name) => Import {
            name: name.to_owned(),
            is_dev: true,
        },
        None => Import {
            name: (*name).to_owned(),
            is_dev: false,
        },
    });
    Package {
        name: name.to_owned(),
        imports: imports.collect(),
    }
}

/// A workspace that agrees with the table.
fn agreeing() -> Vec<Package> {
    vec![
        package("model", &["serde"]),
        package("schema", &["model"]),
        package("hub", &["model", "amqp", "amqp-types", "dev:emulator"]),
        package("lake", &["model", "parquet", "dev:interop"]),
        package(
            "consumer",
            &["model", "schema", "hub", "lake", "dev:emulator"],
        ),
        package("stamp", &["consumer", "emulator", "clap"]),
        package("emulator", &["model", "amqp-types"]),
        package("interop", &["stamp", "emulator", "parquet"]),
    ]
}

/// The difference that `imports` of `name` make in an otherwise agreeing workspace.
#[track_caller]
fn check(name: &str, imports: &[&str], expected: &[&str]) {
    let mut packages = agreeing();
    packages.retain(|package| package.name != name);
    packages.push(package(name, imports));

    assert_eq!(differences(&parse(TABLE).unwrap(), &packages), expected);
}

#[test]
fn a_workspace_as_the_table_says_has_no_difference() {
    assert_eq!(differences(&parse(TABLE).unwrap(), &agreeing()), [""; 0]);
}

#[test]
fn a_row_gives_layer_crate_and_libraries() {
    assert_eq!(
        parse(TABLE).unwrap()[2],
        Row {
            layer: Layer::Numbered(2),
            name: "hub".to_owned(),
            only_importer_of: vec!["amqp".to_owned(), "amqp-types".to_owned()],
        }
    );
}

#[test]
fn a_sibling_is_refused() {
    check(
        "lake",
        &["model", "parquet", "hub"],
        &["layers: lake (layer 2) imports hub (layer 2): a crate imports lower layers only"],
    );
}

#[test]
fn a_sibling_in_tests_is_refused() {
    check(
        "lake",
        &["model", "parquet", "dev:hub"],
        &["layers: lake (layer 2) imports hub (layer 2): a crate imports lower layers only"],
    );
}

#[test]
fn a_crate_may_name_itself_for_its_own_tests() {
    check("lake", &["model", "parquet", "dev:lake"], &[]);
}

#[test]
fn an_upper_layer_is_refused() {
    check(
        "model",
        &["schema"],
        &["layers: model (layer 0) imports schema (layer 1): a crate imports lower layers only"],
    );
}

#[test]
fn a_door_ships_no_dev_crate() {
    check(
        "lake",
        &["model", "parquet", "emulator"],
        &["layers: lake (layer 2) imports emulator (dev): \
           only the binary, and tests of doors and programs, use a dev crate"],
    );
}

#[test]
fn logic_is_tested_without_the_emulator() {
    check(
        "schema",
        &["model", "dev:emulator"],
        &["layers: schema (layer 1) imports emulator (dev): \
           only the binary, and tests of doors and programs, use a dev crate"],
    );
}

#[test]
fn a_test_crate_is_not_shipped() {
    check(
        "consumer",
        &["model", "interop"],
        &["layers: consumer (layer 3) imports interop (tests): test crates are for tests"],
    );
}

#[test]
fn a_dev_crate_imports_words_and_logic_only() {
    check(
        "emulator",
        &["model", "schema", "hub", "amqp-types"],
        &["layers: emulator (dev) imports hub (layer 2): a dev crate imports words and logic only"],
    );
}

#[test]
fn a_library_behind_a_door_is_refused_elsewhere_also_in_tests() {
    check(
        "consumer",
        &["model", "parquet", "dev:amqp-types"],
        &[
            "layers: consumer imports amqp-types, whose door is emulator and hub",
            "layers: consumer imports parquet, whose door is lake",
        ],
    );
}

#[test]
fn a_row_that_names_a_library_nobody_imports_is_stale() {
    check(
        "lake",
        &["model"],
        &["layers: the table calls lake the importer of parquet, which it does not import"],
    );
}

#[test]
fn a_crate_without_a_row_and_a_row_without_a_crate_are_reported() {
    let mut packages = agreeing();
    packages.retain(|package| package.name != "schema");
    packages.push(package("common", &["model"]));

    assert_eq!(
        differences(&parse(TABLE).unwrap(), &packages),
        [
            "layers: common has no row in the table",
            "layers: the table lists schema, which is not in the workspace",
        ]
    );
}

#[test]
fn a_document_without_the_table_is_an_error() {
    let error = parse("# Architecture\n").unwrap_err();

    assert!(error.to_string().contains("has no table"), "{error}");
}

#[test]
fn an_unknown_layer_names_its_row() {
    let error = parse(&TABLE.replace("1 logic", "middle")).unwrap_err();

    assert!(format!("{error:#}").contains("`schema`"), "{error:#}");
}

#[test]
fn renamed_build_and_test_imports_are_read_from_the_metadata() {
    let document = json!({ "packages": [{
        "name": "lake",
        "dependencies": [
            { "name": "parquet", "rename": "pq", "kind": null },
            { "name": "cc", "kind": "build" },
            { "name": "proptest", "kind": "dev" },
        ],
    }] });

    let packages = metadata::parse(&document).unwrap();

    let imports: Vec<_> = packages[0]
        .imports
        .iter()
        .map(|import| (import.name.as_str(), import.is_dev))
        .collect();
    assert_eq!(
        imports,
        [("parquet", false), ("cc", false), ("proptest", true)]
    );
}
