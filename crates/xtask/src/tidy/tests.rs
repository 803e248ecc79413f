//! Each rule on a text small enough to see through.

use super::{Findings, decisions, files, links, run, source};

fn of_source(text: &str) -> Findings {
    let mut findings = Findings::default();
    source("src/a.rs", text, &mut findings);
    findings
}

fn of_document(text: &str) -> Vec<String> {
    let mut findings = Findings::default();
    links("docs/a.md", text, |file| file == "b.md", &mut findings);
    findings.refused
}

#[test]
fn this_project_is_tidy() {
    let found = run(&crate::root()).unwrap();

    assert_eq!(found.refused, [""; 0]);
}

#[test]
fn sources_and_documents_are_found_and_installed_ones_left_out() {
    let found = files(&crate::root()).unwrap();

    assert!(
        found
            .iter()
            .any(|path| path == "crates/xtask/src/tidy/tests.rs")
    );
    assert!(found.iter().any(|path| path == "ARCHITECTURE.md"));
    assert!(!found.iter().any(|path| path.contains("node_modules")));
}

#[test]
fn a_long_file_is_named_and_a_longer_one_refused() {
    assert_eq!(of_source(&"x\n".repeat(600)), Findings::default());
    assert_eq!(
        of_source(&"x\n".repeat(900)).noted,
        ["tidy: src/a.rs has 900 lines: split it"]
    );
    assert_eq!(
        of_source(&"x\n".repeat(901)).refused,
        ["tidy: src/a.rs has 901 lines, at most 900"]
    );
}

#[test]
fn unfinished_code_and_unrun_tests_are_refused() {
    for forbidden in [
        concat!("#[", "ignore]"),
        concat!("#[", "ignore = \"slow\"]"),
        concat!("to", "do!()"),
        concat!("unimplemented", "!()"),
        concat!("#[", "allow(dead_code)]"),
        concat!("#![", "allow(dead_code)]"),
    ] {
        let found = of_source(&format!("fn a() {{}}\n{forbidden}\n")).refused;
        assert_eq!(found.len(), 1, "{forbidden}");
        assert!(found[0].starts_with("tidy: src/a.rs:2: "), "{}", found[0]);
    }
}

#[test]
fn a_decision_must_be_linked_and_the_index_need_not() {
    let paths = [
        "docs/adr/0001-a.md",
        "docs/adr/0002-b.md",
        "docs/adr/README.md",
        "docs/c.md",
    ];
    let mut findings = Findings::default();

    decisions(
        paths.into_iter(),
        "see [a](docs/adr/0001-a.md)",
        &mut findings,
    );

    assert_eq!(
        findings.refused,
        ["tidy: docs/adr/0002-b.md is not linked from ARCHITECTURE.md"]
    );
}

#[test]
fn a_link_to_no_file_is_refused() {
    assert_eq!(
        of_document("see [c](c.md#part) and [b](b.md)\n"),
        ["tidy: docs/a.md:1: no file at c.md#part"]
    );
}

#[test]
fn links_elsewhere_and_in_code_are_left_alone() {
    let text = "[b](b.md#x) [here](#part) [web](https://example.com/c.md)\n```\n[c](c.md)\n```\n";

    assert_eq!(of_document(text), [""; 0]);
}
