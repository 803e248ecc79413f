//! Where an IoT Hub or DPS listens: its own loopback address, HTTPS and MQTT, and plain for clients
//! that allow it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::http::{self, Api};
use crate::mqtt::{self, Broker};
use crate::net::listen;
use crate::{Authority, EmulatorError};

/// The ports of one IoT Hub or DPS; port 0 takes a free one, `None` does not listen.
///
/// Published clients have fixed ports (443 and 8883), so hubs that run side by side need an address
/// each: Linux answers all of 127.0.0.0/8. Port 443 needs the right to bind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// A loopback address.
    pub ip: IpAddr,
    /// HTTPS. Default 443.
    pub https: Option<u16>,
    /// MQTT over TLS. Default 8883.
    pub mqtts: Option<u16>,
    /// HTTP without TLS. Default none.
    pub http: Option<u16>,
    /// MQTT without TLS. Default none.
    pub mqtt: Option<u16>,
    /// The name that clients call it by, and the name in tokens and in its certificate. The default
    /// is the address as text.
    pub host_name: Option<String>,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            https: Some(443),
            mqtts: Some(8883),
            http: None,
            mqtt: None,
            host_name: None,
        }
    }
}

impl Listen {
    /// The published clients' ports on an address of its own.
    #[must_use]
    pub fn on(ip: Ipv4Addr) -> Self {
        Self {
            ip: IpAddr::V4(ip),
            ..Self::default()
        }
    }

    /// The host's name without a port.
    pub(crate) fn host(&self) -> String {
        self.host_name
            .clone()
            .unwrap_or_else(|| self.ip.to_string())
    }

    fn check(&self) -> Result<(), EmulatorError> {
        let bad = |text: String| Err(EmulatorError::Config(text));
        if !self.ip.is_loopback() {
            return bad(format!("listen: {} is not a loopback address", self.ip));
        }
        let host = self.host();
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
        if host.is_empty() || host.len() > 255 || !host.chars().all(good) {
            return bad(format!("listen.host_name: {host:?} is not a host name"));
        }
        Ok(())
    }
}

/// Where it listens in fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Addresses {
    /// HTTPS.
    pub https: Option<SocketAddr>,
    /// MQTT over TLS.
    pub mqtts: Option<SocketAddr>,
    /// HTTP without TLS.
    pub http: Option<SocketAddr>,
    /// MQTT without TLS.
    pub mqtt: Option<SocketAddr>,
}

/// Listeners that are bound and not yet served.
#[derive(Debug)]
pub(crate) struct Bound {
    https: Option<TcpListener>,
    mqtts: Option<TcpListener>,
    http: Option<TcpListener>,
    mqtt: Option<TcpListener>,
    pub(crate) addresses: Addresses,
}

impl Bound {
    /// Binds every port.
    pub(crate) fn bind(config: &Listen) -> Result<Self, EmulatorError> {
        config.check()?;
        let bind = |port: Option<u16>| {
            let Some(port) = port else {
                return Ok((None, None));
            };
            let address = SocketAddr::new(config.ip, port);
            let failed = |source| EmulatorError::Bind { address, source };
            let listener = listen(address).map_err(failed)?;
            let bound = listener.local_addr().map_err(failed)?;
            Ok::<_, EmulatorError>((Some(listener), Some(bound)))
        };
        let (https, https_at) = bind(config.https)?;
        let (mqtts, mqtts_at) = bind(config.mqtts)?;
        let (http, http_at) = bind(config.http)?;
        let (mqtt, mqtt_at) = bind(config.mqtt)?;
        Ok(Self {
            https,
            mqtts,
            http,
            mqtt,
            addresses: Addresses {
                https: https_at,
                mqtts: mqtts_at,
                http: http_at,
                mqtt: mqtt_at,
            },
        })
    }

    /// Serves on all of them until `stop`.
    pub(crate) fn serve<S: Api + Broker>(
        self,
        config: &Listen,
        authority: &Authority,
        service: &Arc<S>,
        stop: &CancellationToken,
    ) -> Result<JoinSet<()>, EmulatorError> {
        let tls = authority.acceptor(&names(config))?;
        let mut servers = JoinSet::new();
        for (listener, tls) in [(self.https, Some(tls.clone())), (self.http, None)] {
            if let Some(listener) = listener {
                servers.spawn(http::serve(
                    listener,
                    tls,
                    Arc::clone(service),
                    stop.clone(),
                ));
            }
        }
        for (listener, tls) in [(self.mqtts, Some(tls)), (self.mqtt, None)] {
            if let Some(listener) = listener {
                servers.spawn(mqtt::serve(
                    listener,
                    tls,
                    Arc::clone(service),
                    stop.clone(),
                ));
            }
        }
        Ok(servers)
    }
}

/// What the certificate is for.
fn names(config: &Listen) -> Vec<String> {
    let mut names = vec![config.host(), config.ip.to_string(), "localhost".to_owned()];
    names.dedup();
    names
}
