//! Event-time windows, lateness and mergeable partial aggregates.
