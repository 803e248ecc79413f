//! The only retry, per-attempt timeout, deadline, retry budget and circuit breaker.
