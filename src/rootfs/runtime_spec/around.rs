//! runtime.json: what the init of the guest mounts and makes before it starts a container.

use super::precedence::Precedence;
use crate::blueprint::{MapBuilder, Mount, Runtime, Value};

/// runtime.json. Every key is there, empty or not.
pub fn runtime(settings: Precedence<'_>, bundle_path: &str, root_of_image: &str, readonly: bool) -> Value {
    let blueprint = settings.blueprint.runtime.as_ref();
    let label = settings.label.and_then(|label| label.runtime.as_ref());
    let both = || blueprint.into_iter().chain(label);
    fn list<'a, T>(
        mut both: impl Iterator<Item = &'a Runtime>,
        get: impl Fn(&'a Runtime) -> &'a Option<Vec<T>>,
    ) -> &'a [T] {
        both.find_map(|runtime| get(runtime).as_ref()).map_or(&[], Vec::as_slice)
    }

    let mut mounts = root_mounts(bundle_path, root_of_image, readonly);
    mounts.extend(list(both(), |runtime| &runtime.mounts).iter().map(|mount| mount.value.clone()));
    let interfaces = list(both(), |runtime| &runtime.interfaces);

    let mut bind = MapBuilder::default();
    let empty = Runtime::default();
    let members = |runtime: Option<&Runtime>| runtime.unwrap_or(&empty).bind_ns.clone();
    let (from_blueprint, from_label) = (members(blueprint), members(label));
    for ((key, path), (_, other)) in from_blueprint.members().into_iter().zip(from_label.members()) {
        bind.put(key, Value::text(path.as_deref().or(other.as_deref()).unwrap_or_default()));
    }
    let namespace = both().find_map(|runtime| runtime.namespace.as_ref()).map_or("", |text| text.as_str());

    let mut map = MapBuilder::default();
    map.put("cgroups", Value::texts(list(both(), |runtime| &runtime.cgroups)));
    map.put("mounts", Value::List(mounts.iter().map(Mount::to_value).collect()));
    map.put("mkdir", Value::texts(list(both(), |runtime| &runtime.mkdir)));
    map.put("interfaces", Value::List(interfaces.iter().map(|interface| interface.to_value()).collect()));
    map.put("bindNS", bind.build());
    map.put("namespace", Value::text(namespace));
    map.build()
}

/// What makes the root of the container: an overlay on a tmpfs over the image's files, or these files as they are.
fn root_mounts(bundle_path: &str, root_of_image: &str, readonly: bool) -> Vec<Mount> {
    let bundle = format!("/{}", bundle_path.trim_matches('/'));
    let image = format!("/{}", root_of_image.trim_matches('/'));
    let mount = |destination: String, kind: &str, source: &str, options: Vec<String>| Mount {
        destination,
        kind: kind.into(),
        source: source.into(),
        options,
        source_place: None,
    };
    if readonly {
        return vec![mount(format!("{bundle}/rootfs"), "", &image, vec!["bind".into()])];
    }
    let overlay =
        vec![format!("lowerdir={image}"), format!("upperdir={bundle}/tmp/upper"), format!("workdir={bundle}/tmp/work")];
    vec![
        mount(format!("{bundle}/tmp"), "tmpfs", "tmpfs", Vec::new()),
        // Overlays need a private upper folder; remounting changes the propagation of the one above.
        mount(format!("{bundle}/tmp"), "", "", vec!["remount".into(), "private".into()]),
        mount(format!("{bundle}/rootfs"), "overlay", "overlay", overlay),
    ]
}
