//! Containers: entries of `onboot`, `onshutdown` and `services`, and the label `org.mobyproject.config`.

use super::decode::{Decoder, Fields, shorten, visible};
use super::device::{DEVICE, Device};
use super::id::{ID_MAPPING, Id, IdMapping};
use super::mount::{Bind, MOUNT, Mount, Tmpfs};
use super::node::Node;
use super::reference::Reference;
use super::resources::{RESOURCES, Resources};
use super::rlimit::Rlimit;
use super::runtime::{RUNTIME, Runtime};
use super::schema::{Key, Shape, TEXTS, Table};
use super::source::Spanned;

/// How a container is confined where neither blueprint nor label say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// As LinuxKit: no seccomp profile, no masked and no read-only paths.
    #[default]
    Linuxkit,
    /// Docker's default seccomp profile, masked paths and read-only paths.
    Strict,
}

/// The words for [`Security`].
pub const SECURITY_WORDS: [(&str, Security); 2] = [("linuxkit", Security::Linuxkit), ("strict", Security::Strict)];

/// A container of a blueprint.
#[derive(Clone, Debug)]
pub struct Image {
    /// The name: of its folder, its containerd id, and of its user and group.
    pub name: Spanned<String>,
    /// What it is made from.
    pub image: Spanned<Reference>,
    /// How it runs.
    pub settings: Settings,
}

/// How a container runs. What is absent is left to the label, then to the image's own configuration.
///
/// An empty list is not absent: `binds: []` drops those of the label. An empty text is as if it were absent.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Settings {
    pub capabilities: Option<Vec<Spanned<String>>>,
    pub capabilities_add: Option<Vec<Spanned<String>>>,
    pub ambient: Option<Vec<Spanned<String>>>,
    pub mounts: Option<Vec<Spanned<Mount>>>,
    pub binds: Option<Vec<Spanned<Bind>>>,
    pub binds_add: Option<Vec<Spanned<Bind>>>,
    pub devices: Option<Vec<Spanned<Device>>>,
    pub tmpfs: Option<Vec<Spanned<Tmpfs>>>,
    pub command: Option<Vec<Spanned<String>>>,
    pub env: Option<Vec<Spanned<String>>>,
    pub cwd: Option<Spanned<String>>,
    pub net: Option<Spanned<String>>,
    pub pid: Option<Spanned<String>>,
    pub ipc: Option<Spanned<String>>,
    pub uts: Option<Spanned<String>>,
    pub userns: Option<Spanned<String>>,
    pub hostname: Option<Spanned<String>>,
    pub readonly: Option<Spanned<bool>>,
    pub masked_paths: Option<Vec<Spanned<String>>>,
    pub readonly_paths: Option<Vec<Spanned<String>>>,
    pub uid: Option<Spanned<Id>>,
    pub gid: Option<Spanned<Id>>,
    pub additional_gids: Option<Vec<Spanned<Id>>>,
    pub no_new_privileges: Option<Spanned<bool>>,
    pub oom_score_adj: Option<Spanned<i64>>,
    pub rootfs_propagation: Option<Spanned<String>>,
    pub cgroups_path: Option<Spanned<String>>,
    pub resources: Option<Resources>,
    pub sysctl: Option<Vec<(Spanned<String>, Spanned<String>)>>,
    pub rlimits: Option<Vec<Spanned<Rlimit>>>,
    pub uid_mappings: Option<Vec<IdMapping>>,
    pub gid_mappings: Option<Vec<IdMapping>>,
    pub annotations: Option<Vec<(Spanned<String>, Spanned<String>)>>,
    pub runtime: Option<Runtime>,
    /// An extension: overrules `security` at the top of the blueprint for this container.
    pub security: Option<Spanned<Security>>,
}

const CAPABILITY_LIST: Shape = Shape::List(&Shape::Capability);
const BINDS: Shape = Shape::List(&Shape::Matching(r"[^:\n\r]+:/[^:\n\r]*(?::[^:\n\r]*)?"));
const TMPFS: Shape = Shape::List(&Shape::Matching(r"/[^:\n\r]*(?::[^:\n\r]*)?"));
const LIMITS: Shape = Shape::List(&Shape::Matching(r"[^,\n\r]+,[^,\n\r]+,[^,\n\r]+"));
const PATH: Shape = Shape::Matching(r"(?:/[^\n\r]*)?");
const NAMESPACE: Shape = Shape::Matching(r"(?:host|root|new|/[^\n\r]*)?");

