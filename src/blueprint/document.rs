//! The blueprint as a whole.

use super::decode::Decoder;
use super::disk::{DISK, Disk};
use super::file::{FILE, File};
use super::image::{IMAGE, Image, SECURITY_WORDS, Security};
use super::kernel::{KERNEL, Kernel, Ucode};
use super::node::{Kind, Node};
use super::reference::Reference;
use super::root::{ROOT, Root, RootType};
use super::schema::{IfAbsent, Key, Shape, TEXTS, Table};
use super::source::Spanned;
use super::volume::{VOLUME, Volume, VolumeFormat};

/// A blueprint: one file, or several merged.
#[derive(Clone, Debug, Default)]
pub struct Blueprint {
    /// The kernel. May be all absent: then the image has none.
    pub kernel: Kernel,
    /// Images that are unpacked onto the root, in order.
    pub init: Vec<Spanned<Reference>>,
    /// Containers that run one after the other at boot. Names may repeat.
    pub onboot: Vec<Image>,
    /// Containers that run one after the other at shutdown. Names may repeat.
    pub onshutdown: Vec<Image>,
    /// Containers that run all the time. Names are unique.
    pub services: Vec<Image>,
    /// Single files, put in last.
    pub files: Vec<File>,
    /// Folders that containers share. Names are unique.
    pub volumes: Vec<Volume>,
    /// Read and without effect, as in LinuxKit.
    pub trust: Trust,
    /// An extension: the confinement of containers that say nothing of their own. Absent is LinuxKit's.
    pub security: Option<Spanned<Security>>,
    /// An extension: what the root is where an image has a disk to keep it on. Absent is LinuxKit's, the initrd.
    pub root: Option<Root>,
    /// An extension: how disks are laid out.
    pub disk: Disk,
}

/// Images and organisations whose signatures were to be checked by old versions of LinuxKit.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Images.
    pub image: Vec<Spanned<String>>,
    /// Organisations.
    pub org: Vec<Spanned<String>>,
}

impl Blueprint {
    /// The confinement of containers that say nothing of their own.
    pub fn security(&self) -> Security {
        self.security.as_ref().map_or(Security::default(), |security| security.value)
    }

    /// The root where an image has a disk to keep it on; nothing if it is the initrd there too.
    pub fn root_on_disk(&self) -> Option<&Root> {
        self.root.as_ref().filter(|root| root.kind() != RootType::Initrd)
    }

    /// All containers with their section: onboot, onshutdown, services.
    pub fn containers(&self) -> impl Iterator<Item = &Image> {
        self.onboot.iter().chain(&self.onshutdown).chain(&self.services)
    }

    /// Every image that is named, each once, with its first place: kernel, microcode, init, volumes, containers.
    pub fn references(&self) -> Vec<Spanned<Reference>> {
        let ucode = self.kernel.ucode.iter().filter_map(|ucode| match &ucode.value {
            Ucode::Image(reference) => Some(Spanned::new(reference.clone(), ucode.place.clone())),
            Ucode::File(_) => None,
        });
        let volumes = self.volumes.iter().filter_map(|volume| volume.image.as_ref());
        let containers = self.containers().map(|image| &image.image);
        let named = self.init.iter().chain(volumes).chain(containers).cloned();
        let mut seen = std::collections::HashSet::new();
        self.kernel.image.iter().cloned().chain(ucode).chain(named).filter(|r| seen.insert(r.value.clone())).collect()
    }

    /// The volumes with `format: oci` that have an image, and that image.
    pub fn layouts(&self) -> impl Iterator<Item = (&Volume, &Spanned<Reference>)> {
        let layouts = self.volumes.iter().filter(|volume| volume.format == VolumeFormat::Oci);
        layouts.filter_map(|volume| Some((volume, volume.image.as_ref()?)))
    }

    /// Whether an image is only put into volumes as it is, and not unpacked anywhere: then it may be for other machines.
    pub fn is_only_layout(&self, reference: &Reference) -> bool {
        let unpacked = self.volumes.iter().filter(|volume| volume.format == VolumeFormat::Filesystem);
        let unpacked = unpacked.filter_map(|volume| volume.image.as_ref());
        let containers = self.containers().map(|image| &image.image);
        let mut others = self.init.iter().chain(&self.kernel.image).chain(unpacked).chain(containers);
        self.layouts().any(|(_, image)| image.value == *reference)
            && !others.any(|other| other.value == *reference)
            && self.ucode_image() != Some(reference)
    }

