//! Where a partition starts.

use crate::support::{Stamp, hub, once, partition, reading};
use crate::{P0, assert_complete, publish};

/// Fault scenario 43.
#[tokio::test(start_paused = true)]
async fn a_lost_checkpoint_means_the_oldest_event_even_where_new_partitions_start_at_the_latest() {
    let hub = hub(1);
    publish(&hub, 0..40);
    let mut stamp = Stamp::new(&hub);
    let running = stamp.start().await;
    running.until_settled(39).await;
    running.stop().await.unwrap();
    publish(&hub, 40..60);
    stamp.checkpoints().set_aside(partition(P0)).await.unwrap();

    stamp.config = "start = \"latest\"".into();
    let running = stamp.start().await;
    running.until_settled(59).await;
    running.stop().await.unwrap();

    assert_complete(&stamp, 60).await;
    let lost = stamp
        .metric(r#"stamp_checkpoints_unusable_total{partition="0",reason="lost",stamp="s-1"}"#);
    assert!((lost - 1.0).abs() < 0.1, "{lost}");
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_was_never_read_starts_where_the_configuration_says() {
    let hub = hub(1);
    for _ in 0..10 {
        hub.append(partition(P0), reading("a-2", 1.0));
    }
    let mut stamp = Stamp::new(&hub).with("start = \"latest\"");
    let running = stamp.start().await;
    running.until_read(9).await;
    hub.append(partition(P0), reading("a-2", 1.0));
    running.until_settled(10).await;
    running.stop().await.unwrap();

    assert_eq!(stamp.rows("alpha", "readings").await, once([10]));
    assert_eq!(stamp.gaps().await, []);
}

/// Fault scenario 44.
#[tokio::test(start_paused = true)]
async fn a_hub_that_was_made_again_is_read_from_its_beginning() {
    let hub = hub(1);
    for _ in 0..10 {
        hub.append(partition(P0), reading("a-2", 1.0));
    }
    let mut stamp = Stamp::new(&hub);
    let running = stamp.start().await;
    running.until_settled(9).await;
    running.stop().await.unwrap();

    hub.recreate(2_000);
    for _ in 0..30 {
        hub.append(partition(P0), reading("a-2", 1.0));
    }
    let running = stamp.start().await;
    running.until_settled(29).await;
    running.stop().await.unwrap();

    // Sequence numbers 0 to 9 are there twice: of two hubs.
    let rows = stamp.rows("alpha", "readings").await;
    assert_eq!(rows.values().sum::<u64>(), 40);
    assert_eq!((rows[&(0, 9)], rows[&(0, 10)]), (2, 1));
}
