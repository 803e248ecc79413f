//! What every [`EventHub`](stamp_eventhubs::EventHub) promises, run on the hub in memory, and over
//! AMQP against the emulator by our own receiver and by the engine that it is checked against.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod peers;
mod promises;

/// Runs every promise on one peer.
macro_rules! conformance {
    ($peer:ident, $start:path) => {
        conformance!($peer, $start;
            events_come_in_order_with_everything_they_carry,
            an_event_without_anything_is_an_event,
            an_empty_wait_brings_an_empty_batch,
            a_batch_stops_at_the_limit_of_events,
            a_batch_stops_at_the_limit_of_bytes_and_one_event_always_fits,
            reading_resumes_after_a_sequence_number,
            reading_from_the_latest_sees_only_what_comes_after,
            reading_from_a_time_begins_at_its_first_event,
            a_position_after_the_end_is_refused,
            retention_shows_as_a_gap,
            a_higher_or_equal_owner_level_takes_the_partition,
            a_lower_owner_level_is_refused,
            the_sixth_reader_without_a_level_is_refused,
            an_unknown_partition_is_named,
            partition_properties_follow_the_events,
            a_hub_made_again_has_another_identity_and_starts_at_zero,
            a_large_message_comes_whole,
            a_dropped_pull_loses_nothing,
            partitions_are_read_side_by_side,
        );
    };
    ($peer:ident, $start:path; $($promise:ident,)*) => {
        mod $peer {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() {
                    super::promises::$promise($start().await).await;
                }
            )*
        }
    };
}

conformance!(memory, crate::peers::Memory::start);
conformance!(amqp, crate::peers::Amqp::start);
conformance!(amqp_engine, crate::peers::AmqpEngine::start);
