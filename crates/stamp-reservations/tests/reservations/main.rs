//! The promises of the door, on SQLite and on PostgreSQL.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod killed;
mod suite;
mod torn;

use stamp_interop::Postgres;
use stamp_reservations::{Reservations, ReservationsConfig};

struct Sqlite {
    folder: tempfile::TempDir,
}

impl Sqlite {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn config(&self) -> ReservationsConfig {
        let path = self.folder.path().join("fleet.db");
        ReservationsConfig::new(format!("sqlite:{}", path.display()))
    }

    /// As another process would.
    async fn open(&self) -> Reservations {
        Reservations::open(&self.config()).await.unwrap()
    }
}

fn config(postgres: &Postgres) -> ReservationsConfig {
    ReservationsConfig {
        password_file: Some(postgres.password_file()),
        ..ReservationsConfig::new(postgres.url())
    }
}

async fn open(postgres: &Postgres) -> Reservations {
    Reservations::open(&config(postgres)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bookings_keep_their_promises_on_sqlite() {
    let sqlite = Sqlite::new();
    suite::all(&[sqlite.open().await, sqlite.open().await]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bookings_keep_their_promises_on_postgresql() {
    let postgres = Postgres::start();
    suite::all(&[open(&postgres).await, open(&postgres).await]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_booking_that_was_answered_outlives_a_kill_on_postgresql_and_the_door_goes_on() {
    let mut postgres = Postgres::start();
    let reservations = open(&postgres).await;
    suite::book_three(&reservations).await;

    postgres.kill();
    let away = reservations.usage().await.unwrap_err();
    assert!(suite::passes(&away), "{away:?}");
    let away = reservations.usage().await.unwrap_err();
    assert!(suite::passes(&away), "no connection can be made: {away:?}");
    postgres.restart();
    suite::assert_three(&reservations).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_and_a_file_that_is_no_database_are_told_apart_from_an_outage() {
    let postgres = Postgres::start();
    let wrong = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(wrong.path(), "wrong").unwrap();
    let config = ReservationsConfig {
        password_file: Some(wrong.path().into()),
        ..ReservationsConfig::new(postgres.url())
    };
    let denied = Reservations::open(&config).await.unwrap_err();
    assert!(denied.to_string().ends_with("access denied"), "{denied:?}");

    std::fs::write(wrong.path(), "x".repeat(10_000)).unwrap();
    let config = ReservationsConfig::new(format!("sqlite:{}", wrong.path().display()));
    let refused = Reservations::open(&config).await.unwrap_err();
    assert!(refused.to_string().ends_with("refused"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_door_to_look_through_changes_nothing_and_makes_nothing() {
    let (sqlite, postgres) = (Sqlite::new(), Postgres::start());
    // A file that is not there is named, and not made.
    let missing = Reservations::read_only(&sqlite.config()).unwrap_err();
    assert!(missing.to_string().contains("fleet.db"), "{missing}");
    let missing = Reservations::existing(&sqlite.config()).unwrap_err();
    assert!(missing.to_string().contains("fleet.db"), "{missing}");
    let empty = Reservations::read_only(&config(&postgres)).unwrap();
    let refused = empty.usage().await.unwrap_err();
    assert!(refused.to_string().ends_with("refused"), "{refused:?}");

    for config in [sqlite.config(), config(&postgres)] {
        let door = Reservations::open(&config).await.unwrap();
        suite::book_three(&door).await;
        let looking = Reservations::read_only(&config).unwrap();
        suite::assert_three(&looking).await;
        let claim = suite::claim(suite::device("d-4"), "kept", 10);
        let refused = looking.book(&claim, 7).await.unwrap_err();
        assert!(!suite::passes(&refused), "{refused:?}");
        suite::assert_three(&door).await;
        let changing = Reservations::existing(&config).unwrap();
        suite::must_book(&changing, &claim).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_door_never_tells_its_password() {
    let postgres = Postgres::start();
    let password = std::fs::read_to_string(postgres.password_file()).unwrap();
    let told = format!("{:?}", open(&postgres).await);
    assert!(!told.contains(password.trim()), "{told}");
}
