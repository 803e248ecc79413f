//! What to do about each line.

/// By message.
pub(super) const ADVICE: &[(&str, &str)] = &[
    // stamp-consumer
    (
        "a worker ended, stopping the others",
        "The error says why; the process ends and starts again at the checkpoint. If it comes back: [process-down](operations/process-down.md).",
    ),
    (
        "ownership cannot be read: what is held is kept, nothing is claimed",
        "Look at the stamp's store: [ownership-failing](operations/ownership-failing.md).",
    ),
    (
        "ownership cannot be written",
        "Look at the stamp's store: [ownership-failing](operations/ownership-failing.md).",
    ),
    (
        "not released, it will expire",
        "Nothing: another replica takes the partition after `expire-after`.",
    ),
    (
        "not everything was released, the rest will expire",
        "Nothing: other replicas take the partitions after `expire-after`.",
    ),
    (
        "rollups were behind their readings, rolled forward",
        "Nothing: an earlier process ended between the two tables, and this start has made up for it.",
    ),
    (
        "the hub gave the partition to another reader",
        "Nothing when replicas share the partitions. Else somebody else reads this consumer group: [partition-unowned](operations/partition-unowned.md).",
    ),
    (
        "the checkpoint stays behind for now",
        "Nothing at once: a start would read more again. If it stays, look at the stamp's store.",
    ),
    (
        "marks cannot be read",
        "Look at the tenant's store; nothing of the tenant is written until it answers: [tenant-backlog](operations/tenant-backlog.md).",
    ),
    (
        "the checkpoint is of another hub of this name, it is set aside",
        "Nothing if the hub was made again on purpose: [checkpoint-unusable](operations/checkpoint-unusable.md).",
    ),
    (
        "the checkpoint is not readable, it is set aside",
        "Find out who wrote it: [checkpoint-unusable](operations/checkpoint-unusable.md).",
    ),
    (
        "no usable checkpoint but marks: reading from the oldest event",
        "Nothing: what is in the tables already is passed over. Lag is high until it has caught up.",
    ),
    (
        "partition paused before its start is known",
        "The error says whether the hub or a store is away: [partition-stuck](operations/partition-stuck.md).",
    ),
    (
        "flush given up, its rows are kept",
        "The error says what the store said; the flush is tried again: [commits-failing](operations/commits-failing.md).",
    ),
    (
        "the receiver broke, opening another",
        "Nothing: links end now and then. Many in a minute: look at the hub's health.",
    ),
    (
        "partition paused",
        "Retries were given up for now and go on later: [partition-stuck](operations/partition-stuck.md).",
    ),
    (
        "not everything was flushed",
        "Nothing is lost, the rest is read again at the next start. The error is a fault of the program: report it.",
    ),
    (
        "time to drain is over, the rest is read again at the next start",
        "Nothing is lost. If it comes at every stop, raise `drain-max` and the orchestrator's grace period.",
    ),
    (
        "the decoder panicked, the event is rejected: please report it",
        "Report it with the event, which is in `rejected`: [decoder-panic](operations/decoder-panic.md).",
    ),
    (
        "the hub lost events that were never read",
        "Data is lost: [gap](operations/gap.md).",
    ),
    (
        "the partition is another owner's, what overflowed here is left to it",
        "Nothing: the new owner reads it again.",
    ),
    (
        "the tables of some tenants do not answer, their events are held",
        "Look at these tenants' stores: [tenant-backlog](operations/tenant-backlog.md).",
    ),
    (
        "what the tables have is not known, events are held",
        "Look at the tenant's store: [tenant-backlog](operations/tenant-backlog.md).",
    ),
    // stamp-http
    (
        "a connection was not accepted",
        "Look at the limit of open files and at who connects so often.",
    ),
    (
        "a connection's task ended",
        "A fault of the program: report it.",
    ),
    // stamp-lake
    (
        "log checkpoint failed, loading gets slower until one succeeds",
        "Nothing at once: it is tried again a hundred commits later.",
    ),
    // stamp-mover
    ("a question panicked", "A fault of the program: report it."),
    (
        "cannot look into the tables",
        "Look at the stamp's store and its key in `services.toml`; devices are not seen until it answers: [moving](operations/moving.md).",
    ),
    (
        "an order never became a move: it is taken away",
        "Nothing: the process ended between the order and the move. Whoever gave the order got no answer and gives it again.",
    ),
    (
        "a report is made again",
        "Nothing, unless it comes all the time: then the error says which hub or store does not answer.",
    ),
    (
        "no TLS: keys travel in clear",
        "Set `tls`, or see that a proxy on the same machine ends TLS.",
    ),
    (
        "the task of a move ended",
        "A fault of the program: report it. The move goes on when the service starts again.",
    ),
    // stamp-provisioner
    (
        "the reserve's journal cannot be written",
        "Look at the disk of the state folder: devices that are new are refused while the database is away: [provision-reserve](operations/provision-reserve.md).",
    ),
    (
        "a place was given from the reserve",
        "Bring the database back: [provision-database](operations/provision-database.md).",
    ),
    (
        "the database of reservations is away",
        "Bring it back: [provision-database](operations/provision-database.md).",
    ),
    (
        "a place from the reserve does not fit",
        "The stamp is fuller than its limit: [capacity](operations/capacity.md).",
    ),
    (
        "the reserve's journal was not cleared",
        "Look at the disk of the state folder. Booking the same again does nothing.",
    ),
    (
        "no TLS: keys travel in clear, and DPS calls only what stands before this",
        "Set `tls`, or see that a proxy on the same machine ends TLS.",
    ),
    (
        "the keys before stay in force",
        "The error names the file: correct it.",
    ),
    (
        "the certificates before stay in use",
        "The error names the file: correct it before the certificate in use ends.",
    ),
    (
        "the catalogue has an error",
        "Correct what it names: [catalogue-refused](operations/catalogue-refused.md).",
    ),
    (
        "the catalogue before stays in force",
        "Correct what the lines before it name: [catalogue-refused](operations/catalogue-refused.md).",
    ),
    (
        "the catalogue has a warning",
        "`stampworks fleet validate` says the same; decide whether it is meant.",
    ),
    (
        "waiting for the database of reservations",
        "Start it, or correct its address: [provision-database](operations/provision-database.md).",
    ),
    // stamp-telemetry
    ("encode metrics", "A fault of the program: report it."),
    (
        "attempt failed",
        "Nothing: it is tried again, within its bounds. The error says what the peer said.",
    ),
    (
        "breaker not closed",
        "The peer fails for long: [breaker-open](operations/breaker-open.md).",
    ),
    (
        "nested retry",
        "A fault of the program: [nested-retry](operations/nested-retry.md).",
    ),
];
