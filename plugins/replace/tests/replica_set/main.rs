//! Stories of Replace on pods of a `ReplicaSet`, played pass by pass on the fake cluster beside a
//! `ReplicaSet` controller that behaves as the real one. They assert on the state of the world.

mod cancel;
mod common;
mod ends;
mod explore;
mod lost;
mod owner;
mod quota;
mod removal;
mod story;
mod two_jobs;
