//! Thane engine.
