//! The lake door: Parquet encoding, Delta tables with marks, checkpoints, read-back.
