//! The store does what it is asked and the answer is lost, torn or wrong.

use crate::stamp::{EAGER, SOON, Stamp, until};
use stamp_interop::{Answer, Fault, Rule};

/// Every request of one kind loses its answer for a while, and then everything is there once.
async fn lost(fault: Fault, path: &str, times: u64) -> f64 {
    let mut stamp = Stamp::new(2).await;
    let service = stamp.start("s-1", &format!("[consumer]\n{EAGER}{SOON}"));
    stamp.publish(200);
    stamp.until_settled().await;

    stamp
        .store
        .inject(Rule::new(fault).method("PUT").path(path).times(times));
    while stamp.store.broken() < times {
        let before = stamp.store.broken();
        stamp.publish(20);
        until("a reply is lost", async || stamp.store.broken() > before).await;
    }
    stamp.until_settled().await;

    let found = service.metric("stamp_commits_total", &[("outcome", "found")]);
    service.stop();
    stamp.assert_complete().await;
    stamp.emulator.stop().await;
    found
}

/// Fault scenario 7.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_reply_is_lost_on_the_wire_is_found_and_not_made_again() {
    let found = lost(Fault::LoseReply, "/_delta_log/", 6).await;
    assert!(found > 0.0, "no commit was found by reading back");
}

/// Fault scenario 7.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_reply_is_torn_on_the_wire_is_found_and_not_made_again() {
    let found = lost(Fault::TearReply, "/_delta_log/", 6).await;
    assert!(found > 0.0, "no commit was found by reading back");
}

/// Fault scenario 8.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_answered_busy_after_it_was_made_is_found_and_not_made_again() {
    let found = lost(Fault::AnswerAfter(Answer::busy()), "/_delta_log/", 6).await;
    assert!(found > 0.0, "no commit was found by reading back");
}

/// Fault scenario 9.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_whose_reply_is_lost_on_the_wire_is_read_and_goes_on() {
    lost(Fault::LoseReply, "/checkpoint/", 4).await;
}
