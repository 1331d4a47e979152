//! The puller against real registries, filled by other people's clients, and against servers that misbehave.

mod access;
mod environment;
mod faults;
mod layouts;
mod outages;
mod redirects;
mod signatures;
mod support;
