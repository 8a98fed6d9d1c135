//! The block graph.
