//! What becomes of an image's file system when it is put into the root: what is left out, replaced and added.
//!
//! These are LinuxKit's rules. A container gets its `/etc/resolv.conf` as an empty file to bind over, the root itself
//! a link to where the DHCP client writes; both get the mount points that every container needs.

use super::Content;
use super::tree::{Inode, Kind, Meta, Tree};
use crate::error::Result;

/// The time of what is generated, unless SOURCE_DATE_EPOCH says otherwise: 2017-04-18T16:30:00Z, LinuxKit's.
pub const GENERATED_TIME: i64 = 1_492_533_000;

/// Left out of every image: what container engines make at run time or leave behind at build time.
const EXCLUDED: [&[u8]; 6] = [b".dockerenv", b"Dockerfile", b"dev/console", b"dev/pts", b"dev/shm", b"etc/hostname"];
/// Folders that are there in the end whatever the image says, 0755 and root's.
const FOLDERS: [&[u8]; 6] = [b"dev", b"dev/pts", b"dev/shm", b"etc", b"proc", b"sys"];

const HOSTS: &str = "127.0.0.1       localhost
::1     localhost ip6-localhost ip6-loopback
fe00::0 ip6-localnet
ff00::0 ip6-mcastprefix
ff02::1 ip6-allnodes
ff02::2 ip6-allrouters
";
const RESOLV_CONF: &str = "
# no resolv.conf configured
";
const RESOLV_CONF_LINK: &[u8] = b"/run/resolvconf/resolv.conf";

/// What an image is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its files go to the root itself, or fill a volume.
    Init,
    /// It is the root of a container.
    Container,
}

/// Applies the rules to an image's tree. What is generated gets `time`.
pub fn apply(tree: &mut Tree, role: Role, time: i64) -> Result<()> {
    for path in EXCLUDED {
        tree.remove(path);
    }
    let origin = tree.inode(tree.root()).origin;
    let missing = Meta::root(0o755, time);
    let has_mtab = tree.lookup(b"etc/mtab").is_some();
    let mut put = |path: &[u8], mode: u32, kind: Kind| -> Result<()> {
        let inode = Inode { meta: Meta::root(mode, time), kind, origin };
        tree.insert(path, inode, &missing).map(drop)
    };
    for path in FOLDERS {
        put(path, 0o755, Kind::folder())?;
    }
    put(b"etc/hosts", 0o644, Kind::File(Content::bytes(HOSTS.as_bytes())))?;
    if !has_mtab {
        put(b"etc/mtab", 0o755, Kind::Symlink(b"/proc/mounts".as_slice().into()))?;
    }
    match role {
        Role::Container => put(b"etc/resolv.conf", 0o644, Kind::File(Content::bytes(RESOLV_CONF.as_bytes()))),
        Role::Init => put(b"etc/resolv.conf", 0o644, Kind::Symlink(RESOLV_CONF_LINK.into())),
    }
}
