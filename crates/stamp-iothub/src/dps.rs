//! DPS as a service program sees it.

use hyper::Method;
use serde_json::{Map, Value, json};

use crate::ServiceConfig;
use crate::enrollment::{Attestation, BulkMode, Enrollment, EnrollmentKind, Registration};
use crate::error::{ServiceError, bad};
use crate::page::{BulkAnswer, Page, PageRequest};
use crate::service::{Ask, Service};

/// What the published service clients send.
const API_VERSION: &str = "2021-10-01";
/// What an Entra token for any DPS is asked for.
const SCOPE: &str = "https://azure-devices-provisioning.net/.default";

/// The enrolments and registration records of one Device Provisioning Service. Each call is one
/// attempt at one request; errors are those of [`ServiceError`], by what the caller can do.
pub trait ProvisioningService: Send + Sync + 'static {
    /// The service's host name without a port.
    fn name(&self) -> &str;

    /// Reads an enrolment or group, without symmetric keys. [`ServiceError::NotFound`] when there is
    /// none.
    fn enrollment(
        &self,
        kind: EnrollmentKind,
        id: &str,
    ) -> impl Future<Output = Result<Enrollment, ServiceError>> + Send;

    /// The proof of an enrolment or group, with its keys.
    fn attestation(
        &self,
        kind: EnrollmentKind,
        id: &str,
    ) -> impl Future<Output = Result<Attestation, ServiceError>> + Send;

    /// Writes a record: over the one with this entity tag, or over any or none without one.
    /// [`ServiceError::Changed`] when the tag is another by now.
    fn put(
        &self,
        enrollment: &Enrollment,
        etag: Option<&str>,
    ) -> impl Future<Output = Result<Enrollment, ServiceError>> + Send;

    /// Deletes the enrolment or group with this entity tag. As [`ProvisioningService::put`].
    fn delete(
        &self,
        kind: EnrollmentKind,
        id: &str,
        etag: &str,
    ) -> impl Future<Output = Result<(), ServiceError>> + Send;

    /// Does what can be done of at most [`BulkMode::ENTRIES_MAX`] entries of one kind.
    fn bulk(
        &self,
        kind: EnrollmentKind,
        mode: BulkMode,
        entries: &[Enrollment],
    ) -> impl Future<Output = Result<BulkAnswer, ServiceError>> + Send;

    /// One page of all enrolments or groups.
    fn query(
        &self,
        kind: EnrollmentKind,
        page: &PageRequest,
    ) -> impl Future<Output = Result<Page<Enrollment>, ServiceError>> + Send;

    /// What became of a device. [`ServiceError::NotFound`] when it never registered.
    fn registration(
        &self,
        id: &str,
    ) -> impl Future<Output = Result<Registration, ServiceError>> + Send;

    /// Forgets what became of a device: it registers as if for the first time.
    fn delete_registration(
        &self,
        id: &str,
    ) -> impl Future<Output = Result<(), ServiceError>> + Send;

    /// One page of the devices of a group that registered.
    fn registrations_of(
        &self,
        group: &str,
        page: &PageRequest,
    ) -> impl Future<Output = Result<Page<Registration>, ServiceError>> + Send;
}

/// A DPS over HTTPS.
#[derive(Debug)]
pub struct DpsClient {
    service: Service,
}

impl DpsClient {
    /// Reads the secret and the certificates; asks nothing.
    ///
    /// # Errors
    /// [`ServiceError::BadConfig`] with the key.
    pub fn new(config: &ServiceConfig) -> Result<Self, ServiceError> {
        let service = Service::open(config, API_VERSION, SCOPE)?;
        Ok(Self { service })
    }
}

impl ProvisioningService for DpsClient {
    fn name(&self) -> &str {
        self.service.name()
    }

    async fn enrollment(&self, kind: EnrollmentKind, id: &str) -> Result<Enrollment, ServiceError> {
        let segments = [kind.segment(), id];
        let ask = Ask::read(&segments);
        self.service
            .ask(&ask, |json| Enrollment::parse(kind, json))
            .await
    }

    async fn attestation(
        &self,
        kind: EnrollmentKind,
        id: &str,
    ) -> Result<Attestation, ServiceError> {
        let segments = [kind.segment(), id, "attestationmechanism"];
        let ask = Ask::look(&segments, None);
        self.service.ask(&ask, Attestation::parse).await
    }

    async fn put(
        &self,
        enrollment: &Enrollment,
        etag: Option<&str>,
    ) -> Result<Enrollment, ServiceError> {
        let kind = enrollment.kind;
        let body = enrollment.json();
        let segments = [kind.segment(), &enrollment.id];
        let ask = Ask::write(Method::PUT, &segments, etag, Some(&body));
        self.service
            .ask(&ask, |json| Enrollment::parse(kind, json))
            .await
    }

    async fn delete(&self, kind: EnrollmentKind, id: &str, etag: &str) -> Result<(), ServiceError> {
        let segments = [kind.segment(), id];
        let ask = Ask::write(Method::DELETE, &segments, Some(etag), None);
        self.service.send(&ask).await.map(drop)
    }

    async fn bulk(
        &self,
        kind: EnrollmentKind,
        mode: BulkMode,
        entries: &[Enrollment],
    ) -> Result<BulkAnswer, ServiceError> {
        let body = bulk_body(kind, mode, entries)?;
        let segments = [kind.segment()];
        let ask = Ask::write(Method::POST, &segments, None, Some(&body));
        let parse = |json: Value| BulkAnswer::parse(&json, kind.id_field());
        self.service.ask(&ask, parse).await
    }

    async fn query(
        &self,
        kind: EnrollmentKind,
        page: &PageRequest,
    ) -> Result<Page<Enrollment>, ServiceError> {
        let body = json!({ "query": format!("SELECT * FROM {}", kind.segment()) });
        let segments = [kind.segment(), "query"];
        let mut ask = Ask::look(&segments, Some(&body));
        ask.page = Some(page);
        self.service
            .page(&ask, |json| Enrollment::parse(kind, json))
            .await
    }

    async fn registration(&self, id: &str) -> Result<Registration, ServiceError> {
        let segments = ["registrations", id];
        let ask = Ask::read(&segments);
        self.service.ask(&ask, Registration::parse).await
    }

    async fn delete_registration(&self, id: &str) -> Result<(), ServiceError> {
        let segments = ["registrations", id];
        let ask = Ask::write(Method::DELETE, &segments, None, None);
        self.service.send(&ask).await.map(drop)
    }

    async fn registrations_of(
        &self,
        group: &str,
        page: &PageRequest,
    ) -> Result<Page<Registration>, ServiceError> {
        let segments = ["registrations", group, "query"];
        let mut ask = Ask::look(&segments, None);
        ask.page = Some(page);
        self.service.page(&ask, Registration::parse).await
    }
}

/// `{"mode":..,"enrollments":[..]}`, or `enrollmentGroups`.
pub(crate) fn bulk_body(
    kind: EnrollmentKind,
    mode: BulkMode,
    entries: &[Enrollment],
) -> Result<Value, ServiceError> {
    if !(1..=BulkMode::ENTRIES_MAX).contains(&entries.len()) {
        return bad("entries", format!("must be 1 to {}", BulkMode::ENTRIES_MAX));
    }
    if entries.iter().any(|entry| entry.kind != kind) {
        return bad("entries", "must all be of the same kind");
    }
    let records: Value = entries.iter().map(Enrollment::json).collect();
    let mut body = Map::new();
    body.insert("mode".to_owned(), mode.as_str().into());
    body.insert(kind.segment().to_owned(), records);
    Ok(body.into())
}
