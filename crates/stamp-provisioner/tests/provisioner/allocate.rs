//! One provisioner, its database there.

use serde_json::{Value, json};
use stamp_placement::Axis;

use crate::support::{Answer, StampOf, World, again, catalogue, hub, production, registration};

const TWO: [StampOf<'static>; 2] = [production("eu-1", 100), production("eu-2", 100)];

/// Calls and answers as they go over the wire, in the spellings of the published contract.
#[tokio::test]
async fn golden_calls_get_golden_answers() {
    for world in World::both(&catalogue(&[production("weu-1", 100)], "")) {
        let running = world.start("").await;
        let golden: Value = serde_json::from_str(include_str!("../golden/allocate.json")).unwrap();
        for case in golden.as_array().unwrap() {
            let answer = running.allocate(&case["call"]).await;
            let name = &case["name"];
            assert_eq!(
                answer.status,
                case["status"].as_u64().unwrap() as u16,
                "{name}"
            );
            assert_eq!(answer.body, case["answer"], "{name}");
            assert_eq!(
                answer.header("content-type"),
                Some("application/json"),
                "{name}"
            );
        }
        running.stop().await;
    }
}

#[tokio::test]
async fn a_device_keeps_its_stamp_and_is_booked_once_with_its_tenant() {
    for world in World::both(&catalogue(&TWO, "expected = { events-per-second = 7 }")) {
        let running = world.start("").await;
        let body = registration("press-1", &["eu-1", "eu-2"]);
        let first = running.allocate(&body).await;
        let stamp = first.stamp().to_owned();
        assert_eq!((first.origin(), first.status), ("booked", 200));
        let other = if stamp == "eu-1" { "eu-2" } else { "eu-1" };

        for body in [
            body.clone(),
            again("press-1", &["eu-1", "eu-2"], &stamp),
            // DPS may be wrong about where it is; the booking counts.
            again("press-1", &["eu-2", "eu-1"], other),
        ] {
            let answer = running.allocate(&body).await;
            assert_eq!((answer.stamp(), answer.origin()), (stamp.as_str(), "kept"));
        }
        // The next device of the tenant follows it.
        let second = running
            .allocate(&registration("press-2", &["eu-2", "eu-1"]))
            .await;
        assert_eq!(second.stamp(), stamp);
        let load = world.load(&stamp).await;
        let axes = [Axis::Devices, Axis::Tenants, Axis::EventsPerSecond];
        assert_eq!(axes.map(|axis| load[axis]), [2, 1, 7]);
        running.stop().await;
    }
}

#[tokio::test]
async fn a_refusal_has_a_status_and_a_stable_code() {
    let stamps = [
        production("eu-1", 1),
        StampOf {
            geography: "asia",
            ..production("asia-1", 9)
        },
    ];
    let world = World::sqlite(&catalogue(&stamps, ""));
    let running = world.start("").await;
    let with_tag = |device: &str, tenant: &str| {
        let mut body = registration(device, &["eu-1"]);
        body["enrollmentGroup"]["initialTwin"] = json!({"tags": {"tenant": tenant}});
        body
    };
    assert_eq!(
        running
            .allocate(&registration("press-1", &["eu-1"]))
            .await
            .stamp(),
        "eu-1"
    );

    for (body, status, code) in [
        (json!([]), 400, "bad-request"),
        (registration("nobody-1", &["eu-1"]), 403, "unknown-tenant"),
        (with_tag("nobody-1", "adventure"), 403, "unknown-tenant"),
        (with_tag("press-9", "fabrikam"), 403, "tenant-mismatch"),
        (
            registration("truck-1", &["eu-1", "asia-1"]),
            403,
            "residency",
        ),
        (registration("oven-1", &["asia-1"]), 403, "residency"),
        (
            registration("press-9", &["elsewhere"]),
            409,
            "no-linked-stamp",
        ),
        (registration("press-9", &["asia-1"]), 403, "residency"),
        (
            registration("press-9", &["asia-1", "elsewhere"]),
            409,
            "home-not-linked",
        ),
        (registration("press-9", &["eu-1"]), 409, "no-capacity"),
    ] {
        let answer = running.allocate(&body).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{body}");
        assert!(!answer.body["message"].as_str().unwrap().is_empty());
    }
    // Refused is not booked.
    assert_eq!(world.booked("eu-1").await, 1);
    let count = r#"stamp_provision_requests_total{outcome="no-capacity",route="allocate""#;
    assert!((running.metric(count) - 1.0).abs() < f64::EPSILON);
    running.stop().await;
}

#[tokio::test]
async fn the_enrolment_says_whose_device_it_is_where_the_catalogue_does_not() {
    let world = World::sqlite(&catalogue(&TWO, ""));
    let running = world.start("").await;
    let mut body = registration("sensor-1", &["eu-1"]);
    body["enrollmentGroup"]["initialTwin"] = json!({"tags": {"tenant": "fabrikam", "site": 7}});
    // What the device says of itself is not looked at.
    body["deviceRuntimeContext"]["payload"] = json!({"tenant": "contoso"});
    let answer = running.allocate(&body).await;
    assert_eq!(
        answer.body["initialTwin"]["tags"],
        json!({"tenant": "fabrikam", "site": 7, "stamp": "eu-1"})
    );
    running.stop().await;
}

/// Test to production: the operator links the enrolment to another hub, and the device comes again.
#[tokio::test]
async fn a_device_moves_with_its_enrolment_and_takes_both_stamps_until_it_has_arrived() {
    let stamps = [
        StampOf {
            environment: "test",
            ..production("try-1", 10)
        },
        production("eu-1", 10),
    ];
    for world in World::both(&catalogue(&stamps, "")) {
        let running = world.start("").await;
        let both = async || [world.booked("try-1").await, world.booked("eu-1").await];
        let first = running.allocate(&registration("press-1", &["try-1"])).await;
        assert_eq!((first.stamp(), both().await), ("try-1", [1, 0]));

        let moved = running
            .allocate(&again("press-1", &["eu-1"], "try-1"))
            .await;
        assert_eq!((moved.stamp(), moved.origin()), ("eu-1", "moved"));
        assert_eq!(both().await, [1, 1]);
        let seen = running.look_up("/v1/devices/press-1/stamp", "").await;
        assert_eq!(
            (&seen.body["stamp"], &seen.body["leaving"]),
            (&json!("eu-1"), &json!("try-1"))
        );

        // Back before it has arrived, and there again.
        let back = running
            .allocate(&again("press-1", &["try-1"], "try-1"))
            .await;
        assert_eq!((back.stamp(), both().await), ("try-1", [1, 0]));
        let moved = running
            .allocate(&again("press-1", &["eu-1"], "try-1"))
            .await;
        assert_eq!((moved.stamp(), both().await), ("eu-1", [1, 1]));

        let arrived = running.allocate(&again("press-1", &["eu-1"], "eu-1")).await;
        assert_eq!((arrived.stamp(), arrived.origin()), ("eu-1", "kept"));
        assert_eq!(both().await, [0, 1]);
        running.stop().await;
    }
}

/// A move of the operator's: the enrolment names one hub, wherever the tenant is or should be.
#[tokio::test]
async fn the_only_hub_of_an_enrolment_is_answered_and_the_booking_follows() {
    let stamps = [
        production("eu-1", 10),
        production("eu-2", 1),
        StampOf {
            geography: "asia",
            ..production("asia-1", 9)
        },
    ];
    for world in World::both(&catalogue(&stamps, "stamps = [\"eu-1\"]")) {
        let running = world.start("").await;
        let both = async || [world.booked("eu-1").await, world.booked("eu-2").await];
        let all = ["eu-1", "eu-2"];
        let first = running.allocate(&registration("press-1", &all)).await;
        assert_eq!(first.stamp(), "eu-1");

        let moved = running.allocate(&again("press-1", &["eu-2"], "eu-1")).await;
        assert_eq!((moved.stamp(), moved.origin()), ("eu-2", "moved"));
        assert_eq!(both().await, [1, 1]);
        // The stamp is full with it, and it stays.
        for _ in 0..2 {
            let arrived = running.allocate(&again("press-1", &["eu-2"], "eu-2")).await;
            assert_eq!((arrived.stamp(), arrived.origin()), ("eu-2", "kept"));
            assert_eq!(both().await, [0, 1]);
        }
        let home = running.look_up("/v1/tenants/contoso/stamp", "").await;
        assert_eq!(home.body["stamp"], "eu-1");

        // Room and residency are not the operator's to overrule.
        for (stamp, status, code) in [("eu-2", 409, "no-capacity"), ("asia-1", 403, "residency")] {
            let refused = running.allocate(&registration("press-2", &[stamp])).await;
            assert_eq!((refused.status, refused.code()), (status, code));
        }
        // Let go again, it goes where its tenant is.
        let back = running.allocate(&again("press-1", &all, "eu-2")).await;
        assert_eq!((back.stamp(), back.origin()), ("eu-1", "moved"));
        running.stop().await;
    }
}

#[tokio::test]
async fn the_only_hub_of_an_enrolment_is_answered_where_its_tag_names_another_environment() {
    let stamps = [
        StampOf {
            environment: "test",
            ..production("try-1", 10)
        },
        production("eu-1", 10),
    ];
    let world = World::sqlite(&catalogue(&stamps, ""));
    let running = world.start("").await;
    let tagged = |mut body: Value| {
        body["enrollmentGroup"]["initialTwin"] = json!({"tags": {"environment": "test"}});
        body
    };
    let first = registration("press-1", &["try-1", "eu-1"]);
    assert_eq!(running.allocate(&tagged(first)).await.stamp(), "try-1");
    let moved = again("press-1", &["eu-1"], "try-1");
    assert_eq!(running.allocate(&tagged(moved)).await.stamp(), "eu-1");
    running.stop().await;
}

/// Else it would be at home on a stamp that takes none of its devices.
#[tokio::test]
async fn a_tenant_is_not_booked_where_its_first_device_has_no_room() {
    let world = World::sqlite(&catalogue(
        &[production("eu-1", 1), production("eu-2", 1)],
        "",
    ));
    let running = world.start("").await;
    let first = running.allocate(&registration("press-1", &["eu-1"])).await;
    assert_eq!(first.stamp(), "eu-1");
    let refused = running.allocate(&registration("oven-1", &["eu-1"])).await;
    assert_eq!(refused.code(), "no-capacity");
    assert_eq!(world.load("eu-1").await[Axis::Tenants], 1);
    let both = ["eu-1", "eu-2"];
    let placed = running.allocate(&registration("oven-1", &both)).await;
    assert_eq!(placed.stamp(), "eu-2");
    running.stop().await;
}

#[tokio::test]
async fn a_device_that_was_given_to_another_tenant_is_that_tenants_in_every_answer() {
    let text = catalogue(&TWO, "stamps = [\"eu-1\"]");
    for world in World::both(&text) {
        let running = world.start("").await;
        let linked = ["eu-1", "eu-2"];
        let ask = registration("press-1", &linked);
        assert_eq!(running.allocate(&ask).await.stamp(), "eu-1");

        world.publish(
            &text
                .replace("press-*", "pump-*")
                .replace("oven-*", "press-*"),
        );
        running.reload.notify_one();
        running
            .until(async || running.metric("stamp_catalogue_reloads_total{outcome=\"taken\"") > 0.0)
            .await;
        let answer = running.allocate(&ask).await;
        assert_eq!(answer.body["initialTwin"]["tags"]["tenant"], "fabrikam");
        let seen = running.look_up("/v1/devices/press-1/stamp", "").await;
        assert_eq!(seen.body["tenant"], "fabrikam");
        assert_eq!(seen.body["stamp"], answer.stamp());
        running.stop().await;
    }
}

#[tokio::test]
async fn a_tenant_that_the_catalogue_takes_elsewhere_takes_its_devices_along() {
    let world = World::sqlite(&catalogue(&TWO, "stamps = [\"eu-1\"]"));
    let running = world.start("").await;
    let linked = ["eu-1", "eu-2"];
    assert_eq!(
        running
            .allocate(&registration("press-1", &linked))
            .await
            .stamp(),
        "eu-1"
    );

    world.publish(&catalogue(&TWO, "stamps = [\"eu-2\"]"));
    running.reload.notify_one();
    running
        .until(async || running.metric("stamp_catalogue_reloads_total{outcome=\"taken\"") > 0.0)
        .await;

    let moved: Answer = running.allocate(&again("press-1", &linked, "eu-1")).await;
    assert_eq!((moved.stamp(), moved.origin()), ("eu-2", "moved"));
    assert_eq!(moved.body["iotHubHostName"], hub("eu-2"));
    let home = running.look_up("/v1/tenants/contoso/stamp", "").await;
    assert_eq!(
        (&home.body["stamp"], &home.body["leaving"]),
        (&json!("eu-2"), &json!("eu-1"))
    );
    running.stop().await;
}
