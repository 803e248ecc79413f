//! The commands that documents and examples name are ones that this program takes, and what they look for in its
//! log is something that it says.
//!
//! A command that parses is not yet one that does what the page says; but most mistakes in a runbook are an
//! option that was renamed or has become required, and are found here.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::fs;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};

use crate::Cli;

/// Folders without documents of ours.
const NOT_OURS: &[&str] = &["target", "data", "node_modules"];
/// What begins a line of a console besides this program. A word that is none of them is a mistake of the page.
const PROGRAMS: &[&str] = &[
    "cargo",
    "cat",
    "curl",
    "docker",
    "export",
    "git",
    "kill",
    "kubectl",
    "mkdir",
    "pip",
    "python",
    "python3",
    "sed",
    "stampworks",
    "until",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every file below a folder whose name ends so, hidden folders and those of tools left out.
fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let is_ours = !name.starts_with('.') && !NOT_OURS.contains(&name.as_str());
        if path.is_dir() && is_ours {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
}

/// A command, and where it is written.
struct Written {
    place: String,
    text: String,
    /// In a line of prose a name such as `stampworks fleet plan` is no call.
    is_prose: bool,
}

impl Written {
    fn words(&self) -> Vec<String> {
        let words = shlex::split(&self.text);
        let words = words.unwrap_or_else(|| panic!("{}: quotes: {}", self.place, self.text));
        let end = |word: &&String| !matches!(word.as_str(), "|" | "&" | "&&" | ">" | "2>" | ";");
        words.iter().take_while(end).cloned().collect()
    }
}

/// The commands of one document: lines of its blocks of shell, and spans of code in its text.
fn commands(place: &str, text: &str) -> Vec<Written> {
    let (mut found, mut prose) = (Vec::new(), String::new());
    let mut block: Option<&str> = None;
    // A command that goes on in the next line.
    let mut begun = String::new();
    // Inside of what is written to a file, up to this line.
    let mut until: Option<&str> = None;
    for line in text.lines() {
        if let Some(tag) = line.trim_start().strip_prefix("```") {
            block = block.is_none().then_some(tag);
            prose.push('\n');
            continue;
        }
        if let Some(end) = until {
            until = (line.trim() != end).then_some(end);
            continue;
        }
        let Some(tag) = block else {
            prose.push_str(line);
            prose.push('\n');
            continue;
        };
        let command = match tag {
            _ if !begun.is_empty() => Some(line.trim()),
            "console" => line.trim_start().strip_prefix("$ "),
            "sh" => Some(line.trim()).filter(|line| !line.is_empty() && !line.starts_with('#')),
            "" | "text" => Some(line).filter(|line| line.starts_with("stampworks ")),
            _ => None,
        };
        let Some(command) = command else { continue };
        until = command
            .split_once("<<'")
            .and_then(|(_, end)| end.strip_suffix('\''));
        if let Some(part) = command.strip_suffix('\\') {
            begun.push_str(part);
            continue;
        }
        found.push(Written {
            place: place.to_owned(),
            text: std::mem::take(&mut begun) + command,
            is_prose: false,
        });
    }
    // A span goes over the end of a line, and never over that of a paragraph.
    for paragraph in prose.split("\n\n") {
        for span in paragraph.split('`').skip(1).step_by(2) {
            found.push(Written {
                place: place.to_owned(),
                text: span.split_whitespace().collect::<Vec<_>>().join(" "),
                is_prose: true,
            });
        }
    }
    found
}

/// All that is written in documents, and in the examples of the help.
fn written() -> Vec<Written> {
    let mut paths = Vec::new();
    files(&root(), "md", &mut paths);
    let mut found = Vec::new();
    for path in paths {
        let place = path.strip_prefix(root()).unwrap().display().to_string();
        found.extend(commands(&place, &fs::read_to_string(&path).unwrap()));
    }
    examples(&Cli::command(), "stampworks", &mut found);
    found
}

fn examples(command: &clap::Command, name: &str, found: &mut Vec<Written>) {
    let help = command.get_after_help().map(ToString::to_string);
    let lines = help.iter().flat_map(|help| help.lines());
    found.extend(
        lines
            .map(str::trim)
            .filter(|line| line.starts_with("stampworks "))
            .map(|line| Written {
                place: format!("{name} --help"),
                text: line.to_owned(),
                is_prose: false,
            }),
    );
    for sub in command.get_subcommands() {
        examples(sub, &format!("{name} {}", sub.get_name()), found);
    }
}

/// What follows the program's name, when the command is one of this program.
fn arguments(words: &[String]) -> Option<Vec<String>> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let rest = match words.as_slice() {
        ["stampworks", rest @ ..] | ["cargo", "run", "--release", "--", rest @ ..] => rest,
        _ => return None,
    };
    Some(rest.iter().map(|&word| word.to_owned()).collect())
}

/// Why this program does not take these arguments, if so.
fn refusal(arguments: &[String], is_prose: bool) -> Option<String> {
    let program = Cli::command();
    let named = arguments
        .iter()
        .try_fold(&program, |command, word| command.find_subcommand(word));
    if is_prose && named.is_some() {
        return None;
    }
    let words = std::iter::once("stampworks").chain(arguments.iter().map(String::as_str));
    match Cli::try_parse_from(words) {
        Ok(_) => None,
        // `--help` and `--version`.
        Err(error) if !error.use_stderr() => None,
        Err(error) => Some(error.to_string()),
    }
}

