//! Mount options as words (mount(8), and `options` of the OCI runtime specification) to flags and data.

use rustix::mount::{MountFlags, MountPropagationFlags};

/// What a list of option words means to mount(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountOptions {
    /// Flags of the mount.
    pub flags: MountFlags,
    /// `bind` or `rbind` was given.
    pub bind: bool,
    /// `rbind` was given.
    pub recursive: bool,
    /// `remount` was given.
    pub remount: bool,
    /// The propagation to set afterwards.
    pub propagation: Option<MountPropagationFlags>,
    /// The words that the file system itself reads, separated by commas.
    pub data: String,
}

impl MountOptions {
    /// Parses the words. A later word wins over an earlier one; words that are not flags are the file system's.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> MountOptions {
        use MountFlags as F;
        use MountPropagationFlags as P;
        let mut options = MountOptions {
            flags: F::empty(),
            bind: false,
            recursive: false,
            remount: false,
            propagation: None,
            data: String::new(),
        };
        for word in words {
            let (flag, on) = match word {
                "" | "defaults" | "loud" => continue,
                "bind" | "rbind" => {
                    options.bind = true;
                    options.recursive = word == "rbind";
                    continue;
                }
                "remount" => {
                    options.remount = true;
                    continue;
                }
                "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" | "unbindable" | "runbindable" => {
                    let (kind, recursive) = match word.strip_prefix('r') {
                        Some(kind) => (kind, P::REC),
                        None => (word, P::empty()),
                    };
                    let kind = match kind {
                        "private" => P::PRIVATE,
                        "shared" => P::SHARED,
                        "slave" => P::DOWNSTREAM,
                        _ => P::UNBINDABLE,
                    };
                    options.propagation = Some(kind | recursive);
                    continue;
                }
                "ro" => (F::RDONLY, true),
                "rw" => (F::RDONLY, false),
                "nosuid" => (F::NOSUID, true),
                "suid" => (F::NOSUID, false),
                "nodev" => (F::NODEV, true),
                "dev" => (F::NODEV, false),
                "noexec" => (F::NOEXEC, true),
                "exec" => (F::NOEXEC, false),
                "sync" => (F::SYNCHRONOUS, true),
                "async" => (F::SYNCHRONOUS, false),
                "dirsync" => (F::DIRSYNC, true),
                "mand" => (F::PERMIT_MANDATORY_FILE_LOCKING, true),
                "nomand" => (F::PERMIT_MANDATORY_FILE_LOCKING, false),
                "noatime" => (F::NOATIME, true),
                "atime" => (F::NOATIME, false),
                "nodiratime" => (F::NODIRATIME, true),
                "diratime" => (F::NODIRATIME, false),
                "relatime" => (F::RELATIME, true),
                "norelatime" => (F::RELATIME, false),
                "strictatime" => (F::STRICTATIME, true),
                "nostrictatime" => (F::STRICTATIME, false),
                "lazytime" => (F::LAZYTIME, true),
                "nolazytime" => (F::LAZYTIME, false),
                "silent" => (F::SILENT, true),
                data => {
                    if !options.data.is_empty() {
                        options.data.push(',');
                    }
                    options.data.push_str(data);
                    continue;
                }
            };
            options.flags.set(flag, on);
        }
        options
    }

    /// The value of a data option: `value("upperdir")` of `lowerdir=/a,upperdir=/b` is `/b`.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.data.split(',').find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> MountOptions {
        MountOptions::parse(line.split(','))
    }

    #[test]
    fn flags_and_data() {
        let options = parse("nosuid,noexec,nodev,mode=1777,relatime,size=10%");
        assert_eq!(options.flags, MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV | MountFlags::RELATIME);
        assert_eq!(options.data, "mode=1777,size=10%");
        assert!(!options.bind && !options.remount && options.propagation.is_none());
    }

    #[test]
    fn later_words_win() {
        assert_eq!(parse("ro,rw").flags, MountFlags::empty());
        assert_eq!(parse("rw,ro").flags, MountFlags::RDONLY);
    }

    #[test]
    fn binds_and_propagation() {
        let options = parse("rw,rbind,rshared");
        assert!(options.bind && options.recursive);
        assert_eq!(options.propagation, Some(MountPropagationFlags::SHARED | MountPropagationFlags::REC));
        let options = parse("remount,private");
        assert!(options.remount);
        assert_eq!(options.propagation, Some(MountPropagationFlags::PRIVATE));
        assert_eq!((options.flags, options.data.as_str()), (MountFlags::empty(), ""));
    }

    #[test]
    fn relatime_is_no_recursive_propagation() {
        assert_eq!(
            parse("relatime,ro,rslave").propagation,
            Some(MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        );
        assert_eq!(parse("relatime,ro").propagation, None);
    }

    #[test]
    fn values() {
        let options = parse("lowerdir=/a/lower,upperdir=/b,workdir=/c");
        assert_eq!(options.value("upperdir"), Some("/b"));
        assert_eq!(options.value("lower"), None);
    }
}
