//! Decode specification compiler.
