//! Event Hubs on loopback, good enough for the published Azure clients.
