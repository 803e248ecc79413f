//! An IoT Hub as a service program sees it.

use hyper::Method;
use serde_json::{Value, json};
use stamp_model::DeviceId;

use crate::ServiceConfig;
use crate::device::{Device, ImportEntry, Statistics};
use crate::error::{ServiceError, bad};
use crate::page::{BulkAnswer, Page, PageRequest};
use crate::service::{Ask, Service};
use crate::twin::Twin;

/// What the published service clients of Python and JavaScript send.
const API_VERSION: &str = "2021-04-12";
/// What an Entra token for any IoT Hub is asked for.
const SCOPE: &str = "https://iothubs.azure.net/.default";

/// The identity registry and the twins of one hub. Each call is one attempt at one request; errors
/// are those of [`ServiceError`], by what the caller can do.
pub trait DeviceRegistry: Send + Sync + 'static {
    /// The hub's host name without a port.
    fn name(&self) -> &str;

    /// Reads a device. [`ServiceError::NotFound`] when there is none.
    fn device(&self, id: &DeviceId) -> impl Future<Output = Result<Device, ServiceError>> + Send;

    /// Registers a device with this record, see [`Device::record_of`]. [`ServiceError::Exists`] when it is
    /// there.
    fn create(
        &self,
        id: &DeviceId,
        record: &Value,
    ) -> impl Future<Output = Result<Device, ServiceError>> + Send;

    /// Writes a record over the one with this entity tag. [`ServiceError::Changed`] when it has
    /// another by now, [`ServiceError::NotFound`] when it is gone.
    fn update(
        &self,
        id: &DeviceId,
        etag: &str,
        record: &Value,
    ) -> impl Future<Output = Result<Device, ServiceError>> + Send;

    /// Deletes the device with this entity tag. As [`DeviceRegistry::update`].
    fn delete(
        &self,
        id: &DeviceId,
        etag: &str,
    ) -> impl Future<Output = Result<(), ServiceError>> + Send;

    /// Does every entry that can be done, at most [`ImportEntry::BULK_MAX`].
    fn import(
        &self,
        entries: &[ImportEntry],
    ) -> impl Future<Output = Result<BulkAnswer, ServiceError>> + Send;

    /// Reads a device's twin.
    fn twin(&self, id: &DeviceId) -> impl Future<Output = Result<Twin, ServiceError>> + Send;

    /// Merges `{"tags":{..},"properties":{"desired":{..}}}` into the twin with this entity tag; `null`
    /// takes a member away.
    fn patch_twin(
        &self,
        id: &DeviceId,
        etag: &str,
        patch: &Value,
    ) -> impl Future<Output = Result<Twin, ServiceError>> + Send;

    /// One page of a query in IoT Hub's language, such as
    /// `SELECT * FROM devices WHERE tags.site = 'a'`.
    fn query(
        &self,
        sql: &str,
        page: &PageRequest,
    ) -> impl Future<Output = Result<Page<Value>, ServiceError>> + Send;

    /// How many devices there are.
    fn statistics(&self) -> impl Future<Output = Result<Statistics, ServiceError>> + Send;
}

/// A hub over HTTPS.
#[derive(Debug)]
pub struct IotHubClient {
    service: Service,
}

impl IotHubClient {
    /// Reads the secret and the certificates; asks nothing.
    ///
    /// # Errors
    /// [`ServiceError::BadConfig`] with the key.
    pub fn new(config: &ServiceConfig) -> Result<Self, ServiceError> {
        let service = Service::open(config, API_VERSION, SCOPE)?;
        Ok(Self { service })
    }
}

impl DeviceRegistry for IotHubClient {
    fn name(&self) -> &str {
        self.service.name()
    }

    async fn device(&self, id: &DeviceId) -> Result<Device, ServiceError> {
        let segments = ["devices", id.as_str()];
        let ask = Ask::read(&segments);
        self.service.ask(&ask, Device::parse).await
    }

    async fn create(&self, id: &DeviceId, record: &Value) -> Result<Device, ServiceError> {
        let segments = ["devices", id.as_str()];
        let ask = Ask::write(Method::PUT, &segments, None, Some(record));
        self.service.ask(&ask, Device::parse).await
    }

    async fn update(
        &self,
        id: &DeviceId,
        etag: &str,
        record: &Value,
    ) -> Result<Device, ServiceError> {
        let segments = ["devices", id.as_str()];
        let ask = Ask::write(Method::PUT, &segments, Some(etag), Some(record));
        self.service.ask(&ask, Device::parse).await
    }

    async fn delete(&self, id: &DeviceId, etag: &str) -> Result<(), ServiceError> {
        let segments = ["devices", id.as_str()];
        let ask = Ask::write(Method::DELETE, &segments, Some(etag), None);
        self.service.send(&ask).await.map(drop)
    }

    async fn import(&self, entries: &[ImportEntry]) -> Result<BulkAnswer, ServiceError> {
        check_entries(entries.len())?;
        let body = entries.iter().map(ImportEntry::json).collect::<Value>();
        let ask = Ask::write(Method::POST, &["devices"], None, Some(&body));
        let parse = |json: Value| BulkAnswer::parse(&json, "deviceId");
        self.service.ask(&ask, parse).await
    }

    async fn twin(&self, id: &DeviceId) -> Result<Twin, ServiceError> {
        let segments = ["twins", id.as_str()];
        let ask = Ask::read(&segments);
        self.service.ask(&ask, Twin::parse).await
    }

    async fn patch_twin(
        &self,
        id: &DeviceId,
        etag: &str,
        patch: &Value,
    ) -> Result<Twin, ServiceError> {
        let segments = ["twins", id.as_str()];
        let ask = Ask::write(Method::PATCH, &segments, Some(etag), Some(patch));
        self.service.ask(&ask, Twin::parse).await
    }

    async fn query(&self, sql: &str, page: &PageRequest) -> Result<Page<Value>, ServiceError> {
        let body = json!({ "query": sql });
        let mut ask = Ask::look(&["devices", "query"], Some(&body));
        ask.page = Some(page);
        self.service.page(&ask, Ok).await
    }

    async fn statistics(&self) -> Result<Statistics, ServiceError> {
        let ask = Ask::read(&["statistics", "devices"]);
        self.service
            .ask(&ask, |json| Statistics::parse(&json))
            .await
    }
}

pub(crate) fn check_entries(count: usize) -> Result<(), ServiceError> {
    match (1..=ImportEntry::BULK_MAX).contains(&count) {
        true => Ok(()),
        false => bad("entries", format!("must be 1 to {}", ImportEntry::BULK_MAX)),
    }
}
