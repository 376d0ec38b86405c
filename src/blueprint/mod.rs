//! Reading blueprints: YAML text in, a typed [`Blueprint`] out, every mistake shown at its place.

mod diagnostic;

pub use diagnostic::Diagnostic;
