//! What people and machines see while work goes on: progress bars on a terminal, plain lines elsewhere, JSON events
//! on request. Results go to standard output, everything here goes to standard error.

mod progress;
pub mod timings;

pub use progress::{Mode, Task, Ui, size};
pub use timings::{Span, Timings};
