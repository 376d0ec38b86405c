use super::*;

fn list(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

struct Built(Vec<Module>, Symbols);

impl Built {
    fn add(mut self, path: &str, info: &[(&str, &str)], exports: &[&str], needs: &[&str]) -> Built {
        let info = info.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec())).collect();
        let facts = Facts { info, exports: list(exports), needs: list(needs) };
        self.0.push(Module::new(path.as_bytes(), facts, &mut self.1));
        self
    }

    fn order(self, order: &str) -> Result<Modules> {
        Modules::new(self.0, self.1, order.as_bytes())
    }
}

fn new() -> Built {
    Built(Vec::new(), Symbols::default())
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn names() {
    assert_eq!(name_of(b"kernel/drivers/md/dm-mod.ko.xz"), b"dm_mod");
    assert_eq!(name_of(b""), b"");
    assert!(is_module(b"a.ko") && is_module(b"a.ko.zst") && !is_module(b"a.ko.sig") && !is_module(b"modules.order"));
}

#[test]
fn dependencies_are_complete_and_in_order() {
    let modules = new()
        .add("k/net/virtio_net.ko.xz", &[], &[], &["register", "kmalloc", "fail"])
        .add("k/net/failover.ko.xz", &[], &["register"], &[])
        .add("k/net/net-failover.ko.xz", &[], &["fail"], &["register"])
        .add("k/a/not-listed.ko.xz", &[("depends", "net-failover,gone")], &[], &[])
        .order("k/net/net-failover.ko\nk/net/failover.ko\nk/net/virtio_net.ko\n")
        .unwrap();
    assert_eq!(
        text(modules.dependencies().unwrap().0),
        "k/net/net-failover.ko.xz: k/net/failover.ko.xz\n\
         k/net/failover.ko.xz:\n\
         k/net/virtio_net.ko.xz: k/net/net-failover.ko.xz k/net/failover.ko.xz\n\
         k/a/not-listed.ko.xz: k/net/net-failover.ko.xz k/net/failover.ko.xz\n"
    );
    assert_eq!(
        text(modules.symbols().0),
        "# Aliases for symbols, used by symbol_request().\n\
         alias symbol:fail net_failover\nalias symbol:register failover\n"
    );
}

#[test]
fn aliases_soft_dependencies_and_device_nodes() {
    let fuse = [("alias", "devname:fuse"), ("alias", "char-major-10-229"), ("alias", "fs-fuse")];
    let modules = new()
        .add("b/fuse.ko", &fuse, &[], &[])
        .add("a/lib-crc.ko", &[("softdep", "pre: crc32c"), ("license", "GPL"), ("alias", "a\nb")], &[], &[])
        .add("c/tun.ko", &[("alias", "char-major-10-*"), ("alias", "devname:net/tun")], &[], &[])
        .order("")
        .unwrap();
    assert_eq!(
        text(modules.aliases().0),
        "# Aliases extracted from modules themselves.\nalias devname:fuse fuse\nalias char-major-10-229 fuse\n\
         alias fs-fuse fuse\nalias char-major-10-* tun\nalias devname:net/tun tun\n"
    );
    assert_eq!(
        text(modules.soft_dependencies()),
        "# Soft dependencies extracted from modules themselves.\nsoftdep lib_crc pre: crc32c\n"
    );
    assert_eq!(
        text(modules.device_nodes()),
        "# Device nodes to trigger on-demand module loading.\nfuse fuse c10:229\n"
    );
    assert_eq!(text(new().order("").unwrap().device_nodes()), "");
    assert_eq!(device_number(b"block-major-7-0x").as_deref(), Some("b7:0"));
    assert_eq!(device_number(b"char-major-7-"), None);
    assert_eq!(device_number(b"char-major--1-1"), None);
}

#[test]
fn circles_and_twins_are_refused() {
    let circle = new().add("a.ko", &[], &["a"], &["b"]).add("b.ko", &[], &["b"], &["a"]);
    let error = circle.order("").unwrap_err();
    assert!(error.message().contains("circle: 2 among a, b"), "{error}");
    let twins = new().add("x/a-b.ko", &[], &[], &[]).add("y/a_b.ko", &[], &[], &[]);
    assert!(twins.order("").unwrap_err().message().contains("x/a-b.ko and y/a_b.ko"));
    // A module that uses what it exports itself is no circle.
    let own = new().add("a.ko", &[("depends", "a")], &["a"], &["a"]).order("").unwrap();
    assert_eq!(text(own.dependencies().unwrap().0), "a.ko:\n");
}

#[test]
fn what_is_built_in() {
    let encoded = |trie: Trie| trie.encode().unwrap();
    let mut expected = Trie::default();
    expected.insert(b"crc32c_x", b"", 0);
    expected.insert(b"ext4", b"", 0);
    assert_eq!(encoded(built_in(b"kernel/fs/ext4/ext4.ko\nkernel/lib/crc32c-x.ko\n")), encoded(expected));
    let mut expected = Trie::default();
    expected.insert(b"fs_ext4", b"ext4", 0);
    let info = b"ext4.alias=fs-ext4\0ext4.license=GPL\0nonsense\0alias=x\0";
    assert_eq!(encoded(built_in_aliases(info)), encoded(expected));
}
