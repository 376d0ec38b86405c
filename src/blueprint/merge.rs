//! Several blueprints become one, from left to right.

use super::disk::{Data, Disk};
use super::document::Blueprint;
use super::root::Root;

impl Blueprint {
    /// Puts `later` on top: single values of the kernel, the root, the disk and `security` overrule, lists are appended.
    ///
    /// LinuxKit forgets the volumes of all but the last blueprint; here all of them count.
    pub fn merge(&mut self, later: Blueprint) {
        let Blueprint { kernel, init, onboot, onshutdown, services, files, volumes, trust, security, root, disk } =
            later;
        overrule(&mut self.kernel.image, kernel.image);
        overrule(&mut self.kernel.cmdline, kernel.cmdline);
        overrule(&mut self.kernel.binary, kernel.binary);
        overrule(&mut self.kernel.tar, kernel.tar);
        overrule(&mut self.kernel.ucode, kernel.ucode);
        self.init.extend(init);
        self.onboot.extend(onboot);
        self.onshutdown.extend(onshutdown);
        self.services.extend(services);
        self.files.extend(files);
        self.volumes.extend(volumes);
        self.trust.image.extend(trust.image);
        self.trust.org.extend(trust.org);
        overrule(&mut self.security, security);
        if let Some(later) = root {
            self.root.get_or_insert_default().merge(later);
        }
        self.disk.merge(disk);
    }
}

impl Root {
    fn merge(&mut self, later: Root) {
        let Root { kind, verity, compression, signature, on_failure } = later;
        overrule(&mut self.kind, kind);
        overrule(&mut self.verity, verity);
        overrule(&mut self.compression, compression);
        overrule(&mut self.signature, signature);
        overrule(&mut self.on_failure, on_failure);
    }
}

impl Disk {
    fn merge(&mut self, later: Disk) {
        let Disk { slots, slot_size, data } = later;
        overrule(&mut self.slots, slots);
        overrule(&mut self.slot_size, slot_size);
        match (&mut self.data, data) {
            (Some(data), Some(later)) => {
                data.value.merge(later.value);
                data.place = later.place;
            }
            (data, later) => overrule(data, later),
        }
    }
}

impl Data {
    fn merge(&mut self, later: Data) {
        let Data { size, label, mount, file_system, encrypt } = later;
        overrule(&mut self.size, size);
        overrule(&mut self.label, label);
        overrule(&mut self.mount, mount);
        overrule(&mut self.file_system, file_system);
        overrule(&mut self.encrypt, encrypt);
    }
}

fn overrule<T>(earlier: &mut Option<T>, later: Option<T>) {
    if later.is_some() {
        *earlier = later;
    }
}
