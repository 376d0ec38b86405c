//! From a locked blueprint to the root file system: every section in LinuxKit's order, kernel, init, volumes, onboot,
//! onshutdown, services, files. What comes later overwrites what came before.

mod bundle;
mod disk;
mod files;
mod kernel;
mod mount_points;
mod package_database;
mod volumes;

use super::image_rules::{self, Role};
use super::input_tar::InputTar;
use super::runtime_spec::IdMap;
use super::{Inode, Kind, Meta, Origin, OriginId, Tree, flatten};
use crate::Arch;
use crate::blueprint::{Disk, Reference, Root, Settings, read_label};
use crate::error::{Context, Result};
use crate::lock::{Locked, LockedImage};
use crate::store::Store;
use crate::ui::Ui;

pub use files::host_path;
pub use kernel::Kernel;

/// The label in which an image says how it wants to be run.
const LABEL: &str = "org.mobyproject.config";

/// What outputs are made from: the root file system, and the parts that a loader takes separately.
#[derive(Clone, Debug)]
pub struct System {
    /// The root file system. `boot/` in it holds the kernel's parts, for the outputs that are one archive.
    pub tree: Tree,
    /// The kernel, if the blueprint names one.
    pub kernel: Option<Kernel>,
    /// What it all runs on.
    pub arch: Arch,
    /// What the root is where an image has a disk to keep it on; nothing if it is the initrd there too.
    pub root: Option<Root>,
    /// How disks are laid out.
    pub disk: Disk,
    /// What the kernel starts with where the root lies on a disk; otherwise the root is the initrd.
    pub initramfs: Option<Tree>,
}

/// What is assembled, and how.
#[derive(Clone, Copy, Debug)]
pub struct Assembling<'a> {
    /// Where images are, and where what is made on the way goes.
    pub store: &'a Store,
    /// Where warnings go.
    pub ui: &'a Ui,
    /// For which architecture.
    pub arch: Arch,
    /// The time of everything that is generated, in seconds since the epoch.
    pub time: i64,
    /// Whether the kernel is unpacked.
    pub decompress_kernel: bool,
    /// An earlier output, for the contents of layers that are not in the store.
    pub input: Option<&'a InputTar>,
}

/// Assembles the root file system.
pub fn assemble(locked: &Locked, assembling: Assembling<'_>) -> Result<System> {
    let Assembling { store, ui, arch, time, decompress_kernel, input } = assembling;
    let _span = ui.span("assemble", "root file system");
    let (tree, ids) = (Tree::new(time), IdMap::number(&locked.blueprint));
    let mut assembly = Assembly { locked, store, ui, arch, time, decompress_kernel, input, tree, ids };
    let kernel = assembly.kernel()?;
    assembly.init()?;
    assembly.volumes()?;
    assembly.bundles()?;
    assembly.files()?;
    assembly.disk()?;
    if input.is_some() {
        InputTar::check(&assembly.tree)?;
    }
    let blueprint = &locked.blueprint;
    let (root, disk) = (blueprint.root_on_disk().cloned(), blueprint.disk.clone());
    Ok(System { tree: assembly.tree, kernel, arch, root, disk, initramfs: None })
}

struct Assembly<'a> {
    locked: &'a Locked,
    store: &'a Store,
    ui: &'a Ui,
    arch: Arch,
    time: i64,
    decompress_kernel: bool,
    input: Option<&'a InputTar>,
    tree: Tree,
    ids: IdMap,
}

impl<'a> Assembly<'a> {
    fn origin(&mut self, source: impl Into<String>, location: impl Into<String>) -> OriginId {
        self.tree.add_origin(Origin { source: source.into(), location: location.into() })
    }

    fn image(&self, reference: &Reference) -> Result<&'a LockedImage> {
        self.locked.image(reference)
    }

    /// An image's own tree.
    fn flattened(&self, reference: &Reference) -> Result<Tree> {
        let mut tree = flatten(&self.image(reference)?.layers, self.time).context(reference)?;
        self.fill(&mut tree);
        Ok(tree)
    }

    /// Finds contents that are not in the store in the earlier output.
    fn fill(&self, tree: &mut Tree) {
        if let Some(input) = self.input {
            input.fill(tree);
        }
    }

    /// An image's own tree with the rules for its role.
    fn image_tree(&self, reference: &Reference, role: Role) -> Result<Tree> {
        let mut tree = self.flattened(reference)?;
        image_rules::apply(&mut tree, role, self.time).context(reference)?;
        Ok(tree)
    }

    /// What an image's label says, if it has one.
    fn label(&self, reference: &Reference) -> Result<Option<Settings>> {
        let Some(text) = self.image(reference)?.config.config.labels.get(LABEL) else { return Ok(None) };
        let (settings, warnings) = read_label(text, reference)?;
        for warning in warnings {
            self.ui.warn(warning.message);
        }
        Ok(Some(settings))
    }

    fn folder(&mut self, path: &str, origin: OriginId) -> Result<()> {
        let inode = Inode { meta: Meta::root(0o755, self.time), kind: Kind::folder(), origin };
        let missing = self.missing();
        self.tree.insert(path.as_bytes(), inode, &missing).map(drop)
    }

    /// Folders that nothing describes are root's, 0755.
    fn missing(&self) -> Meta {
        Meta::root(0o755, self.time)
    }

    /// Puts a tree at a path and says where it came from if that fails.
    fn graft(&mut self, path: &str, tree: &Tree, origin: OriginId, reference: &Reference) -> Result<()> {
        let missing = self.missing();
        self.tree.graft(path.as_bytes(), tree, origin, &missing).context(reference)
    }

    fn init(&mut self) -> Result<()> {
        let mut databases = package_database::Databases::default();
        for (number, reference) in self.locked.blueprint.init.iter().enumerate() {
            let tree = self.image_tree(reference, Role::Init)?;
            databases.collect(&tree).context(&reference.value)?;
            let origin = self.origin(reference.to_string(), format!("init[{number}]"));
            self.graft("", &tree, origin, reference)?;
        }
        let origin = self.origin("LINUXKIT.apkinit", "init");
        databases.merge(&mut self.tree, origin)
    }
}
