//! tar in the PAX form (POSIX.1-2001): ustar headers, extended headers only where ustar has no room.

mod tree;
mod writer;

pub use tree::write_tree;
pub use writer::{Member, MemberKind, Writer};
