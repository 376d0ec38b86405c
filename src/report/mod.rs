//! What a build tells about itself, for people and for machines.

pub mod timings;
