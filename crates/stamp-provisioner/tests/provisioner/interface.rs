//! Paths, keys, headers and limits.

use crate::support::{KEY, World, catalogue, production, registration};

fn world() -> World {
    World::sqlite(&catalogue(&[production("eu-1", 60)], ""))
}

#[tokio::test]
async fn nobody_without_a_key_is_let_in_and_nothing_is_booked_for_them() {
    let world = world();
    let running = world.start("").await;
    let body = registration("press-1", &["eu-1"]).to_string();
    for (target, headers) in [
        ("/v1/allocate", ""),
        ("/v1/allocate?code=", ""),
        ("/v1/allocate?code=a-key-of-other-tests", ""),
        ("/v1/allocate", "x-functions-key: a-key\r\n"),
        (
            "/v1/allocate",
            "authorization: Bearer a-key-of-these-tests\r\n",
        ),
    ] {
        let answer = running.ask("POST", target, headers, &body).await;
        assert_eq!(
            (answer.status, answer.code()),
            (401, "unauthorized"),
            "{target} {headers}"
        );
        assert!(answer.header("www-authenticate").is_some());
    }
    assert_eq!(world.booked("eu-1").await, 0);
    let header = format!("x-functions-key: {KEY}\r\n");
    let answer = running.ask("POST", "/v1/allocate", &header, &body).await;
    assert_eq!(answer.stamp(), "eu-1");
    // New keys count at once, old ones no more.
    std::fs::write(world.path("keys"), "the-key-of-tomorrow").unwrap();
    running.reload.notify_one();
    running
        .until(async || {
            running
                .ask("POST", "/v1/allocate", &header, &body)
                .await
                .status
                == 401
        })
        .await;
    let header = "x-functions-key: the-key-of-tomorrow\r\n";
    assert_eq!(
        running
            .ask("POST", "/v1/allocate", header, &body)
            .await
            .status,
        200
    );
    running.stop().await;
}

#[tokio::test]
async fn a_look_up_can_be_kept_and_asked_for_again_by_its_tag() {
    let world = world();
    let running = world.start("http.cache-max = \"45s\"\n").await;
    let missing = running.look_up("/v1/tenants/contoso/stamp", "").await;
    assert_eq!((missing.status, missing.code()), (404, "not-placed"));
    running.allocate(&registration("press-1", &["eu-1"])).await;

    for target in ["/v1/tenants/contoso/stamp", "/v1/devices/press-1/stamp"] {
        let first = running.look_up(target, "").await;
        assert_eq!(first.status, 200);
        assert_eq!(first.body["iotHub"], "eu-1.azure-devices.net");
        assert_eq!(
            first.body["eventHub"]["namespace"],
            "eu-1.servicebus.windows.net"
        );
        assert_eq!(first.header("cache-control"), Some("private, max-age=45"));
        let tag = first.header("etag").unwrap();
        let same = running
            .look_up(target, &format!("if-none-match: \"x\", {tag}\r\n"))
            .await;
        assert_eq!((same.status, same.header("etag")), (304, Some(tag)));
        let other = running.look_up(target, "if-none-match: \"x\"\r\n").await;
        assert_eq!(other.body, first.body);
    }
    for (target, status, code) in [
        ("/v1/tenants/nobody/stamp", 404, "not-placed"),
        ("/v1/tenants/No%20Body/stamp", 400, "bad-request"),
        (
            "/v1/tenants/contoso/stamp?environment=moon",
            400,
            "bad-request",
        ),
        (
            "/v1/tenants/contoso/stamp?environment=test",
            404,
            "not-placed",
        ),
        ("/v1/devices/press-2/stamp", 404, "not-placed"),
        ("/v1/devices/%ff/stamp", 400, "bad-request"),
        ("/v1/devices/a%2Fb/stamp", 400, "bad-request"),
        ("/v1/tenants", 404, "not-found"),
    ] {
        let answer = running.look_up(target, "").await;
        assert_eq!((answer.status, answer.code()), (status, code), "{target}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_wrong_method_and_a_body_over_the_limit_are_refused_with_what_is_allowed() {
    let world = world();
    let running = world.start("http.body-max = \"2KiB\"\n").await;
    for (method, target, allowed) in [
        ("GET", "/v1/allocate", "POST"),
        ("POST", "/v1/tenants/contoso/stamp", "GET, HEAD"),
        ("DELETE", "/openapi.json", "GET, HEAD"),
    ] {
        let answer = running.ask(method, target, "", "").await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some(allowed)),
            "{target}"
        );
    }
    let mut body = registration("press-1", &["eu-1"]);
    body["deviceRuntimeContext"]["payload"] = "x".repeat(4_000).into();
    let answer = running.allocate(&body).await;
    assert_eq!((answer.status, answer.code()), (413, "too-large"));
    let description = running.ask("GET", "/openapi.json", "", "").await;
    assert_eq!(
        (description.status, &description.body["openapi"]),
        (200, &"3.0.3".into())
    );
    running.stop().await;
}
