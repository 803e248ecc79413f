//! One operation each, on one connection, in one transaction.
//!
//! A booking's row is always touched before the rows of its stamps, and those in order of their
//! names: operations wait for one another and never in a circle.

use sqlx::{Connection, Row, Transaction};
use stamp_model::{StampId, TenantId};
use stamp_placement::{Axis, Load};

use crate::ReservationsError;
use crate::booking::{Booked, Booking, Claim, Moved, Subject};
use crate::error::{uncertain, undone, vanished};
use crate::sql;

/// Largest amount a column holds: two of them still fit the databases' 64 bits together.
const AMOUNT_MAX: i64 = i64::MAX / 4;

/// As the databases keep it. Needs above the largest amount fit no stamp.
fn column(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(AMOUNT_MAX).min(AMOUNT_MAX)
}

/// A limit as a statement compares with it: below the largest amount, so that what was cut to that
/// never fits.
fn limit(amount: u64) -> i64 {
    column(amount).min(AMOUNT_MAX - 1)
}

fn corrupt(subject: &str, column: &'static str, value: impl ToString) -> ReservationsError {
    ReservationsError::Corrupt {
        subject: subject.to_owned(),
        column,
        value: value.to_string(),
    }
}

/// The name of an axis's column, as in `sql`.
fn axis_column(axis: Axis) -> &'static str {
    match axis {
        Axis::Devices => "devices",
        Axis::MessagesPerDay => "messages_per_day",
        Axis::EventsPerSecond => "events_per_second",
        Axis::BytesPerSecond => "bytes_per_second",
        Axis::Tenants => "tenants",
    }
}

/// The first axis on which `needs` do not fit, for a stamp that was found to be full.
fn full_axis(used: Load, needs: Load, limits: Load) -> (Axis, u64) {
    let axis = Axis::ALL
        .into_iter()
        .find(|&axis| needs[axis] > 0 && used[axis].saturating_add(needs[axis]) > limits[axis])
        // Somebody gave capacity back between the two looks.
        .unwrap_or(Axis::Devices);
    (axis, used[axis])
}