#[test]
fn every_command_in_the_documents_is_one_that_this_program_takes() {
    let mut taken = 0;
    let mut refused = Vec::new();
    for written in written() {
        let is_ours = ["stampworks ", "cargo run --release -- "];
        if written.is_prose && !is_ours.iter().any(|start| written.text.starts_with(start)) {
            continue;
        }
        let words = written.words();
        let Some(arguments) = arguments(&words) else {
            continue;
        };
        match refusal(&arguments, written.is_prose) {
            None => taken += 1,
            Some(why) => refused.push(format!("{}: {}\n{why}", written.place, written.text)),
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    assert!(taken > 100, "only {taken} commands were found");
}

/// The documents speak of a catalogue `fleet.toml` and of files beside it: here those of `deploy/examples`.
fn example_files() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let examples = root().join("deploy/examples");
    // A folder is a catalogue too. The help names the examples themselves.
    for (place, below) in [
        ("fleet.toml", ""),
        ("fleet.toml", "schemas"),
        ("deploy/examples/fleet", ""),
        ("deploy/examples/fleet", "schemas"),
    ] {
        let (from, to) = (
            examples.join("fleet").join(below),
            folder.path().join(place).join(below),
        );
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
            }
        }
    }
    for file in ["usage.toml", "growth.toml"] {
        fs::copy(examples.join(file), folder.path().join(file)).unwrap();
    }
    folder
}

/// Changes the folder of the process: the test runner gives each test one of its own.
#[test]
fn every_command_of_the_documents_that_needs_only_a_catalogue_succeeds() {
    let all = written();
    let folder = example_files();
    std::env::set_current_dir(folder.path()).unwrap();
    let mut ran = 0;
    for written in all {
        let is_ours = written.text.starts_with("stampworks fleet ");
        let Some(arguments) = is_ours.then(|| arguments(&written.words())).flatten() else {
            continue;
        };
        let needs_files_only = ["validate", "place", "plan", "render"];
        let asks_a_database = arguments.iter().any(|word| word == "--reservations");
        let is_call = arguments.len() > 2
            && needs_files_only.contains(&arguments[1].as_str())
            && !asks_a_database;
        if !is_call {
            continue;
        }
        let words = std::iter::once("stampworks").chain(arguments.iter().map(String::as_str));
        let outcome = crate::obey(Cli::try_parse_from(words).unwrap());
        let failed = outcome.err().map(|failure| failure.to_string());
        assert_eq!(failed, None, "{}: {}", written.place, written.text);
        ran += 1;
    }
    assert!(ran > 8, "only {ran} were run");
}

#[test]
fn a_line_of_a_console_begins_with_a_program_that_there_is() {
    for written in written().iter().filter(|written| !written.is_prose) {
        let words = written.words();
        let program = words.iter().find(|word| !word.contains('='));
        assert!(
            program.is_some_and(|program| PROGRAMS.contains(&program.as_str())),
            "{}: {}",
            written.place,
            written.text
        );
    }
}

#[test]
fn what_a_page_looks_for_in_the_log_is_something_that_a_program_says() {
    let mut paths = Vec::new();
    files(&root().join("crates"), "rs", &mut paths);
    let sources: Vec<String> = paths
        .iter()
        .filter(|path| path.components().any(|part| part.as_os_str() == "src"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let mut looked_for = 0;
    for written in written() {
        let Some((_, pattern)) = written.text.split_once("| grep '") else {
            continue;
        };
        let pattern = pattern.trim_end_matches('\'');
        assert!(
            sources.iter().any(|source| source.contains(pattern)),
            "{}: nothing says `{pattern}`",
            written.place
        );
        looked_for += 1;
    }
    assert!(looked_for > 15, "only {looked_for} were found");
}

#[test]
fn commands_are_found_in_consoles_blocks_and_prose_and_nowhere_else() {
    let text = "Run `stampworks\nverify` or `x`.\n\n```console\n$ stampworks a | grep b\nprinted\n```\n\n```json\n$ no\n```\n\n\
                ```sh\n# why\nA=b \\\n  stampworks c  # then\n```\n";
    let found = commands("page", text);
    let found: Vec<(&str, bool)> = found
        .iter()
        .map(|w| (w.text.as_str(), w.is_prose))
        .collect();
    assert_eq!(
        found,
        [
            ("stampworks a | grep b", false),
            ("A=b stampworks c  # then", false),
            ("stampworks verify", true),
            ("x", true)
        ]
    );
    let words = |text: &str| {
        let (place, text) = ("page".to_owned(), text.to_owned());
        Written {
            place,
            text,
            is_prose: false,
        }
        .words()
    };
    assert_eq!(
        words("stampworks a 'b c' | grep d"),
        ["stampworks", "a", "b c"]
    );
    assert_eq!(words("stampworks c  # then"), ["stampworks", "c"]);
}

#[test]
fn a_command_that_lacks_what_it_needs_is_refused_unless_it_is_only_named() {
    let words = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
    assert!(refusal(&words("fleet plan"), false).is_some());
    assert!(refusal(&words("fleet plan"), true).is_none());
    assert!(refusal(&words("fleet plane"), true).is_some());
    assert!(refusal(&words("fleet promote --rollback"), true).is_some());
    assert!(refusal(&words("fleet plan --growth 5% --usage usage.toml"), false).is_none());
    assert!(refusal(&words("--help"), false).is_none());
}
