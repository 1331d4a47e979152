//! The page, as a browser gets it: who may see it, what it shows, and how it changes.

mod browser;
mod changes;
mod gate;
mod places;
mod verbs;
