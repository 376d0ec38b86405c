//! On-disk formats: bytes in the shape that a kernel, a loader or another tool expects.
//!
//! One folder per format. Nothing here knows of blueprints or outputs; a writer takes names, metadata and readers,
//! streams, and reads no clock. The same input gives the same bytes on any machine with any number of threads.

pub mod compress;
pub mod cpio;
pub mod erofs;
pub(crate) mod pipeline;
pub mod tar;
pub mod verity;
