//! What a journal promises about crashes and neighbours.

use std::collections::BTreeMap;

use stamp_model::DeviceId;
use stamp_placement::device_move::{Event, Stage};

use super::*;

const POLICY: MovePolicy = MovePolicy {
    keep_source_us: 5,
    straggler_after_us: 7,
};

fn side(stamp: &str) -> Side {
    Side {
        stamp: StampId::parse(stamp).unwrap(),
        hub: format!("{stamp}.example"),
        registry_per_minute: 100,
        twin_reads_per_minute: 6_000,
    }
}

fn plan(devices: usize) -> Plan {
    let device = |number| PlannedDevice {
        device: DeviceId::parse(format!("d-{number}").into()).unwrap(),
        registration: format!("d-{number}"),
        tenant: stamp_model::TenantId::parse("contoso").unwrap(),
        target: StampId::parse("prod").unwrap(),
    };
    Plan {
        source: side("test"),
        targets: BTreeMap::from([(StampId::parse("prod").unwrap(), side("prod"))]),
        devices: (0..devices).map(device).collect(),
    }
}

/// A journal of two devices, the first of which was begun.
fn begun(path: &Path) -> Journal {
    let mut journal = Journal::create(path, &plan(2), POLICY, 10).unwrap();
    fs::write(beside(path, ".requests"), "").unwrap();
    let state = journal.devices()[0].state.begin(11, &POLICY).unwrap();
    let change = Change {
        device: 0,
        state,
        kept: None,
        why: Some("it was slow".to_owned()),
    };
    journal.save(&[change], Some(3)).unwrap();
    journal
}

#[test]
fn what_was_saved_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("move.jsonl");
    let written = begun(&path);
    let read = Journal::look(&path).unwrap();
    assert_eq!(read.devices(), written.devices());
    assert_eq!(read.devices()[0].state.stage(), Stage::Recording);
    assert_eq!(read.devices()[0].why.as_deref(), Some("it was slow"));
    assert_eq!(
        (read.requests(), read.began_us(), *read.policy()),
        (3, 10, POLICY)
    );
    assert_eq!(read.plan(), plan(2));
}

#[test]
fn a_line_that_a_crash_cut_short_was_never_acted_on_and_is_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("move.jsonl");
    drop(begun(&path));
    let whole = fs::read(&path).unwrap();
    let lines: Vec<usize> = whole
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .map(|(at, _)| at + 1)
        .collect();
    let planned_end = lines[3];
    for cut in planned_end..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let read = Journal::open(&path).unwrap();
        let stage = read.devices()[0].state.stage();
        let is_saved = cut >= lines[4];
        assert_eq!(stage == Stage::Recording, is_saved, "cut at {cut}");
        drop(read);
        let end = lines
            .iter()
            .rev()
            .find(|end| **end <= cut)
            .copied()
            .unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().len(),
            end as u64,
            "cut at {cut}"
        );
    }
    for cut in 0..planned_end - lines[0] {
        fs::write(&path, &whole[..lines[0] + cut]).unwrap();
        // The plan has its name only when it is whole, so this is no crash.
        let broken = Journal::open(&path);
        let is_whole = lines[0] + cut >= lines[2];
        assert_eq!(broken.is_ok(), is_whole, "cut at {}", lines[0] + cut);
    }
}

#[test]
fn two_processes_never_run_one_move_and_a_name_is_not_taken_twice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("move.jsonl");
    let first = begun(&path);
    assert!(matches!(Journal::open(&path), Err(JournalError::Busy(_))));
    // Looking is always allowed.
    assert!(Journal::look(&path).is_ok());
    drop(first);
    assert!(matches!(
        Journal::create(&path, &plan(2), POLICY, 0),
        Err(JournalError::Exists(_))
    ));
    assert!(Journal::open(&path).is_ok());
}

#[test]
fn what_is_no_journal_is_refused_by_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("move.jsonl");
    drop(begun(&path));
    let good = fs::read_to_string(&path).unwrap();
    for (from, to, line, problem) in [
        (
            "\"stampworks-move\":1",
            "\"stampworks-move\":2",
            1,
            "format 2",
        ),
        ("\"stampworks-move\":1", "\"move\":1", 1, "no journal"),
        ("\"devices\":2", "\"devices\":3", 6, "2 of 3"),
        ("\"recording\"", "\"dancing\"", 5, "dancing"),
        ("{\"device\":1,", "{\"device\":7,", 3, "does not come next"),
    ] {
        assert!(good.contains(from), "{from}");
        fs::write(&path, good.replacen(from, to, 1)).unwrap();
        let error = Journal::look(&path).unwrap_err().to_string();
        assert!(
            error.contains(&format!("line {line}: ")) && error.contains(problem),
            "{error}"
        );
    }
    fs::write(&path, "").unwrap();
    assert!(
        Journal::look(&path)
            .unwrap_err()
            .to_string()
            .contains("empty")
    );
}

#[test]
fn a_long_journal_is_written_anew_with_the_same_content() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("move.jsonl");
    let mut journal = begun(&path);
    for turn in 0..1_200 {
        let event = if turn % 2 == 0 {
            Event::Pause
        } else {
            Event::Continue
        };
        let state = journal.devices()[1].state.on(event, 12).unwrap();
        let change = Change {
            device: 1,
            state,
            kept: None,
            why: None,
        };
        journal.save(&[change], None).unwrap();
    }
    let before = journal.devices().to_vec();
    drop(journal);
    let long = fs::metadata(&path).unwrap().len();
    let read = Journal::open(&path).unwrap();
    assert!(fs::metadata(&path).unwrap().len() * 10 < long);
    assert_eq!((read.devices(), read.requests()), (&before[..], 3));
    drop(read);
    assert_eq!(Journal::look(&path).unwrap().devices(), &before[..]);
}

#[test]
fn a_journal_that_cannot_be_written_says_so_and_keeps_its_state() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("move.jsonl");
    drop(begun(&path));
    let mut journal = Journal::look(&path).unwrap();
    let change = Change {
        device: 1,
        state: journal.devices()[1].state.begin(20, &POLICY).unwrap(),
        kept: None,
        why: None,
    };
    let error = journal.save(&[change], None).unwrap_err();
    assert!(matches!(error, JournalError::Io { .. }), "{error}");
    assert_eq!(journal.devices()[1].state.stage(), Stage::Planned);
}

#[test]
fn nothing_is_written_behind_a_line_that_a_full_disk_has_cut_short() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("move.jsonl");
    let mut journal = begun(&path);
    let change = |journal: &Journal, device: usize| Change {
        device,
        state: journal.devices()[device]
            .state
            .on(Event::Pause, 20)
            .unwrap(),
        kept: None,
        why: None,
    };
    let good = journal.file.replace(File::create("/dev/full").unwrap());
    let first = change(&journal, 1);
    journal.save(&[first], None).unwrap_err();
    // As far as the disk had room.
    let mut good = good.unwrap();
    good.write_all(b"{\"device\":1,\"sta").unwrap();
    journal.file = Some(good);
    let second = change(&journal, 0);
    let error = journal.save(&[second], None).unwrap_err();
    assert!(matches!(error, JournalError::Io { .. }), "{error}");
    drop(journal);
    let read = Journal::open(&path).unwrap();
    assert_eq!(read.devices()[0].state.stage(), Stage::Recording);
    assert_eq!(read.requests(), 3);
}
