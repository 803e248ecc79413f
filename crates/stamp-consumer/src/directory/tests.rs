use proptest::prelude::*;
use stamp_model::HubStamp;

use super::*;

fn directory() -> Directory {
    let tenants = [
        (
            TenantId::parse("contoso").unwrap(),
            vec!["press-*".into(), "press-eu-7".into(), "gate".into()],
        ),
        (
            TenantId::parse("fabrikam").unwrap(),
            vec!["press-eu-*".into(), "oven*".into()],
        ),
    ];
    let tenancy = TenancyConfig {
        enrichment: Some("hub-tenant".into()),
        claim_property: Some("tenant".into()),
    };
    Directory::new(&tenants, &tenancy).unwrap()
}

fn event(device: Option<&str>, properties: &[(&str, &str)]) -> Event {
    Event {
        hub: HubStamp {
            device_id: device.map(Into::into),
            ..HubStamp::default()
        },
        properties: properties
            .iter()
            .map(|&(k, v)| (k.into(), v.into()))
            .collect(),
        ..Event::default()
    }
}

/// `Ok` with the tenant's number, `Err` with the quarantine code.
fn check(event: &Event, expected: Result<TenantIndex, &str>) {
    let got = match directory().route(event) {
        Route::Tenant(tenant) => Ok(tenant),
        Route::Quarantine { reason, .. } => Err(reason.code()),
    };
    assert_eq!(got, expected, "{event:?}");
}

#[test]
fn an_exact_id_wins_over_any_prefix_and_the_longest_prefix_over_shorter_ones() {
    check(&event(Some("press-1"), &[]), Ok(0));
    check(&event(Some("press-eu-1"), &[]), Ok(1));
    check(&event(Some("press-eu-7"), &[]), Ok(0));
    check(&event(Some("gate"), &[]), Ok(0));
    check(&event(Some("gate2"), &[]), Err("unknown_tenant"));
}

#[test]
fn device_ids_are_case_sensitive() {
    check(&event(Some("Gate"), &[]), Err("unknown_tenant"));
    check(&event(Some("OVEN1"), &[]), Err("unknown_tenant"));
}

#[test]
fn a_device_that_claims_another_tenant_is_quarantined() {
    check(&event(Some("gate"), &[("tenant", "contoso")]), Ok(0));
    check(
        &event(Some("gate"), &[("tenant", "fabrikam")]),
        Err("tenant_mismatch"),
    );
    check(
        &event(Some("gate"), &[("TENANT", "fabrikam")]),
        Err("tenant_mismatch"),
    );
    check(
        &event(Some("gate"), &[("tenant", "c\u{043e}ntoso")]),
        Err("tenant_mismatch"),
    );
}

#[test]
fn a_claim_alone_makes_no_tenant() {
    check(
        &event(Some("stranger"), &[("tenant", "contoso")]),
        Err("unknown_tenant"),
    );
    check(&event(None, &[("tenant", "contoso")]), Err("no_device"));
}

#[test]
fn the_hubs_enrichment_names_the_tenant_of_unlisted_devices_only_in_agreement() {
    check(
        &event(Some("stranger"), &[("hub-tenant", "fabrikam")]),
        Ok(1),
    );
    check(
        &event(Some("gate"), &[("hub-tenant", "fabrikam")]),
        Err("tenant_mismatch"),
    );
    check(&event(Some("gate"), &[("hub-tenant", "contoso")]), Ok(0));
    check(
        &event(Some("stranger"), &[("hub-tenant", "$twin.tags.tenant")]),
        Err("unknown_tenant"),
    );
    check(
        &event(Some("gate"), &[("hub-tenant", "$twin.tags.tenant")]),
        Err("tenant_mismatch"),
    );
}

#[test]
fn ids_that_iot_hub_cannot_give_out_are_quarantined() {
    for bad in [
        "",
        "../contoso",
        "press-1/..",
        "press-\u{0131}",
        "press-1\0",
    ] {
        check(&event(Some(bad), &[]), Err("bad_device_id"));
    }
}

#[test]
fn an_unknown_source_is_quarantined_before_anything_else() {
    let mut unknown = event(Some("gate"), &[]);
    unknown.hub.source = MessageSource::Unknown("newThing".into());
    check(&unknown, Err("unknown_source"));
}

#[test]
fn an_entry_listed_for_two_tenants_is_refused() {
    let tenants = [
        (TenantId::parse("a").unwrap(), vec!["d*".into()]),
        (TenantId::parse("b").unwrap(), vec!["d*".into()]),
    ];
    let error = Directory::new(&tenants, &TenancyConfig::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("\"d*\"") && error.contains("both a and b"),
        "{error}"
    );
}

proptest! {
    /// Whatever a device puts into properties, it can only lose its place, never gain another.
    #[test]
    fn no_property_a_device_can_set_moves_an_event_to_another_tenant(
        device in "(press-|oven|gate|x)[a-z0-9-]{0,5}",
        properties in prop::collection::vec(("(?i)(tenant|iothub-connection-device-id|x)", "(contoso|fabrikam|[a-z$./]{0,6})"), 0..4),
    ) {
        let pairs: Vec<(&str, &str)> = properties.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let directory = directory();
        let without = directory.route(&event(Some(&device), &[]));
        let with = directory.route(&event(Some(&device), &pairs));
        match with {
            Route::Tenant(tenant) => prop_assert_eq!(without, Route::Tenant(tenant)),
            Route::Quarantine { .. } => {}
        }
    }
}
