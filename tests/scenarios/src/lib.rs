//! Whole-stamp tests: scenarios.
