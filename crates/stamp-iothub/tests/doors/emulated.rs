//! The emulated services, and clients for them that trust their authority.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use stamp_emulator::{
    Authority, DpsConfig, DpsEmulator, IotHubConfig, IotHubEmulator, LinkedHub, Listen,
};
use stamp_iothub::{DpsClient, IotHubClient, ServiceConfig};

/// Two hubs and a DPS.
pub(crate) struct Emulated {
    pub(crate) hubs: [IotHubEmulator; 2],
    pub(crate) dps: DpsEmulator,
    folder: tempfile::TempDir,
}

pub(crate) fn listen(last: u8) -> Listen {
    Listen {
        ip: IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)),
        https: Some(0),
        mqtts: None,
        ..Listen::default()
    }
}

impl Emulated {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Arc::new(Authority::generate().unwrap());
        authority.write_pem(&folder.path().join("ca.pem")).unwrap();
        let hub =
            |last| IotHubEmulator::start(IotHubConfig::new(listen(last), Arc::clone(&authority)));
        let hubs = [hub(2).await.unwrap(), hub(3).await.unwrap()];
        let dps = DpsEmulator::start(DpsConfig {
            linked_hubs: hubs.iter().map(|hub| LinkedHub::new(hub.hub())).collect(),
            ..DpsConfig::new(listen(4), authority, "0ne000A247E")
        });
        let dps = dps.await.unwrap();
        Self { hubs, dps, folder }
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A configuration whose connection string is in a file of this name.
    pub(crate) fn config(&self, name: &str, connection_string: &str) -> ServiceConfig {
        let file = self.folder.path().join(name);
        std::fs::write(&file, format!("{connection_string}\n")).unwrap();
        ServiceConfig {
            connection_string_file: Some(file),
            extra_ca_file: Some(self.ca()),
            ..ServiceConfig::default()
        }
    }

    pub(crate) fn hub_client(&self) -> IotHubClient {
        let text = self.hubs[0].hub().connection_string();
        IotHubClient::new(&self.config("hub", &text)).unwrap()
    }

    pub(crate) fn dps_client(&self) -> DpsClient {
        let text = self.dps.connection_string();
        DpsClient::new(&self.config("dps", &text)).unwrap()
    }
}
