//! The Event Hubs door: one partition as pulled batches.
