mod deletion;
mod golden;
mod interleavings;
mod world;
