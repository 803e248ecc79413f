//! The hub itself: its devices, their connections and what they say, under one lock, so that events
//! leave in the order in which things happened.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::config::{IotHubConfig, Permission, Sku};
use super::device::{Authentication, Device};
use super::error::HubError;
use super::events::{Notice, Proof, Telemetry, connection_body};
use super::registry::Registry;
use super::routing::Routes;
use crate::faults::ServiceFaults;
use crate::mqtt::Outbox;
use crate::sas::SasToken;
use crate::throttle::Bucket;
use crate::{Clock, EmulatorError, time};

/// Message, properties included (IoT Hub quotas).
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Methods that wait for a device's answer.
const METHODS_MAX: usize = 1_000;

/// What all servers and handles of a hub share.
pub(crate) struct HubCore {
    /// The host's name without a port: what tokens are made for.
    pub(super) host: String,
    pub(super) config: IotHubConfig,
    routes: Routes,
    state: Mutex<State>,
    pub(super) faults: ServiceFaults,
    requests: AtomicU64,
}

impl std::fmt::Debug for HubCore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubCore")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) registry: Registry,
    connections: HashMap<String, Connected>,
    connected: u64,
    methods: HashMap<u64, (String, oneshot::Sender<MethodAnswer>)>,
    methods_begun: u64,
    throttles: Throttles,
    day: i64,
    messages_today: u64,
    unrouted: u64,
}

/// A device's answer to a method: status and body.
pub(crate) type MethodAnswer = (u16, Value);

/// One device's connection.
#[derive(Debug)]
struct Connected {
    number: u64,
    outbox: Outbox,
    desired: bool,
    methods: bool,
}

/// The buckets of a hub's throttles.
#[derive(Debug)]
struct Throttles {
    registry: Bucket,
    queries: Bucket,
    sends: Bucket,
    connects: Bucket,
    twins: Bucket,
}

/// What is throttled together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Throttle {
    Registry,
    Queries,
    Sends,
    Connects,
    Twins,
}

impl Throttles {
    fn new(sku: Sku, now_us: i64) -> Self {
        Self {
            registry: Bucket::per_minute(sku.registry_per_minute(), now_us),
            queries: Bucket::per_minute(sku.queries_per_minute(), now_us),
            sends: Bucket::per_second(sku.sends_per_second(), now_us),
            connects: Bucket::per_second(sku.sends_per_second(), now_us),
            twins: Bucket::per_second(sku.twin_updates_per_second(), now_us),
        }
    }
}

