//! A catalogue that changes while the provisioner runs.

use crate::support::{World, catalogue, production, registration};

/// Fault scenario 53.
#[tokio::test]
async fn a_bad_catalogue_is_refused_and_the_one_before_stays_in_force() {
    let world = World::sqlite(&catalogue(&[production("eu-1", 60)], ""));
    let running = world.start("").await;
    assert_eq!(
        running
            .allocate(&registration("press-1", &["eu-1"]))
            .await
            .stamp(),
        "eu-1"
    );
    let one = |outcome: &str| {
        let series = format!("stamp_catalogue_reloads_total{{outcome=\"{outcome}\"");
        running.metric(&series)
    };

    // Noticed by itself, without a signal.
    for (text, refused) in [
        ("stamps = 7", 1.0),
        ("version = 1\n[[stamps]]\n", 2.0),
        ("", 3.0),
    ] {
        world.publish(text);
        running.until(async || one("refused") >= refused).await;
        assert!(running.metric("stamp_catalogue_current").abs() < f64::EPSILON);
        assert_eq!(
            running
                .allocate(&registration("press-2", &["eu-1"]))
                .await
                .stamp(),
            "eu-1"
        );
    }
    let refused = running.allocate(&registration("press-3", &["eu-2"])).await;
    assert_eq!(refused.code(), "no-linked-stamp");

    world.publish(&catalogue(
        &[production("eu-1", 60), production("eu-2", 60)],
        "",
    ));
    running.until(async || one("taken") >= 1.0).await;
    assert!((running.metric("stamp_catalogue_current") - 1.0).abs() < f64::EPSILON);
    assert_eq!(
        running
            .allocate(&registration("oven-1", &["eu-2"]))
            .await
            .stamp(),
        "eu-2"
    );
    running.stop().await;
}
