//! The statements, in the words that SQLite and PostgreSQL share.

/// The tables, made at the start where they are not there. `$name` is the type of a name: names are
/// compared byte by byte, and what a database does by itself differs.
macro_rules! schema {
    ($name:literal, $($first:expr)?) => {
        [
            $($first,)?
            concat!(
                "CREATE TABLE IF NOT EXISTS bookings (
                    subject ", $name, " PRIMARY KEY,
                    tenant ", $name, " NOT NULL,
                    stamp ", $name, " NOT NULL,
                    leaving ", $name, ",
                    devices BIGINT NOT NULL,
                    messages_per_day BIGINT NOT NULL,
                    events_per_second BIGINT NOT NULL,
                    bytes_per_second BIGINT NOT NULL,
                    tenants BIGINT NOT NULL,
                    version BIGINT NOT NULL,
                    changed_us BIGINT NOT NULL
                )"
            ),
            "CREATE INDEX IF NOT EXISTS bookings_by_stamp ON bookings (stamp, subject)",
            "CREATE INDEX IF NOT EXISTS bookings_by_leaving ON bookings (leaving, subject) \
             WHERE leaving IS NOT NULL",
            concat!(
                "CREATE TABLE IF NOT EXISTS usage (
                    stamp ", $name, " PRIMARY KEY,
                    devices BIGINT NOT NULL DEFAULT 0,
                    messages_per_day BIGINT NOT NULL DEFAULT 0,
                    events_per_second BIGINT NOT NULL DEFAULT 0,
                    bytes_per_second BIGINT NOT NULL DEFAULT 0,
                    tenants BIGINT NOT NULL DEFAULT 0
                )"
            ),
        ]
    };
}

pub(crate) const SQLITE_SCHEMA: [&str; 4] = schema!("TEXT",);

/// The lock is held while the schema is made: `CREATE TABLE IF NOT EXISTS` races with itself in
/// PostgreSQL. Its number is any that nobody else uses.
pub(crate) const POSTGRES_SCHEMA: [&str; 5] = schema!(
    "TEXT COLLATE \"C\"",
    "SELECT pg_advisory_xact_lock(7295391114)"
);

macro_rules! booking_columns {
    () => {
        "subject, tenant, stamp, leaving, devices, messages_per_day, events_per_second, \
         bytes_per_second, tenants, version, changed_us"
    };
}

pub(crate) const GET: &str = concat!(
    "SELECT ",
    booking_columns!(),
    " FROM bookings WHERE subject = $1"
);

/// By the stamp it is on or is leaving, in order of the subject.
pub(crate) const LIST: &str = concat!(
    "SELECT ",
    booking_columns!(),
    " FROM bookings WHERE (stamp = $1 OR leaving = $1) AND subject > $2 ORDER BY subject LIMIT $3"
);

/// Subjects of tenants, in order. `;` is the byte after `:`.
pub(crate) const TENANTS: &str = concat!(
    "SELECT ",
    booking_columns!(),
    " FROM bookings WHERE subject > $1 AND subject > 'tenant:' AND subject < 'tenant;' \
     ORDER BY subject LIMIT $2"
);

/// Devices of one tenant, in order; on one stamp, or on any where it is empty. `;` is the byte after
/// `:`. It reads over others' rows: for people, not for registrations.
pub(crate) const DEVICES: &str = concat!(
    "SELECT ",
    booking_columns!(),
    " FROM bookings WHERE tenant = $1 AND ($2 = '' OR stamp = $2 OR leaving = $2) \
     AND subject > $3 AND subject > 'device:' AND subject < 'device;' ORDER BY subject LIMIT $4"
);

pub(crate) const COUNT_DEVICES: &str = "SELECT COUNT(*) AS count FROM bookings \
     WHERE (stamp = $1 OR leaving = $1) AND tenant = $2 AND subject > 'device:' AND subject < 'device;'";

pub(crate) const INSERT: &str = concat!(
    "INSERT INTO bookings (",
    booking_columns!(),
    ") VALUES ($1, $2, $3, NULL, $4, $5, $6, $7, $8, 1, $9) ON CONFLICT (subject) DO NOTHING RETURNING ",
    booking_columns!()
);

pub(crate) const DELETE: &str = concat!(
    "DELETE FROM bookings WHERE subject = $1 AND version = $2 RETURNING ",
    booking_columns!()
);

/// Sets where it is and what it leaves, when it still has the version.
pub(crate) const CHANGE: &str = concat!(
    "UPDATE bookings SET stamp = $3, leaving = $4, version = version + 1, changed_us = $5 \
     WHERE subject = $1 AND version = $2 RETURNING ",
    booking_columns!()
);

/// Sets whose it is, when it still has the version.
pub(crate) const GIVE_TO: &str = concat!(
    "UPDATE bookings SET tenant = $3, version = version + 1, changed_us = $4 \
     WHERE subject = $1 AND version = $2 RETURNING ",
    booking_columns!()
);

pub(crate) const KNOW_STAMP: &str =
    "INSERT INTO usage (stamp) VALUES ($1) ON CONFLICT (stamp) DO NOTHING";

/// Adds, where the sum stays within the limits on every axis that is added to.
pub(crate) const TAKE: &str = "UPDATE usage SET \
     devices = devices + $2, messages_per_day = messages_per_day + $3, \
     events_per_second = events_per_second + $4, bytes_per_second = bytes_per_second + $5, \
     tenants = tenants + $6 \
     WHERE stamp = $1 \
     AND ($2 = 0 OR devices + $2 <= $7) AND ($3 = 0 OR messages_per_day + $3 <= $8) \
     AND ($4 = 0 OR events_per_second + $4 <= $9) AND ($5 = 0 OR bytes_per_second + $5 <= $10) \
     AND ($6 = 0 OR tenants + $6 <= $11)";

pub(crate) const GIVE_BACK: &str = "UPDATE usage SET \
     devices = devices - $2, messages_per_day = messages_per_day - $3, \
     events_per_second = events_per_second - $4, bytes_per_second = bytes_per_second - $5, \
     tenants = tenants - $6 WHERE stamp = $1";

pub(crate) const USED: &str = "SELECT stamp, devices, messages_per_day, events_per_second, \
     bytes_per_second, tenants FROM usage WHERE stamp = $1";

pub(crate) const USAGE: &str = "SELECT stamp, devices, messages_per_day, events_per_second, \
     bytes_per_second, tenants FROM usage ORDER BY stamp";
