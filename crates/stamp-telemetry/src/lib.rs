//! The service's own logs, metrics and health endpoints.
