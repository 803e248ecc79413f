use std::time::{Duration, UNIX_EPOCH};

use super::{Token, sign};
use crate::config::Credential;
use crate::config::connection_string::Secret;

/// Made with Python's hmac, hashlib, base64 and urllib.parse.quote.
const VECTOR: &str = "SharedAccessSignature \
    sr=sb%3A%2F%2Fcontoso.servicebus.windows.net%2Ftelemetry%2FConsumerGroups%2F%24Default%2FPartitions%2F0\
    &sig=DdREWYWLhWQkCPC0Svbgs6Ac6l7Sq%2B4vqOw2HCcTOF8%3D&se=1700000000&skn=listen%20only";

const AUDIENCE: &str =
    "sb://contoso.servicebus.windows.net/telemetry/ConsumerGroups/$Default/Partitions/0";

#[test]
fn a_token_is_signed_as_the_service_checks_it() {
    let token = sign(
        AUDIENCE,
        "listen only",
        "c2VjcmV0LWtleS1mb3ItdGVzdHM=",
        1_700_000_000,
    );
    assert_eq!(token, VECTOR);
}

#[test]
fn a_token_is_renewed_before_its_end() {
    let credential = Credential::SharedKey {
        name: "listen".to_owned(),
        key: Secret::new("k"),
    };
    let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let token = Token::make(&credential, AUDIENCE, now).unwrap();
    assert!(token.text.contains("&se=1700003600&"), "{}", token.text);
    assert_eq!(token.renew_at(), Some(now + Duration::from_secs(3_000)));
}

#[test]
fn a_token_of_somebody_else_is_passed_on_and_never_renewed() {
    let credential = Credential::SharedSignature(Secret::new(VECTOR));
    let token = Token::make(&credential, AUDIENCE, UNIX_EPOCH).unwrap();
    assert_eq!((token.text.as_str(), token.renew_at()), (VECTOR, None));
    assert!(Token::make(&Credential::Absent, AUDIENCE, UNIX_EPOCH).is_none());
}
