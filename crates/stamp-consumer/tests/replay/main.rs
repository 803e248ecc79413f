//! Rejected and quarantined events come back once, whatever happens to the replay.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod answers;
mod disturbed;
mod marks;
mod overtaken;
mod support;
