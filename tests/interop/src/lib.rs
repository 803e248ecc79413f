//! Whole-stamp tests: interop.
