//! Linux capabilities, in the order of the kernel's numbers (`linux/capability.h`).

use super::decode::{Decoder, shorten};
use super::node::Node;
use super::source::Spanned;

/// All of them; the index is the kernel's number.
pub const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

impl Decoder<'_, '_> {
    /// A list of capability names, or the single word `all` or `none`.
    pub fn capabilities(&mut self, node: &Node, what: &str) -> Option<Vec<Spanned<String>>> {
        let list = self.texts(node, what)?;
        let single = list.len() == 1;
        let mut checked = Vec::with_capacity(list.len());
        for name in list {
            let word = name.eq_ignore_ascii_case("all") || name.eq_ignore_ascii_case("none");
            if CAPABILITIES.contains(&name.as_str()) || (single && word) {
                checked.push(name);
                continue;
            }
            let upper = name.to_ascii_uppercase();
            let prefixed = format!("CAP_{}", upper.strip_prefix("CAP_").unwrap_or(&upper));
            let help = if word {
                Some(format!("`{}` stands alone: it is no capability beside others", name.value))
            } else {
                self.diagnostics.suggest(&prefixed, CAPABILITIES)
            };
            let message = format!("{what}: unknown capability `{}`", shorten(&name));
            self.push(name.place.mistake(message).help_if(help));
        }
        Some(checked)
    }
}