macro_rules! operations {
    ($module:ident, $row:ty, $connection:ty, $database:ty, $begin:literal, $schema:expr) => {
        pub(super) mod $module {
            use super::*;

            type Db = $database;
            type Conn = $connection;

            pub(crate) async fn make_tables(at: &mut Conn) -> Result<(), ReservationsError> {
                const WHAT: &str = "make tables";
                let mut work = begin(at, WHAT).await?;
                for statement in $schema {
                    let made = sqlx::query::<Db>(statement).execute(&mut *work).await;
                    made.map_err(|cause| undone(WHAT, cause))?;
                }
                // Made or not, the next start makes what is missing.
                work.commit().await.map_err(|cause| undone(WHAT, cause))
            }

            pub(crate) async fn book(
                at: &mut Conn,
                claim: &Claim,
                now_us: i64,
            ) -> Result<Booked, ReservationsError> {
                const WHAT: &str = "book";
                let mut work = begin(at, WHAT).await?;
                let booked = insert(&mut work, claim, now_us, WHAT).await?;
                end(work, matches!(booked, Booked::New(_)), WHAT).await?;
                Ok(booked)
            }

            async fn insert(
                work: &mut Conn,
                claim: &Claim,
                now_us: i64,
                what: &'static str,
            ) -> Result<Booked, ReservationsError> {
                let subject = claim.subject.to_string();
                let mut insert = sqlx::query::<Db>(sql::INSERT)
                    .bind(&subject)
                    .bind(claim.tenant.as_str())
                    .bind(claim.stamp.as_str());
                for axis in Axis::ALL {
                    insert = insert.bind(column(claim.needs[axis]));
                }
                let inserted = insert.bind(now_us).fetch_optional(&mut *work).await;
                let Some(row) = inserted.map_err(|cause| undone(what, cause))? else {
                    // Whoever had it may have given it back between the two statements: try again then.
                    let booking = read(work, &subject, what).await?;
                    return Ok(Booked::Already(booking.ok_or_else(|| vanished(what))?));
                };
                Ok(
                    match take(work, &claim.stamp, claim.needs, claim.limits, what).await? {
                        Some((axis, used)) => Booked::Full { axis, used },
                        None => Booked::New(booking(&row, what)?),
                    },
                )
            }

            pub(crate) async fn begin_move(
                at: &mut Conn,
                subject: &Subject,
                version: i64,
                to: &StampId,
                limits: Load,
                now_us: i64,
            ) -> Result<Moved, ReservationsError> {
                const WHAT: &str = "begin a move";
                let mut work = begin(at, WHAT).await?;
                let moved = 'moved: {
                    let Some(now) = read(&mut work, &subject.to_string(), WHAT).await? else {
                        break 'moved Moved::Absent;
                    };
                    if now.version != version || now.leaving.is_some() || now.stamp == *to {
                        break 'moved Moved::Stale(now);
                    }
                    let place = (to, Some(&now.stamp));
                    let Some(changed) = change(&mut work, &now, place, now_us, WHAT).await? else {
                        break 'moved Moved::Stale(now);
                    };
                    match take(&mut work, to, now.needs, limits, WHAT).await? {
                        Some((axis, used)) => Moved::Full { axis, used },
                        None => Moved::Done(changed),
                    }
                };
                end(work, matches!(moved, Moved::Done(_)), WHAT).await?;
                Ok(moved)
            }

            /// `forward`: the move is over; otherwise it is taken back.
            pub(crate) async fn finish_move(
                at: &mut Conn,
                subject: &Subject,
                version: i64,
                forward: bool,
                now_us: i64,
            ) -> Result<Moved, ReservationsError> {
                let what = if forward { "end a move" } else { "undo a move" };
                let mut work = begin(at, what).await?;
                let moved = 'moved: {
                    let Some(now) = read(&mut work, &subject.to_string(), what).await? else {
                        break 'moved Moved::Absent;
                    };
                    let (true, Some(left)) = (now.version == version, &now.leaving) else {
                        break 'moved Moved::Stale(now);
                    };
                    let (stays, free) = if forward {
                        (&now.stamp, left)
                    } else {
                        (left, &now.stamp)
                    };
                    let changed = change(&mut work, &now, (stays, None), now_us, what).await?;
                    let Some(changed) = changed else {
                        break 'moved Moved::Stale(now);
                    };
                    give_back(&mut work, free, now.needs, what).await?;
                    Moved::Done(changed)
                };
                end(work, matches!(moved, Moved::Done(_)), what).await?;
                Ok(moved)
            }

            pub(crate) async fn give_to(
                at: &mut Conn,
                subject: &Subject,
                version: i64,
                tenant: &TenantId,
                now_us: i64,
            ) -> Result<Moved, ReservationsError> {
                const WHAT: &str = "give to a tenant";
                let subject = subject.to_string();
                let mut work = begin(at, WHAT).await?;
                let row = sqlx::query::<Db>(sql::GIVE_TO)
                    .bind(&subject)
                    .bind(version)
                    .bind(tenant.as_str())
                    .bind(now_us)
                    .fetch_optional(&mut *work)
                    .await;
                let moved = match row.map_err(|cause| undone(WHAT, cause))? {
                    Some(row) => Moved::Done(booking(&row, WHAT)?),
                    None => {
                        let now = read(&mut work, &subject, WHAT).await?;
                        now.map_or(Moved::Absent, Moved::Stale)
                    }
                };
                end(work, matches!(moved, Moved::Done(_)), WHAT).await?;
                Ok(moved)
            }

            pub(crate) async fn release(
                at: &mut Conn,
                subject: &Subject,
                version: i64,
            ) -> Result<Moved, ReservationsError> {
                const WHAT: &str = "release";
                let subject = subject.to_string();
                let mut work = begin(at, WHAT).await?;
                let delete = sqlx::query::<Db>(sql::DELETE).bind(&subject).bind(version);
                let deleted = delete.fetch_optional(&mut *work).await;
                let moved = match deleted.map_err(|cause| undone(WHAT, cause))? {
                    Some(row) => {
                        let booking = booking(&row, WHAT)?;
                        let mut stamps = vec![booking.stamp.clone()];
                        stamps.extend(booking.leaving.clone());
                        stamps.sort();
                        for stamp in &stamps {
                            give_back(&mut work, stamp, booking.needs, WHAT).await?;
                        }
                        Moved::Done(booking)
                    }
                    None => {
                        let now = read(&mut work, &subject, WHAT).await?;
                        now.map_or(Moved::Absent, Moved::Stale)
                    }
                };
                end(work, matches!(moved, Moved::Done(_)), WHAT).await?;
                Ok(moved)
            }

            async fn begin<'c>(
                at: &'c mut Conn,
                what: &'static str,
            ) -> Result<Transaction<'c, Db>, ReservationsError> {
                at.begin_with($begin)
                    .await
                    .map_err(|cause| undone(what, cause))
            }

            /// Commits what is to be kept. Anything else is taken back now, so that no lock outlives
            /// the call.
            async fn end(
                work: Transaction<'_, Db>,
                keep: bool,
                what: &'static str,
            ) -> Result<(), ReservationsError> {
                if keep {
                    work.commit().await.map_err(|cause| uncertain(what, cause))
                } else {
                    work.rollback().await.map_err(|cause| undone(what, cause))
                }
            }

            pub(crate) async fn get(
                at: &mut Conn,
                subject: &Subject,
            ) -> Result<Option<Booking>, ReservationsError> {
                read(at, &subject.to_string(), "read a booking").await
            }

            pub(crate) async fn list(
                at: &mut Conn,
                stamp: &StampId,
                after: &str,
                limit: i64,
            ) -> Result<Vec<Booking>, ReservationsError> {
                let rows = sqlx::query::<Db>(sql::LIST)
                    .bind(stamp.as_str())
                    .bind(after)
                    .bind(limit)
                    .fetch_all(at)
                    .await
                    .map_err(|cause| undone("list bookings", cause))?;
                rows.iter()
                    .map(|row| booking(row, "list bookings"))
                    .collect()
            }

            pub(crate) async fn tenants(
                at: &mut Conn,
                after: &str,
                limit: i64,
            ) -> Result<Vec<Booking>, ReservationsError> {
                const WHAT: &str = "list tenants";
                let rows = sqlx::query::<Db>(sql::TENANTS).bind(after).bind(limit);
                let rows = rows
                    .fetch_all(at)
                    .await
                    .map_err(|cause| undone(WHAT, cause))?;
                rows.iter().map(|row| booking(row, WHAT)).collect()
            }

            pub(crate) async fn devices(
                at: &mut Conn,
                tenant: &TenantId,
                stamp: Option<&StampId>,
                after: &str,
                limit: i64,
            ) -> Result<Vec<Booking>, ReservationsError> {
                const WHAT: &str = "list devices";
                let rows = sqlx::query::<Db>(sql::DEVICES)
                    .bind(tenant.as_str())
                    .bind(stamp.map_or("", StampId::as_str))
                    .bind(after)
                    .bind(limit)
                    .fetch_all(at)
                    .await
                    .map_err(|cause| undone(WHAT, cause))?;
                rows.iter().map(|row| booking(row, WHAT)).collect()
            }

            pub(crate) async fn count_devices(
                at: &mut Conn,
                tenant: &TenantId,
                stamp: &StampId,
            ) -> Result<u64, ReservationsError> {
                const WHAT: &str = "count devices";
                let row = sqlx::query::<Db>(sql::COUNT_DEVICES)
                    .bind(stamp.as_str())
                    .bind(tenant.as_str())
                    .fetch_one(at)
                    .await
                    .map_err(|cause| undone(WHAT, cause))?;
                let count: i64 = row.try_get("count").map_err(|cause| undone(WHAT, cause))?;
                u64::try_from(count).map_err(|_| corrupt("devices", "count", count))
            }

            pub(crate) async fn usage(
                at: &mut Conn,
            ) -> Result<Vec<(StampId, Load)>, ReservationsError> {
                let rows = sqlx::query::<Db>(sql::USAGE).fetch_all(at).await;
                let rows = rows.map_err(|cause| undone("read what is booked", cause))?;
                rows.iter()
                    .map(|row| used(row, "read what is booked"))
                    .collect()
            }

            async fn read(
                at: &mut Conn,
                subject: &str,
                what: &'static str,
            ) -> Result<Option<Booking>, ReservationsError> {
                let row = sqlx::query::<Db>(sql::GET)
                    .bind(subject)
                    .fetch_optional(at)
                    .await;
                let row = row.map_err(|cause| undone(what, cause))?;
                row.map(|row| booking(&row, what)).transpose()
            }

            /// `place`: where it is from now on, and what it leaves. `None`: somebody was first.
            async fn change(
                at: &mut Conn,
                now: &Booking,
                place: (&StampId, Option<&StampId>),
                now_us: i64,
                what: &'static str,
            ) -> Result<Option<Booking>, ReservationsError> {
                let row = sqlx::query::<Db>(sql::CHANGE)
                    .bind(&now.subject)
                    .bind(now.version)
                    .bind(place.0.as_str())
                    .bind(place.1.map(StampId::as_str))
                    .bind(now_us)
                    .fetch_optional(at)
                    .await
                    .map_err(|cause| undone(what, cause))?;
                row.map(|row| booking(&row, what)).transpose()
            }

            /// Takes capacity; the axis that is full, and what is used there, when it cannot.
            async fn take(
                at: &mut Conn,
                stamp: &StampId,
                needs: Load,
                limits: Load,
                what: &'static str,
            ) -> Result<Option<(Axis, u64)>, ReservationsError> {
                if add(at, stamp, needs, limits, what).await? {
                    return Ok(None);
                }
                // It is full, or nobody was booked there before, or somebody was a moment ago.
                let failed = |cause| undone(what, cause);
                let know = sqlx::query::<Db>(sql::KNOW_STAMP).bind(stamp.as_str());
                know.execute(&mut *at).await.map_err(failed)?;
                if add(at, stamp, needs, limits, what).await? {
                    return Ok(None);
                }
                let row = sqlx::query::<Db>(sql::USED)
                    .bind(stamp.as_str())
                    .fetch_one(at)
                    .await;
                let (_, booked) = used(&row.map_err(failed)?, what)?;
                Ok(Some(full_axis(booked, needs, limits)))
            }

            /// Whether there was room.
            async fn add(
                at: &mut Conn,
                stamp: &StampId,
                needs: Load,
                limits: Load,
                what: &'static str,
            ) -> Result<bool, ReservationsError> {
                let mut take = sqlx::query::<Db>(sql::TAKE).bind(stamp.as_str());
                for axis in Axis::ALL {
                    take = take.bind(column(needs[axis]));
                }
                for axis in Axis::ALL {
                    take = take.bind(limit(limits[axis]));
                }
                let taken = take.execute(at).await;
                let taken = taken.map_err(|cause| undone(what, cause))?;
                Ok(taken.rows_affected() == 1)
            }

            async fn give_back(
                at: &mut Conn,
                stamp: &StampId,
                needs: Load,
                what: &'static str,
            ) -> Result<(), ReservationsError> {
                let mut give = sqlx::query::<Db>(sql::GIVE_BACK).bind(stamp.as_str());
                for axis in Axis::ALL {
                    give = give.bind(column(needs[axis]));
                }
                let given = give.execute(at).await;
                given.map(drop).map_err(|cause| undone(what, cause))
            }

            fn booking(row: &$row, what: &'static str) -> Result<Booking, ReservationsError> {
                let failed = |cause| undone(what, cause);
                let subject: String = row.try_get("subject").map_err(failed)?;
                let stamp_of = |name: &'static str, text: String| {
                    StampId::parse(&text).map_err(|_| corrupt(&subject, name, text))
                };
                let tenant: String = row.try_get("tenant").map_err(failed)?;
                let tenant =
                    TenantId::parse(&tenant).map_err(|_| corrupt(&subject, "tenant", tenant))?;
                let stamp = stamp_of("stamp", row.try_get("stamp").map_err(failed)?)?;
                let leaving: Option<String> = row.try_get("leaving").map_err(failed)?;
                let leaving = leaving.map(|text| stamp_of("leaving", text)).transpose()?;
                Ok(Booking {
                    tenant,
                    stamp,
                    leaving,
                    needs: load(row, &subject, what)?,
                    version: row.try_get("version").map_err(failed)?,
                    changed_us: row.try_get("changed_us").map_err(failed)?,
                    subject,
                })
            }

            fn used(row: &$row, what: &'static str) -> Result<(StampId, Load), ReservationsError> {
                let stamp: String = row.try_get("stamp").map_err(|cause| undone(what, cause))?;
                let load = load(row, &stamp, what)?;
                let id = StampId::parse(&stamp).map_err(|_| corrupt(&stamp, "stamp", &stamp))?;
                Ok((id, load))
            }

            fn load(row: &$row, of: &str, what: &'static str) -> Result<Load, ReservationsError> {
                let mut load = Load::ZERO;
                for axis in Axis::ALL {
                    let name = axis_column(axis);
                    let amount: i64 = row.try_get(name).map_err(|cause| undone(what, cause))?;
                    load[axis] = u64::try_from(amount).map_err(|_| corrupt(of, name, amount))?;
                }
                Ok(load)
            }
        }
    };
}

operations!(
    sqlite,
    sqlx::sqlite::SqliteRow,
    sqlx::sqlite::SqliteConnection,
    sqlx::Sqlite,
    "BEGIN IMMEDIATE",
    sql::SQLITE_SCHEMA
);
operations!(
    postgres,
    sqlx::postgres::PgRow,
    sqlx::postgres::PgConnection,
    sqlx::Postgres,
    "BEGIN ISOLATION LEVEL READ COMMITTED",
    sql::POSTGRES_SCHEMA
);
