//! The demo and its scripted upstream.

pub mod upstream;
