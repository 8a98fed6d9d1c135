//! Guests that program every device wrongly.

#![no_main]

fuzz::target!(guest);
