//! What a connection can do to a request, and which of the four outcomes it is.

use std::time::Duration;

use stamp_emulator::{Operation, ServiceRefusal};
use stamp_iothub::{
    Device, DeviceRegistry, DeviceStatus, Enrollment, EnrollmentKind, IotHubClient,
    ProvisioningService, ServiceConfig, ServiceError,
};
use stamp_model::DeviceId;
use stamp_resilience::{Classify as _, FailureKind};

use crate::emulated::Emulated;

fn press() -> DeviceId {
    DeviceId::parse("press-7".into()).unwrap()
}

#[tokio::test]
async fn a_lost_reply_is_unknown_for_a_write_and_passes_for_a_read() {
    let emulated = Emulated::start().await;
    let (hub, client) = (emulated.hubs[0].hub(), emulated.hub_client());
    hub.faults().lose_replies(Operation::Registry, 1);
    let record = Device::record_of(&press(), DeviceStatus::Enabled);
    let lost = client.create(&press(), &record).await.unwrap_err();
    assert_eq!(lost.kind(), FailureKind::Unknown, "{lost}");
    assert!(hub.device("press-7").is_some(), "it was done");
    hub.faults().lose_replies(Operation::Registry, 1);
    let lost = client.device(&press()).await.unwrap_err();
    assert_eq!(lost.kind(), FailureKind::Transient, "{lost}");
    assert!(lost.to_string().contains("GET /devices/press-7"), "{lost}");
    // One request on the wire for each call: nothing repeats by itself.
    assert_eq!(hub.faults().seen(Operation::Registry), 2);
    client.device(&press()).await.unwrap();
}

#[tokio::test]
async fn throttling_keeps_its_pause_and_the_services_own_words() {
    let emulated = Emulated::start().await;
    let (hub, client) = (emulated.hubs[0].hub(), emulated.hub_client());
    hub.faults()
        .refuse(Operation::Registry, 1, ServiceRefusal::throttled(Some(7)));
    let error = client.statistics().await.unwrap_err();
    let retry_after = Some(Duration::from_secs(7));
    assert_eq!(error.kind(), FailureKind::Throttled { retry_after });
    let refusal = error.refusal().unwrap();
    assert_eq!((refusal.status, refusal.code), (429, Some(429_001)));
    assert_eq!(refusal.name.as_deref(), Some("ThrottlingException"));
    assert!(refusal.tracking_id.is_some());
    let dps = emulated.dps_client();
    emulated
        .dps
        .faults()
        .refuse(Operation::Enrollment, 2, ServiceRefusal::busy());
    let read = dps
        .enrollment(EnrollmentKind::Individual, "d")
        .await
        .unwrap_err();
    assert_eq!(read.kind(), FailureKind::Transient);
    let write = dps
        .put(&Enrollment::individual("d", None), None)
        .await
        .unwrap_err();
    assert_eq!(
        write.kind(),
        FailureKind::Transient,
        "503 says that it was not begun"
    );
    emulated
        .dps
        .faults()
        .refuse(Operation::Enrollment, 1, ServiceRefusal::internal());
    let write = dps
        .put(&Enrollment::individual("d", None), None)
        .await
        .unwrap_err();
    assert_eq!(write.kind(), FailureKind::Unknown);
    assert_eq!(write.refusal().unwrap().code, Some(500_001));
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_is_not_talked_to() {
    let emulated = Emulated::start().await;
    let other = Emulated::start().await;
    let text = emulated.hubs[0].hub().connection_string();
    let config = ServiceConfig {
        extra_ca_file: Some(other.ca()),
        ..emulated.config("hub", &text)
    };
    let client = IotHubClient::new(&config).unwrap();
    let error = client.statistics().await.unwrap_err();
    assert!(matches!(error, ServiceError::Certificate { .. }), "{error}");
    assert_eq!(error.kind(), FailureKind::Permanent);
}

#[tokio::test]
async fn a_wrong_key_is_permanent_and_a_service_that_is_down_is_not() {
    let emulated = Emulated::start().await;
    let text = emulated.hubs[0].hub().connection_string();
    let wrong =
        text.split("SharedAccessKey=").next().unwrap().to_owned() + "SharedAccessKey=d3Jvbmc=";
    let client = IotHubClient::new(&emulated.config("wrong", &wrong)).unwrap();
    for _ in 0..2 {
        let error = client.statistics().await.unwrap_err();
        assert_eq!(
            error.kind(),
            FailureKind::Permanent,
            "each attempt has a new token: {error}"
        );
        assert!(error.is_auth());
        assert!(!format!("{error:?}").contains("d3Jvbmc"));
    }
    let client = emulated.hub_client();
    client.statistics().await.unwrap();
    let [first, second] = emulated.hubs;
    first.stop().await;
    second.stop().await;
    let error = client.statistics().await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Transient, "{error}");
}

#[tokio::test]
async fn a_token_that_was_kept_too_long_is_replaced_once() {
    let emulated = Emulated::start().await;
    let hub = emulated.hubs[0].hub();
    let client = emulated.hub_client();
    client.statistics().await.unwrap();
    let refusal = ServiceRefusal {
        status: 401,
        error_code: 401_003,
        retry_after_s: None,
        text: "Unauthorized".to_owned(),
    };
    hub.faults().refuse(Operation::Registry, 2, refusal);
    let first = client.statistics().await.unwrap_err();
    assert_eq!(
        first.kind(),
        FailureKind::Transient,
        "the next attempt has a new token"
    );
    let second = client.statistics().await.unwrap_err();
    assert_eq!(second.kind(), FailureKind::Permanent);
    client.statistics().await.unwrap();
}

#[tokio::test]
async fn many_requests_at_once_share_few_connections_and_none_is_lost() {
    let emulated = Emulated::start().await;
    let client = std::sync::Arc::new(emulated.hub_client());
    let mut running = tokio::task::JoinSet::new();
    for number in 0..64 {
        let client = std::sync::Arc::clone(&client);
        running.spawn(async move {
            let id = DeviceId::parse(format!("d-{number}").into()).unwrap();
            client
                .create(&id, &Device::record_of(&id, DeviceStatus::Enabled))
                .await
        });
    }
    while let Some(made) = running.join_next().await {
        made.unwrap().unwrap();
    }
    assert_eq!(client.statistics().await.unwrap().devices, 64);
}