    /// The image that has the microcode, if the microcode has one of its own.
    pub fn ucode_image(&self) -> Option<&Reference> {
        match self.kernel.ucode.as_ref().map(|ucode| &ucode.value) {
            Some(Ucode::Image(reference)) => Some(reference),
            Some(Ucode::File(_)) | None => None,
        }
    }
}

/// The keys at the top of a blueprint.
pub static BLUEPRINT: Table = Table {
    name: "a blueprint",
    keys: &[
        Key::new("kernel", Shape::Map(&KERNEL), "the kernel"),
        Key::new("init", Shape::List(&Shape::Image), "images that are unpacked onto the root"),
        Key::new("onboot", IMAGES, "containers that run one after the other at boot"),
        Key::new("onshutdown", IMAGES, "containers that run one after the other at shutdown"),
        Key::new("services", IMAGES, "containers that run all the time"),
        Key::new("files", Shape::List(&Shape::Map(&FILE)), "single files, put in last"),
        Key::new("volumes", Shape::List(&Shape::Map(&VOLUME)), "folders that containers share"),
        Key::new("trust", Shape::Map(&TRUST), "without effect"),
        Key::new("security", Shape::Word(&["linuxkit", "strict"]), "confinement of containers that say nothing")
            .or(IfAbsent::Text("linuxkit")),
        Key::new("root", Shape::Map(&ROOT), "the root of images that have a disk; without it the initrd"),
        Key::new("disk", Shape::Map(&DISK), "how disks are laid out"),
    ],
};

const IMAGES: Shape = Shape::List(&Shape::Map(&IMAGE));

/// The keys of `trust`.
pub static TRUST: Table =
    Table { name: "`trust`", keys: &[Key::new("image", TEXTS, "images"), Key::new("org", TEXTS, "organisations")] };

impl Decoder<'_, '_> {
    /// One document.
    pub fn blueprint(&mut self, node: &Node) -> Option<Blueprint> {
        if !matches!(node.kind, Kind::Map(_)) {
            let known: Vec<String> = BLUEPRINT.keys.iter().map(|key| format!("`{}`", key.name)).collect();
            let message = format!("a blueprint is a map of sections, but this is {}", node.describe());
            let diagnostic = self.place(node).mistake(message);
            self.push(diagnostic.help(format!("the sections are {}", known.join(", "))));
            return None;
        }
        let fields = self.fields(node, &BLUEPRINT)?;
        let mut images = |key: &str| {
            let node = fields.get(key)?;
            self.list(node, &format!("`{key}`"), |decoder, node| decoder.image(node))
        };
        let onboot = images("onboot").unwrap_or_default();
        let onshutdown = images("onshutdown").unwrap_or_default();
        let services = images("services").unwrap_or_default();
        let init = fields
            .get("init")
            .and_then(|node| self.list(node, "`init`", |decoder, node| decoder.reference(node, "an entry of `init`")));
        let files = fields.get("files").and_then(|node| self.list(node, "`files`", |decoder, node| decoder.file(node)));
        let volumes =
            fields.get("volumes").and_then(|node| self.list(node, "`volumes`", |decoder, node| decoder.volume(node)));
        let trust = fields.get("trust").and_then(|node| {
            let fields = self.fields(node, &TRUST)?;
            let image = fields.get("image").and_then(|node| self.texts(node, "`image` of `trust`"));
            let org = fields.get("org").and_then(|node| self.texts(node, "`org` of `trust`"));
            Some(Trust { image: image.unwrap_or_default(), org: org.unwrap_or_default() })
        });
        Some(Blueprint {
            kernel: fields.get("kernel").and_then(|node| self.kernel(node)).unwrap_or_default(),
            init: init.unwrap_or_default(),
            onboot,
            onshutdown,
            services,
            files: files.unwrap_or_default(),
            volumes: volumes.unwrap_or_default(),
            trust: trust.unwrap_or_default(),
            security: fields.get("security").and_then(|node| self.word(node, "`security`", &SECURITY_WORDS)),
            root: fields.get("root").and_then(|node| self.root(node)),
            disk: fields.get("disk").and_then(|node| self.disk(node)).unwrap_or_default(),
        })
    }
}