impl HubCore {
    pub(super) fn new(config: IotHubConfig) -> Result<Self, EmulatorError> {
        let now_us = (config.clock)();
        let state = State {
            registry: Registry::default(),
            connections: HashMap::new(),
            connected: 0,
            methods: HashMap::new(),
            methods_begun: 0,
            throttles: Throttles::new(config.sku, now_us),
            day: time::day(now_us),
            messages_today: 0,
            unrouted: 0,
        };
        Ok(Self {
            host: config.listen.host(),
            routes: Routes::new(config.routing.clone())?,
            state: Mutex::new(state),
            faults: ServiceFaults::default(),
            requests: AtomicU64::new(0),
            config,
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now_us(&self) -> i64 {
        let clock: &Clock = &self.config.clock;
        clock()
    }

    /// The hub's short name: `h` of `h.azure-devices.net`. An address stays whole.
    pub(super) fn name(&self) -> &str {
        match self.host.parse::<std::net::IpAddr>() {
            Ok(_) => &self.host,
            Err(_) => self.host.split('.').next().unwrap_or(&self.host),
        }
    }

    pub(super) fn tracking_id(&self) -> String {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        format!("{number:032x}")
    }

    /// Takes part of a throttle's allowance, when throttles are on.
    pub(super) fn throttle(&self, what: Throttle) -> Result<(), HubError> {
        if !self.config.sku.enforced {
            return Ok(());
        }
        let now_us = self.now_us();
        let throttles = &mut self.state().throttles;
        let bucket = match what {
            Throttle::Registry => &mut throttles.registry,
            Throttle::Queries => &mut throttles.queries,
            Throttle::Sends => &mut throttles.sends,
            Throttle::Connects => &mut throttles.connects,
            Throttle::Twins => &mut throttles.twins,
        };
        bucket.take(now_us).map_err(HubError::throttled)
    }

    /// Whether a token opens the service API for any of these permissions.
    pub(super) fn authorize_service(
        &self,
        token: &str,
        any_of: &[Permission],
    ) -> Result<(), HubError> {
        let token = SasToken::parse(token).ok_or_else(HubError::unauthorized)?;
        let resource = token.resource();
        let host = resource.split('/').next().unwrap_or_default();
        match self.is_own_host(host) && self.policy_signed(&token, any_of) {
            true => Ok(()),
            false => Err(HubError::unauthorized()),
        }
    }

    /// Whether a token is for being this device, and what proved it.
    pub(super) fn authorize_device(&self, id: &str, token: &str) -> Result<Proof, HubError> {
        let token = SasToken::parse(token).ok_or_else(HubError::unauthorized)?;
        let resource = token.resource();
        let (host, rest) = resource.split_once('/').unwrap_or((&resource, ""));
        if !self.is_own_host(host) {
            return Err(HubError::unauthorized());
        }
        let state = self.state();
        let device = state.registry.get(id)?;
        if token.policy().is_some() {
            let covers = rest.is_empty() || rest == "devices" || is_device(rest, id);
            let signed = covers && self.policy_signed(&token, &[Permission::DeviceConnect]);
            if !signed {
                return Err(HubError::unauthorized());
            }
        } else if !is_device(rest, id) || !device_signed(device, &token, self.now_us()) {
            return Err(HubError::unauthorized());
        }
        if device.disabled {
            return Err(HubError::disabled(id));
        }
        Ok(match token.policy() {
            Some(_) => Proof::Policy,
            None => Proof::DeviceKey,
        })
    }

    fn policy_signed(&self, token: &SasToken, any_of: &[Permission]) -> bool {
        let policies = self.config.policies.iter();
        let mut named = policies.filter(|policy| Some(policy.name.as_str()) == token.policy());
        named.any(|policy| {
            let open = policy.permissions.iter().any(|p| any_of.contains(p));
            open && !token.is_expired(self.now_us()) && token.is_signed_by(&policy.key)
        })
    }

    /// Names have no case; a port that a client appended does not matter.
    pub(super) fn is_own_host(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        name.eq_ignore_ascii_case(&self.host)
    }

    /// Sends a notification about a device, as it is now.
    pub(super) fn notify(&self, state: &mut State, device: &Device, notice: Notice, body: &Value) {
        let event = notice.event(self.name(), device, body, self.now_us());
        if self.routes.deliver(self.name(), device, &event) == 0 {
            state.unrouted += 1;
        }
    }

    /// Takes a message of a device, stamps it and routes it.
    pub(super) fn telemetry(
        &self,
        id: &str,
        telemetry: Telemetry,
        proof: Proof,
    ) -> Result<(), HubError> {
        self.throttle(Throttle::Sends)?;
        let now_us = self.now_us();
        let mut state = self.state();
        self.count_message(&mut state, now_us)?;
        let device = state.registry.get_mut(id)?;
        device.active_at_us = Some(now_us);
        let event = telemetry.stamped(device, proof, now_us);
        if event.size() > MESSAGE_BYTES_MAX {
            return Err(HubError::too_large("the message"));
        }
        let delivered = self.routes.deliver(self.name(), device, &event);
        state.unrouted += u64::from(delivered == 0);
        Ok(())
    }

    fn count_message(&self, state: &mut State, now_us: i64) -> Result<(), HubError> {
        if state.day != time::day(now_us) {
            state.day = time::day(now_us);
            state.messages_today = 0;
        }
        let sku = self.config.sku;
        if sku.enforced && state.messages_today >= sku.messages_per_day() {
            return Err(HubError::quota());
        }
        state.messages_today += 1;
        Ok(())
    }

    /// A device is connected; an earlier connection of it ends. Gives the connection's number.
    pub(super) fn connected(&self, id: &str, outbox: Outbox) -> Result<u64, HubError> {
        let now_us = self.now_us();
        let mut state = self.state();
        let device = state.registry.get_mut(id)?;
        device.connected = true;
        device.connection_at_us = Some(now_us);
        device.active_at_us = Some(now_us);
        device.connection_events += 1;
        let device = device.clone();
        state.connected += 1;
        let connection = Connected {
            number: state.connected,
            outbox,
            desired: false,
            methods: false,
        };
        let number = connection.number;
        if let Some(earlier) = state.connections.insert(id.to_owned(), connection) {
            earlier.outbox.end();
        }
        let body = connection_body(&device, now_us);
        self.notify(&mut state, &device, Notice::Connected, &body);
        Ok(number)
    }

    /// A connection is gone. It means nothing when another one took its place.
    pub(super) fn disconnected(&self, id: &str, number: u64) {
        let now_us = self.now_us();
        let mut state = self.state();
        if state
            .connections
            .get(id)
            .is_none_or(|known| known.number != number)
        {
            return;
        }
        state.connections.remove(id);
        let Ok(device) = state.registry.get_mut(id) else {
            return;
        };
        device.connected = false;
        device.connection_at_us = Some(now_us);
        device.connection_events += 1;
        let device = device.clone();
        let body = connection_body(&device, now_us);
        self.notify(&mut state, &device, Notice::Disconnected, &body);
    }

    /// What a device wants to hear about its twin and methods.
    pub(super) fn listen(
        &self,
        id: &str,
        number: u64,
        desired: Option<bool>,
        methods: Option<bool>,
    ) {
        let mut state = self.state();
        if let Some(known) = state.connections.get_mut(id).filter(|c| c.number == number) {
            known.desired = desired.unwrap_or(known.desired);
            known.methods = methods.unwrap_or(known.methods);
        }
    }

    /// Ends a device's connection, if it has one.
    pub(super) fn disconnect(&self, id: &str) {
        if let Some(connection) = self.state().connections.get(id) {
            connection.outbox.end();
        }
    }

    /// Ends every connection.
    pub(super) fn disconnect_all(&self) {
        for connection in self.state().connections.values() {
            connection.outbox.end();
        }
    }

    /// Takes a device's reported properties; gives the new version.
    pub(super) fn report(&self, id: &str, patch: &Map<String, Value>) -> Result<u64, HubError> {
        let now_us = self.now_us();
        let mut state = self.state();
        let device = state.registry.get_mut(id)?;
        let mut twin = device.twin.clone();
        twin.reported.merge(patch, now_us);
        twin.version += 1;
        twin.check()?;
        device.twin = twin;
        let device = device.clone();
        let version = device.twin.reported.version;
        let body = serde_json::json!({
            "version": device.twin.version,
            "properties": { "reported": device.twin.reported.patch(patch) },
        });
        self.notify(&mut state, &device, Notice::TwinUpdated, &body);
        Ok(version)
    }

    /// Tells a connected device that its desired properties changed.
    pub(super) fn tell_desired(state: &State, device: &Device, patch: &Map<String, Value>) {
        let Some(connection) = state.connections.get(&device.id).filter(|c| c.desired) else {
            return;
        };
        let desired = &device.twin.desired;
        let topic = format!(
            "$iothub/twin/PATCH/properties/desired/?$version={}",
            desired.version
        );
        let payload = desired.patch(patch).to_string();
        connection.outbox.send(topic, payload.into_bytes());
    }

    /// Calls a method of a connected device; the answer comes through the receiver.
    pub(super) fn call_method(
        &self,
        id: &str,
        name: &str,
        payload: &Value,
    ) -> Result<(u64, oneshot::Receiver<MethodAnswer>), HubError> {
        let mut state = self.state();
        state.registry.get(id)?;
        if state.methods.len() >= METHODS_MAX {
            return Err(HubError::throttled(1));
        }
        state.methods_begun += 1;
        let number = state.methods_begun;
        let connection = state.connections.get(id).filter(|c| c.methods);
        let connection = connection.ok_or_else(|| HubError::not_online(id))?;
        let topic = format!("$iothub/methods/POST/{name}/?$rid={number:x}");
        connection
            .outbox
            .send(topic, payload.to_string().into_bytes());
        let (sender, receiver) = oneshot::channel();
        state.methods.insert(number, (id.to_owned(), sender));
        Ok((number, receiver))
    }

    /// Nobody waits for this method's answer any more.
    pub(super) fn forget_method(&self, number: u64) {
        self.state().methods.remove(&number);
    }

    /// Takes a device's answer to a method; `false` when none was asked of it.
    pub(super) fn answer_method(&self, id: &str, number: u64, answer: MethodAnswer) -> bool {
        let mut state = self.state();
        let asked = state
            .methods
            .get(&number)
            .is_some_and(|(asked, _)| asked == id);
        if asked && let Some((_, sender)) = state.methods.remove(&number) {
            // Who called may have gone; the device has answered all the same.
            let _gone = sender.send(answer);
        }
        asked
    }

    /// Events that no endpoint took.
    pub(super) fn unrouted(&self) -> u64 {
        self.state().unrouted
    }
}

fn is_device(rest: &str, id: &str) -> bool {
    rest.strip_prefix("devices/") == Some(id)
}

fn device_signed(device: &Device, token: &SasToken, now_us: i64) -> bool {
    let Authentication::Sas { primary, secondary } = &device.authentication else {
        return false;
    };
    !token.is_expired(now_us) && (token.is_signed_by(primary) || token.is_signed_by(secondary))
}