/// The keys of a container. The label may have all but the first two.
pub static IMAGE: Table = Table {
    name: "a container",
    keys: &[
        Key::new(
            "name",
            Shape::Matching(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,76}"),
            "name of the container, its folder and its user",
        )
        .required(),
        Key::new("image", Shape::Image, "what it is made from").required(),
        Key::new("capabilities", CAPABILITY_LIST, "capabilities; [all] and [none] stand alone").told("none"),
        Key::new("capabilities.add", CAPABILITY_LIST, "capabilities beside those of the label"),
        Key::new("ambient", CAPABILITY_LIST, "ambient capabilities").told("none"),
        Key::new("mounts", Shape::List(&Shape::Map(&MOUNT)), "mounts written out").told("none"),
        Key::new("binds", BINDS, "host paths and volumes (source:destination:options)").told("none"),
        Key::new("binds.add", BINDS, "host paths and volumes beside those of the label"),
        Key::new("devices", Shape::List(&Shape::Map(&DEVICE)), "device nodes and the right to use them").told("none"),
        Key::new("tmpfs", TMPFS, "temporary file systems (destination:options)").told("none"),
        Key::new("command", TEXTS, "program and arguments").told("entrypoint and arguments of the image"),
        Key::new("env", TEXTS, "environment (NAME=value)").told("that of the image"),
        Key::new("cwd", PATH, "working folder").told("that of the image, else /"),
        Key::new(
            "net",
            Shape::Matching(r"(?:host|root|new|none|/[^\n\r]*)?"),
            "network namespace: host, new, none or a path",
        )
        .told("host"),
        Key::new("pid", NAMESPACE, "process namespace: new, host or a path").told("new"),
        Key::new("ipc", NAMESPACE, "IPC namespace: host, new or a path").told("host"),
        Key::new("uts", NAMESPACE, "host name namespace: host, new or a path").told("host"),
        Key::new("userns", NAMESPACE, "user namespace: host, new or a path").told("host"),
        Key::new("hostname", Shape::Line, "host name"),
        Key::new("readonly", Shape::Bool, "read-only root").told("false"),
        Key::new("maskedPaths", TEXTS, "paths that are hidden").told("none; with strict security what Docker hides"),
        Key::new("readonlyPaths", TEXTS, "paths that are read-only")
            .told("none; with strict security what Docker makes read-only"),
        Key::new("uid", Shape::IntegerOrText, "user: a number or the name of a container").told("0"),
        Key::new("gid", Shape::IntegerOrText, "group: a number or the name of a container").told("0"),
        Key::new("additionalGids", Shape::List(&Shape::IntegerOrText), "more groups").told("none"),
        Key::new("noNewPrivileges", Shape::Bool, "no privileges from setuid programs").told("false"),
        Key::new("oomScoreAdj", Shape::Integer(-1000, 1000), "how readily it is killed when memory is short"),
        Key::new("rootfsPropagation", Shape::Line, "mount propagation of the root"),
        Key::new("cgroupsPath", Shape::Line, "control group"),
        Key::new("resources", Shape::Map(&RESOURCES), "control group limits"),
        Key::new("sysctl", Shape::TextMap, "kernel settings of its namespaces"),
        Key::new("rlimits", LIMITS, "limits (name,soft,hard)"),
        Key::new("uidMappings", Shape::List(&Shape::Map(&ID_MAPPING)), "users of a new user namespace"),
        Key::new("gidMappings", Shape::List(&Shape::Map(&ID_MAPPING)), "groups of a new user namespace"),
        Key::new("annotations", Shape::TextMap, "annotations for the runtime"),
        Key::new("runtime", Shape::Map(&RUNTIME), "what init does around it"),
        Key::new("security", Shape::Word(&["linuxkit", "strict"]), "defaults of its confinement")
            .told("that of the label, else of the blueprint"),
    ],
};

/// The longest name of a container. It is a folder's name with `000-` before it, and containerd's longest id is 76.
pub const LONGEST_NAME: usize = 76;

/// The keys of the label: those of a container but `name` and `image`.
pub static LABEL: Table = Table { name: "the label", keys: IMAGE.keys.split_at(2).1 };

impl Decoder<'_, '_> {
    /// An entry of `onboot`, `onshutdown` or `services`.
    pub fn image(&mut self, node: &Node) -> Option<Image> {
        let fields = self.fields(node, &IMAGE)?;
        let name = fields.get("name").and_then(|node| {
            let name = self.text(node, "`name`")?;
            self.container_name(node, &name)?;
            Some(name)
        });
        let image = fields.get("image").and_then(|node| self.reference(node, "`image`"));
        let settings = self.settings(&fields);
        Some(Image { name: name?, image: image?, settings })
    }

