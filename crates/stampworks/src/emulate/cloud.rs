//! Event Hubs, IoT Hubs and a DPS from one file, until told to stop.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use stamp_consumer::ConfigError;
use stamp_emulator::{
    Authority, DpsConfig, DpsEmulator, EmulatorConfig, EmulatorError, EventHubsEmulator, HubConfig,
    IotHubConfig, IotHubEmulator, LinkedHub, TlsListen,
};

use super::config::{DpsSection, EmulateConfig};
use crate::exit::Failure;
use crate::fleet::read_toml;
use crate::output;

/// Everything that was started.
struct Cloud {
    events: EventHubsEmulator,
    hubs: Vec<(String, IotHubEmulator)>,
    dps: Option<DpsEmulator>,
}

/// Serves what the file describes and prints how clients reach it, a line each: the kind, the name
/// and a connection string.
pub(super) async fn serve(path: &Path) -> Result<(), Failure> {
    let config: EmulateConfig = read_toml(path)?;
    config.check()?;
    let signals = crate::signals::StopSignals::watch()?;
    let cloud = Cloud::start(&config, path).await?;
    cloud.tell(&config);
    output::note("serving; stop with Ctrl-C");
    signals.received().await;
    cloud.stop().await;
    Ok(())
}

impl Cloud {
    async fn start(config: &EmulateConfig, path: &Path) -> Result<Self, Failure> {
        let authority = Arc::new(Authority::generate().map_err(refused)?);
        if let Some(file) = &config.ca_file {
            let file = path.parent().unwrap_or(Path::new(".")).join(file);
            fs::write(&file, authority.pem()).map_err(|cause| {
                Failure::failed(format!("cannot write {}", file.display()), cause)
            })?;
        }
        for wanted in &config.certificates {
            let beside = |file: &Path| path.parent().unwrap_or(Path::new(".")).join(file);
            let names: Vec<&str> = wanted.names.iter().map(String::as_str).collect();
            let files = (beside(&wanted.certificate), beside(&wanted.key));
            authority
                .issue(&names, &files.0, &files.1)
                .map_err(refused)?;
        }
        let hubs = config.event_hubs.iter();
        let hubs: Result<Vec<HubConfig>, _> = hubs.map(|(name, hub)| hub.hub(name)).collect();
        let events = EventHubsEmulator::start(EmulatorConfig {
            listen: config.listen,
            tls: config.tls_listen.map(|listen| TlsListen {
                listen,
                authority: Arc::clone(&authority),
            }),
            hubs: hubs?,
            ..EmulatorConfig::default()
        });
        let mut cloud = Self {
            events: events.await.map_err(refused)?,
            hubs: Vec::with_capacity(config.iot_hubs.len()),
            dps: None,
        };
        for (name, section) in &config.iot_hubs {
            let routing = section.routing(name, |hub| cloud.events.hub(hub))?;
            let hub = IotHubEmulator::start(IotHubConfig {
                routing,
                sku: section.sku(),
                ..IotHubConfig::new(section.listen(), Arc::clone(&authority))
            });
            let hub = hub.await.map_err(refused)?;
            cloud.hubs.push((name.clone(), hub));
        }
        if let Some(section) = &config.dps {
            cloud.dps = Some(cloud.provisioning(section, authority).await?);
        }
        Ok(cloud)
    }

    async fn provisioning(
        &self,
        section: &DpsSection,
        authority: Arc<Authority>,
    ) -> Result<DpsEmulator, Failure> {
        let is_linked = |name: &String| section.linked_hubs.contains(name);
        let linked = self.hubs.iter().filter(|(name, _)| is_linked(name));
        let dps = DpsEmulator::start(DpsConfig {
            linked_hubs: linked.map(|(_, hub)| LinkedHub::new(hub.hub())).collect(),
            default_allocation: section.allocation(),
            retry_after: section.retry_after,
            webhook_timeout: section.webhook_timeout,
            webhook_spelling: section.spelling(),
            ..DpsConfig::new(section.listen(), authority, &section.id_scope)
        });
        let dps = dps.await.map_err(refused)?;
        for (id, record) in &section.enrollments {
            let wrong = |error: EmulatorError| wrong("dps.enrollments", &error);
            dps.put_enrollment(id, record).map_err(wrong)?;
        }
        for (id, record) in &section.enrollment_groups {
            let wrong = |error: EmulatorError| wrong("dps.enrollment-groups", &error);
            dps.put_enrollment_group(id, record).map_err(wrong)?;
        }
        Ok(dps)
    }

    fn tell(&self, config: &EmulateConfig) {
        for name in config.event_hubs.keys() {
            output::line(&format!(
                "event-hub\t{name}\t{}",
                self.events.connection_string(name)
            ));
            if let Some(secured) = self.events.tls_connection_string(name) {
                output::line(&format!("event-hub-tls\t{name}\t{secured}"));
            }
        }
        for (name, hub) in &self.hubs {
            let connection_string = hub.hub().connection_string();
            output::line(&format!("iot-hub\t{name}\t{connection_string}"));
        }
        if let Some(dps) = &self.dps {
            let (scope, connection_string) = (dps.id_scope(), dps.connection_string());
            output::line(&format!("dps\t{scope}\t{connection_string}"));
        }
    }

    async fn stop(self) {
        if let Some(dps) = self.dps {
            dps.stop().await;
        }
        for (_, hub) in self.hubs {
            hub.stop().await;
        }
        self.events.stop().await;
    }
}

/// A value that an emulator does not take is the file's fault; anything else this machine's.
fn refused(error: EmulatorError) -> Failure {
    match error {
        EmulatorError::Config(why) => ConfigError::value("emulators", why).into(),
        error => Failure::failed("cannot serve", error),
    }
}

fn wrong(key: &str, error: &EmulatorError) -> Failure {
    ConfigError::value(key, error.to_string()).into()
}
