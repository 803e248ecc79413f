//! The 55 faults, what is promised under each, and what of it no test here can show.

/// One line of the matrix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    /// What goes wrong.
    pub(crate) fault: &'static str,
    /// What holds all the same.
    pub(crate) promise: &'static str,
    /// What no test here shows, and why; empty when the tests show all of it.
    pub(crate) untested: &'static str,
}

const fn tested(fault: &'static str, promise: &'static str) -> Scenario {
    Scenario {
        fault,
        promise,
        untested: "",
    }
}

const fn partly(fault: &'static str, promise: &'static str, untested: &'static str) -> Scenario {
    Scenario {
        fault,
        promise,
        untested,
    }
}

/// In the order of their numbers, which begin at 1 and never change: tests name them.
pub(crate) const SCENARIOS: &[Scenario] = &[
    tested(
        "killed after events were received, before anything is written",
        "the next start reads them again; totals are equal",
    ),
    tested(
        "killed after a data file was written, before its commit",
        "the file is in no version of the table, so readers never see it; its rows are written once by the next start",
    ),
    tested(
        "killed between the commits of two tables",
        "what the first table has is left out by its mark, the second is completed",
    ),
    tested(
        "killed after every commit, before the checkpoint",
        "everything is read again and left out by the marks; `stamp_duplicates_by_mark_total` says how much",
    ),
    partly(
        "killed while a checkpoint is written",
        "the blob holds the old or the new value, and both are right",
        "That one PUT of a blob is never half done is the store's promise; the kill falls between requests here, as no process can be killed inside the store's.",
    ),
    partly(
        "killed in the middle of a large file's upload",
        "nothing of it is visible; the store forgets unfinished blocks by itself",
        "A data file is one PUT here, at most a flush large, so there are no blocks to be left over.",
    ),
    tested(
        "the reply to a commit is lost",
        "the table is read before anything is repeated; the commit is found and not made twice",
    ),
    tested(
        "a commit is answered with 503 after it was applied",
        "as when the reply is lost",
    ),
    tested(
        "the reply to a checkpoint is lost",
        "the next write meets its own value, reads it and goes on",
    ),
    tested(
        "the hub delivers events again after a reconnect",
        "each is dropped by its position",
    ),
    tested(
        "two owners read one partition at the same time",
        "conflicts are counted, every row is there once",
    ),
    tested(
        "the link is taken by another reader in the middle of a batch",
        "the reader ends; the batch is committed or left out by the marks; nobody claims it back in a storm",
    ),
    tested(
        "a process stops for longer than its ownership lasts, and wakes up",
        "its commit meets the marks of the new owner and adds nothing; it notices and gives way",
    ),
    tested(
        "the ownership blobs cannot be reached, the hub can",
        "everybody keeps what it has and claims nothing; a metric says so",
    ),
    tested(
        "storage answers 503 for minutes",
        "one layer waits with jitter and a budget, the breaker opens, reading stops, memory stays flat; it recovers by itself",
    ),
    tested("storage says Retry-After", "nothing is sent sooner"),
    tested(
        "storage is slow",
        "bytes in flight stay bounded, the age of what is not written is a metric, the service stays ready",
    ),
    tested(
        "a request hangs without an answer",
        "the time limit of the attempt ends it; its outcome is unknown, so the table is read first",
    ),
    tested(
        "storage refuses with 403: the key was changed or the role removed",
        "it is asked seldom, nothing is lost, and it goes on when the right is back",
    ),
    partly(
        "the credential runs out during long work",
        "it is renewed once, on the same connection, and nothing is sent twice",
        "Entra tokens of a store are renewed by the client library and need a real tenant.",
    ),
    partly(
        "the file of a workload identity's token, or another secret, is missing at the start",
        "exit code 3 or 4 and a message that names it",
        "A projected token file needs a cluster: secrets from files and variables are tested.",
    ),
    tested(
        "the hub cannot be reached, by name or by network",
        "the partition is opened again with pauses that grow; the others go on",
    ),
    tested(
        "the store cannot be reached",
        "as a storm of 503; how long the hub still keeps the events is a metric",
    ),
    tested(
        "the disk of a local folder is full",
        "rows stay at the source, nothing ends in a loop of crashes, and it goes on when there is room",
    ),
    partly(
        "memory runs short",
        "flushes come earlier, then reading stops; the bound holds",
        "A kill by the kernel is a kill: see the first line.",
    ),
    tested(
        "an event makes the decoder panic",
        "it is a row of `rejected` with its reason, the service goes on",
    ),
    tested(
        "an event is too large, or a compressed body grows without end",
        "the size is checked before it is decoded; `rejected` says `too_large`",
    ),
    tested(
        "the hub's properties of an event are missing or malformed",
        "the event is kept with a reason, or has no position and is counted; nothing panics",
    ),
    tested(
        "invalid UTF-8, NaN, deep nesting, keys twice",
        "each has one defined result",
    ),
    tested(
        "a schema gets a new optional field",
        "the table gets the column; older files read as null",
    ),
    tested(
        "a field changes its type",
        "nothing is turned into another type silently: the change is refused, or the event is rejected",
    ),
    tested(
        "the tenant is unknown, or the device is in no directory",
        "a row of the stamp's `quarantine`, counted",
    ),
    tested(
        "a tenant sends fifty times its quota",
        "what is over it goes to `quarantine`; the lag of the others stays within twice that of a quiet run",
    ),
    partly(
        "a stamp is over its capacity",
        "its lag is a metric, placement sends no new devices there",
        "Scaling out on the lag is the orchestrator's; the metric it reads is tested.",
    ),
    tested(
        "one partition is hot",
        "its lag is its own, the others are not held up",
    ),
    tested(
        "a device's clock is a year ahead or behind",
        "the row is kept with `clock_suspect` and takes the hub's time; nothing else moves",
    ),
    tested(
        "the clock of the service's host jumps by an hour",
        "timers do not follow it, rows take no time from it, and ownership is judged by versions that change",
    ),
    tested(
        "an event is days late",
        "it is another partial of the right window, marked late and counted",
    ),
    partly(
        "a partition is idle for hours",
        "its rows are flushed by age; nothing waits for another event",
        "There is no watermark that could stand still: late is a property of each event.",
    ),
    tested(
        "SIGTERM in the middle of a window",
        "flush, checkpoint, exit code 0 within the time to drain; the next process goes on",
    ),
    tested(
        "SIGTERM while storage cannot be reached",
        "it ends at the end of the time to drain; nothing half-written is visible",
    ),
    tested(
        "the checkpoint is corrupt",
        "it is set aside, not guessed from: reading starts by the lowest mark; a metric says so",
    ),
    tested(
        "the checkpoint is gone",
        "reading starts by the lowest mark, never silently at the latest event",
    ),
    tested(
        "the checkpoint is ahead of the hub, which was made again",
        "noticed by the hub's creation time; the new hub is read from its beginning under marks of its own",
    ),
    tested(
        "an operator sets the checkpoint back",
        "everything is left out by the marks, nothing is doubled",
    ),
    tested(
        "retention took events that were never read",
        "a row of `gaps` with the range, a metric, and the configured choice: go on or stop",
    ),
    tested(
        "an entry of a table's log is missing or unreadable",
        "this table takes no rows, the tenants of other tables go on; the error names the table",
    ),
    tested(
        "another writer appends to a table, or rewrites its files",
        "the commit meets a conflict and starts over; the marks stay",
    ),
    partly(
        "another writer removes files that are still needed",
        "readers and `verify` name the file that is missing",
        "How long removed files must be kept is the rule of whoever vacuums: docs/tables.md.",
    ),
    partly(
        "compaction races with an append",
        "one of them starts over; the number of rows is the same",
        "The service does not compact. What is tested is another engine that does.",
    ),
    tested(
        "a device is moved from test to production while it sends",
        "no gap and no overlap by the device's own numbers",
    ),
    tested(
        "the provisioning webhook is slow, down, or called twice",
        "the same answer for the same device, capacity is not booked twice",
    ),
    partly(
        "an invalid configuration is deployed",
        "it is refused with the key that is wrong; a running process keeps what it has",
        "The consumer reads its configuration once, at the start; the provisioner reads its catalogue again.",
    ),
    tested(
        "two versions of the service write the same control blobs",
        "each reads what the other wrote, and so do the SDKs",
    ),
    partly(
        "hours of random faults, then an independent recount",
        "the totals are the producer's, for every tenant and window",
        "The suite's run is short; [reliability](reliability.md) has the figures of a longer one.",
    ),
];
