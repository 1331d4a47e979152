mod golden;
mod interleavings;
mod world;
