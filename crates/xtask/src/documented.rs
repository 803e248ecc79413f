//! The commands of this program that documents name are ones that it takes.

use crate::{HELP, fuzz, image, sim, soak, tidy};

/// What follows `cargo xtask` at each place of a text, up to the end of the span, line or remark.
fn calls(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.split("cargo xtask ").skip(1).map(|rest| {
        let call = rest.split(['`', '\n', '#', ';']).next().unwrap_or_default();
        call.split_whitespace().collect()
    })
}

/// Whether this program takes these words. What is in brackets may be left out, and a capital letter stands for
/// a number.
fn is_taken(words: &[&str]) -> bool {
    let mut is_optional = false;
    let words: Vec<&str> = words
        .iter()
        .filter(|word| {
            let begins = word.starts_with('[');
            let left_out = is_optional || begins;
            is_optional = left_out && !word.ends_with(']');
            !left_out
        })
        .map(|&word| match word.as_bytes() {
            [b'A'..=b'Z'] => "1",
            _ => word,
        })
        .collect();
    match words.as_slice() {
        ["test"] | ["test", "--", ..] | ["docs", "--check"] => true,
        ["sim", rest @ ..] => sim::Seeds::parse(rest).is_ok(),
        // It is named without its length.
        ["soak"] => true,
        ["soak", rest @ ..] => soak::Soak::parse(rest).is_ok(),
        ["image", rest @ ..] => image::Image::parse(rest).is_ok(),
        ["fuzz", rest @ ..] => fuzz::Plan::parse(rest).is_ok(),
        [command] => HELP.lines().any(|line| {
            line.strip_prefix("  ")
                .and_then(|line| line.split(' ').next())
                == Some(command)
        }),
        _ => false,
    }
}

#[test]
fn every_command_of_the_project_in_the_documents_is_one() {
    let root = crate::root();
    let mut paths = tidy::files(&root).unwrap();
    paths.retain(|path| path.ends_with(".md"));
    paths.push(".ci/run".into());
    let mut found = 0;
    for path in paths {
        let text = crate::read(&root.join(&path)).unwrap();
        for call in calls(&text) {
            assert!(is_taken(&call), "{path}: cargo xtask {}", call.join(" "));
            found += 1;
        }
    }
    assert!(found > 20, "only {found} commands were found");
}

#[test]
fn a_command_that_there_is_not_or_an_option_of_another_one_is_refused() {
    for call in [
        "tset",
        "sim --minutes 3",
        "soak --seeds 3",
        "layers --check",
        "layer",
        "",
    ] {
        let words: Vec<&str> = call.split_whitespace().collect();
        assert!(!is_taken(&words), "{call}");
    }
    for call in [
        "sim --seeds N",
        "fuzz [TARGET] [--minutes M]",
        "layers",
        "soak --minutes 20",
    ] {
        let words: Vec<&str> = call.split_whitespace().collect();
        assert!(is_taken(&words), "{call}");
    }
}