    /// The names end up in paths and ids: LinuxKit takes anything, also `a/../../x`.
    fn container_name(&mut self, node: &Node, name: &str) -> Option<()> {
        let odd = |c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c));
        let wrong = if name.is_empty() {
            Some((0..0, "the name is empty".to_owned()))
        } else if let Some((at, found)) = name.char_indices().find(|(_, c)| odd(*c)) {
            let shown = match found {
                '/' => "`/`".to_owned(),
                '\n' | '\r' => "a line break".to_owned(),
                '\0' => "a NUL character".to_owned(),
                ' ' => "a space".to_owned(),
                other => visible(other),
            };
            Some((at..at + found.len_utf8(), format!("the name has {shown} in it")))
        } else if name == "." || name == ".." {
            Some((0..name.len(), format!("`{name}` is not a name")))
        } else if name.len() > LONGEST_NAME {
            let message = format!("the name has {} characters, more than {LONGEST_NAME}", name.len());
            Some((LONGEST_NAME..name.len(), message))
        } else {
            None
        };
        let Some((at, message)) = wrong else { return Some(()) };
        let place = self.part(node, at);
        self.push(place.mistake(message).help("names are made of letters, digits, `.`, `_` and `-`"));
        None
    }

    /// An image reference.
    pub fn reference(&mut self, node: &Node, what: &str) -> Option<Spanned<Reference>> {
        let text = self.text(node, what)?;
        // A template's answer is a reference, whatever it looks like.
        let template = node.scalar().is_some_and(|scalar| scalar.text != text.value);
        if !template && let Some(found) = self.archive(node, &text) {
            let reference = Reference::parse(&found?).ok()?.typed_as(&text);
            return Some(text.map(|_| reference));
        }
        match Reference::parse(&text) {
            Ok(reference) => Some(text.map(|_| reference)),
            Err(error) => {
                let resolved = node.scalar().is_some_and(|scalar| scalar.text != text.value);
                let place = if resolved { text.place.clone() } else { self.part(node, error.at.clone()) };
                let message = format!("{what}: `{}` is not an image reference", shorten(&text));
                self.push(place.mistake(message).label(error.message));
                None
            }
        }
    }

    /// What a container and a label have in common.
    pub fn settings(&mut self, fields: &Fields<'_>) -> Settings {
        macro_rules! read {
            ($key:literal, $method:ident $(, $more:expr)*) => {
                fields.get($key).and_then(|node| self.$method(node, concat!("`", $key, "`") $(, $more)*))
            };
        }
        Settings {
            capabilities: read!("capabilities", capabilities),
            capabilities_add: read!("capabilities.add", capabilities),
            ambient: read!("ambient", capabilities),
            mounts: read!("mounts", mounts, true),
            binds: read!("binds", binds),
            binds_add: read!("binds.add", binds),
            devices: read!("devices", devices),
            tmpfs: read!("tmpfs", tmpfs),
            command: read!("command", texts),
            env: read!("env", texts),
            cwd: read!("cwd", absolute),
            net: read!("net", namespace, &["host", "root", "new", "none"]),
            pid: read!("pid", namespace, &["host", "root", "new"]),
            ipc: read!("ipc", namespace, &["host", "root", "new"]),
            uts: read!("uts", namespace, &["host", "root", "new"]),
            userns: read!("userns", namespace, &["host", "root", "new"]),
            hostname: read!("hostname", clean_text),
            readonly: read!("readonly", bool),
            masked_paths: read!("maskedPaths", texts),
            readonly_paths: read!("readonlyPaths", texts),
            uid: read!("uid", id),
            gid: read!("gid", id),
            additional_gids: fields.get("additionalGids").and_then(|node| {
                self.list(node, "`additionalGids`", |decoder, node| decoder.id(node, "an entry of `additionalGids`"))
            }),
            no_new_privileges: read!("noNewPrivileges", bool),
            oom_score_adj: read!("oomScoreAdj", integer, -1000, 1000),
            rootfs_propagation: read!("rootfsPropagation", clean_text),
            cgroups_path: read!("cgroupsPath", clean_text),
            resources: fields.get("resources").and_then(|node| self.resources(node)),
            sysctl: read!("sysctl", text_map),
            rlimits: read!("rlimits", rlimits),
            uid_mappings: read!("uidMappings", id_mappings),
            gid_mappings: read!("gidMappings", id_mappings),
            annotations: read!("annotations", text_map),
            runtime: fields.get("runtime").and_then(|node| self.runtime(node)),
            security: read!("security", word, &SECURITY_WORDS),
        }
    }

    /// An absolute path, or nothing.
    fn absolute(&mut self, node: &Node, what: &str) -> Option<Spanned<String>> {
        let text = self.clean_text(node, what)?;
        if text.is_empty() || text.starts_with('/') {
            return Some(text);
        }
        let message = format!("{what}: `{}` does not begin with `/`", shorten(&text));
        self.push(text.place.mistake(message));
        None
    }

    /// One of the words for a namespace, or the path of one.
    fn namespace(&mut self, node: &Node, what: &str, words: &[&'static str]) -> Option<Spanned<String>> {
        let text = self.clean_text(node, what)?;
        if text.is_empty() || text.starts_with('/') || words.contains(&text.as_str()) {
            return Some(text);
        }
        let known: Vec<String> = words.iter().filter(|word| **word != "root").map(|word| format!("`{word}`")).collect();
        let message =
            format!("{what}: expected {} or a path that begins with `/`, found `{}`", known.join(", "), shorten(&text));
        let help = self.diagnostics.suggest(&text, words.iter().copied());
        self.push(text.place.mistake(message).help_if(help));
        None
    }
}
