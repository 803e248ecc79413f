//! The numbered promises of the ingest protocol (docs/adr/0003-table-format-and-marks.md).
//!
//! Each is asserted in tests and, where production can see it break, counted in
//! `stamp_invariant_violations_total{id}`, which alerts at 1.

/// A promise that must hold at every moment, whatever crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// Normally one worker reads a partition. Efficiency only; nothing relies on it.
    OneWorker,
    /// Every row at or below the checkpoint is committed in its table.
    CheckpointBehindMarks,
    /// A gap in sequence numbers is never silent.
    GapRecorded,
    /// Events of a batch ascend by sequence number.
    BatchAscends,
    /// Events read = readings + rejected + quarantined + dropped by mark.
    EveryEventAccounted,
    /// A row is never written twice.
    RowOnce,
    /// A file that no commit names is invisible.
    OrphanInvisible,
    /// Rows and their mark become visible together.
    RowsMoveWithMark,
    /// An unknown result is resolved by reading, never by repeating.
    UnknownIsRead,
    /// Mark H means that all rows up to H are in; batches of a table never overtake.
    MarksInOrder,
    /// A mark or a checkpoint never goes back.
    OnlyForward,
    /// A hard kill and a soft stop differ in speed, never in result.
    StopIsSafe,
    /// A row of a tenant is only ever written below that tenant's root.
    TenantRoot,
}

impl Invariant {
    /// All of them, in order.
    pub const ALL: [Self; 13] = [
        Self::OneWorker,
        Self::CheckpointBehindMarks,
        Self::GapRecorded,
        Self::BatchAscends,
        Self::EveryEventAccounted,
        Self::RowOnce,
        Self::OrphanInvisible,
        Self::RowsMoveWithMark,
        Self::UnknownIsRead,
        Self::MarksInOrder,
        Self::OnlyForward,
        Self::StopIsSafe,
        Self::TenantRoot,
    ];

    /// The stable id used in metrics, logs and documents: `I0` to `I12`.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::OneWorker => "I0",
            Self::CheckpointBehindMarks => "I1",
            Self::GapRecorded => "I2",
            Self::BatchAscends => "I3",
            Self::EveryEventAccounted => "I4",
            Self::RowOnce => "I5",
            Self::OrphanInvisible => "I6",
            Self::RowsMoveWithMark => "I7",
            Self::UnknownIsRead => "I8",
            Self::MarksInOrder => "I9",
            Self::OnlyForward => "I10",
            Self::StopIsSafe => "I11",
            Self::TenantRoot => "I12",
        }
    }
}
