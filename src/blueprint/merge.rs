//! Several blueprints become one, from left to right.

use super::document::Blueprint;

impl Blueprint {
    /// Puts `later` on top: single values of the kernel and `security` overrule, lists are appended.
    ///
    /// LinuxKit forgets the volumes of all but the last blueprint; here all of them count.
    pub fn merge(&mut self, later: Blueprint) {
        let Blueprint { kernel, init, onboot, onshutdown, services, files, volumes, trust, security } = later;
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
    }
}

fn overrule<T>(earlier: &mut Option<T>, later: Option<T>) {
    if later.is_some() {
        *earlier = later;
    }
}
