//! The per-stamp service: partitions in, tables out, each row exactly once.
