//! Character back ends.
