//! One file per verb: flags and printing only. What the verbs do is in the library.

pub mod run;
