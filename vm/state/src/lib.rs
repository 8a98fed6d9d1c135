//! Saved state.
