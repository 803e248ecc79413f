//! Real processes that book side by side, one of which is killed in the middle.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use stamp_interop::Postgres;
use stamp_reservations::{Booked, Reservations, ReservationsConfig};

use crate::{Sqlite, suite};

/// Tell a process where to book and what to call its devices.
const URL: &str = "STAMP_TEST_BOOK_URL";
const PASSWORD_FILE: &str = "STAMP_TEST_BOOK_PASSWORD_FILE";
const NAME: &str = "STAMP_TEST_BOOK_NAME";

/// What the stamp of these tests takes.
const DEVICES_MAX: u64 = 40;

/// A process: books a device for each line that it is given, says which were booked, and ends when the
/// stamp is full. After the last line it needs none. By itself it does so on a database of its own.
#[tokio::test]
async fn a_process_books_until_the_stamp_is_full() {
    let own = Sqlite::new();
    let config = match std::env::var(URL) {
        Ok(url) => ReservationsConfig {
            password_file: std::env::var_os(PASSWORD_FILE).map(Into::into),
            ..ReservationsConfig::new(url)
        },
        Err(_) => own.config(),
    };
    let name = std::env::var(NAME).unwrap_or_else(|_| "alone".to_owned());
    let door = Reservations::open(&config).await.unwrap();
    let (mut booked, mut waits) = (0, std::env::var(URL).is_ok());
    loop {
        if waits {
            waits = std::io::stdin().read_line(&mut String::new()).unwrap() > 0;
        }
        let wish = suite::claim(
            suite::device(&format!("{name}-{booked}")),
            "shared",
            DEVICES_MAX,
        );
        let answer = loop {
            match door.book(&wish, 1).await {
                // The other one had the lock for too long, and nothing was done.
                Err(error) if suite::passes(&error) => {}
                answer => break answer,
            }
        };
        match answer {
            Ok(Booked::New(booking)) => {
                let mut out = std::io::stdout();
                writeln!(out, "booked {}", booking.subject).unwrap();
                out.flush().unwrap();
                booked += 1;
            }
            Ok(Booked::Already(_)) => booked += 1,
            Ok(Booked::Full { used, .. }) => {
                assert_eq!(used, DEVICES_MAX);
                break;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(std::env::var(URL).is_ok() || booked == DEVICES_MAX);
}

struct Booker {
    process: Child,
    tell: Option<ChildStdin>,
    said: BufReader<ChildStdout>,
}

impl Booker {
    fn start(config: &ReservationsConfig, name: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([
                "--exact",
                "killed::a_process_books_until_the_stamp_is_full",
                "--nocapture",
            ])
            .env(URL, &config.url)
            .env(NAME, name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(file) = &config.password_file {
            command.env(PASSWORD_FILE, file);
        }
        let mut process = command.spawn().unwrap();
        let said = BufReader::new(process.stdout.take().unwrap());
        let tell = process.stdin.take();
        Self {
            process,
            tell,
            said,
        }
    }

    /// One more device.
    fn go(&mut self) {
        writeln!(self.tell.as_mut().unwrap(), "go").unwrap();
    }

    /// The next device that it says it has booked; `None` when it is gone.
    fn next(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.said.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            // The runner may have begun the line with words of its own.
            if let Some((_, subject)) = line.trim_end().split_once("booked ") {
                return Some(subject.to_owned());
            }
        }
    }
}

async fn one_of_two_is_killed(config: &ReservationsConfig) {
    // SQLite lets nobody else in while it makes the file.
    drop(Reservations::open(config).await.unwrap());
    let mut killed = Booker::start(config, "killed");
    let mut other = Booker::start(config, "other");
    let mut answered = BTreeSet::new();
    for _ in 0..8 {
        // Both at once, and neither is left behind by a lock that is not fair.
        killed.go();
        other.go();
        answered.extend([killed.next().unwrap(), other.next().unwrap()]);
    }
    killed.go();
    other.go();
    killed.process.kill().unwrap();
    // What it had said before it died counts too.
    answered.extend(std::iter::from_fn(|| killed.next()));
    killed.process.wait().unwrap();
    drop(other.tell.take());
    answered.extend(std::iter::from_fn(|| other.next()));
    assert!(other.process.wait().unwrap().success());

    let door = Reservations::open(config).await.unwrap();
    let list = door.list(&suite::stamp("shared"), "", 1_000).await.unwrap();
    let there: BTreeSet<String> = list.into_iter().map(|booking| booking.subject).collect();
    assert_eq!(u64::try_from(there.len()).unwrap(), DEVICES_MAX);
    assert_eq!(
        suite::used(&door, "shared").await,
        suite::devices(DEVICES_MAX)
    );
    let lost: Vec<_> = answered.difference(&there).collect();
    assert!(lost.is_empty(), "answered and lost: {lost:?}");
    // At most the booking that was under way at the kill was never said.
    assert!(there.len() - answered.len() <= 1, "{answered:?}");
}

#[tokio::test]
async fn what_a_killed_process_had_answered_is_kept_and_no_place_is_booked_twice_on_sqlite() {
    let sqlite = Sqlite::new();
    one_of_two_is_killed(&sqlite.config()).await;
}

#[tokio::test]
async fn what_a_killed_process_had_answered_is_kept_and_no_place_is_booked_twice_on_postgresql() {
    let postgres = Postgres::start();
    one_of_two_is_killed(&crate::config(&postgres)).await;
}
