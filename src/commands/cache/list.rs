//! `moby cache ls` and `du`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::units::{shown_age, shown_bytes};
use crate::commands::print_line;
use crate::error::Result;
use crate::store::{ItemKind, Parts, Store, StoredImage};

/// Lists the images.
pub(super) fn images(store: &Store, json: bool) -> Result<()> {
    let images = store.images()?;
    if json {
        let list: Vec<_> = images.iter().map(to_json).collect();
        return print_line(&serde_json::Value::Array(list).to_string());
    }
    if images.is_empty() {
        return print_line("the store is empty");
    }
    let rows: Vec<[String; 4]> = images
        .iter()
        .map(|image| {
            let name = image.name.clone().unwrap_or_else(|| image.descriptor.digest.to_string());
            let used = image.used.map_or_else(|| "-".to_string(), |used| shown_age(age(used)));
            [name, platforms(image), shown_bytes(image.size), used]
        })
        .collect();
    let header = ["NAME", "PLATFORMS", "SIZE", "USED WITHIN"].map(str::to_string);
    let width = |column: usize| rows.iter().chain([&header]).map(|row| row[column].len()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2)];
    for row in [&header].into_iter().chain(&rows) {
        let [name, platforms, size, used] = row;
        let line = format!("{name:<0$}  {platforms:<1$}  {size:>2$}  {used}", widths[0], widths[1], widths[2]);
        print_line(line.trim_end())?;
    }
    Ok(())
}

fn platforms(image: &StoredImage) -> String {
    let mut names: Vec<String> = image.platforms.iter().map(|platform| platform.architecture.clone()).collect();
    names.retain(|name| !name.is_empty() && name != "unknown");
    names.sort();
    names.dedup();
    // A configuration may say anything.
    names.join(" ").escape_debug().to_string()
}

fn to_json(image: &StoredImage) -> serde_json::Value {
    let seconds = image.used.and_then(|used| used.duration_since(SystemTime::UNIX_EPOCH).ok()).map(|d| d.as_secs());
    let platforms: Vec<String> = image.platforms.iter().map(|platform| platform.to_string()).collect();
    serde_json::json!({
        "name": image.name, "digest": image.descriptor.digest, "mediaType": image.descriptor.media_type,
        "platforms": platforms, "size": image.size, "used": seconds,
    })
}

fn age(used: SystemTime) -> Duration {
    SystemTime::now().duration_since(used).unwrap_or_default()
}

/// Shows what takes the room.
pub(super) fn usage(store: &Store, json: bool) -> Result<()> {
    let mut named = Parts::default();
    for image in store.images()? {
        named.blobs.extend(image.parts.blobs);
        named.layers.extend(image.parts.layers);
    }
    // What, and how much of it belongs to an image with a name.
    let mut kinds: BTreeMap<String, (usize, u64, u64)> = BTreeMap::new();
    let mut total = 0;
    for item in store.items()? {
        let kind = match &item.kind {
            ItemKind::Blob(_) => "blobs".to_string(),
            ItemKind::Derived(kind, _) => format!("derived/{kind}"),
        };
        let row = kinds.entry(kind).or_default();
        row.0 += 1;
        row.1 += item.size;
        row.2 += if named.have(&item.kind) { item.size } else { 0 };
        total += item.size;
    }
    if json {
        let rows = kinds.iter().map(|(kind, (count, size, named))| {
            serde_json::json!({"kind": kind, "count": count, "size": size, "images": named})
        });
        let root = store.root().to_string_lossy();
        let value = serde_json::json!({"root": root, "size": total, "kinds": rows.collect::<Vec<_>>()});
        return print_line(&value.to_string());
    }
    print_line(&format!("{:<24} {:>8} {:>10} {:>10}", "KIND", "COUNT", "SIZE", "OF IMAGES"))?;
    for (kind, (count, size, named)) in &kinds {
        print_line(&format!("{kind:<24} {count:>8} {:>10} {:>10}", shown_bytes(*size), shown_bytes(*named)))?;
    }
    let count: usize = kinds.values().map(|row| row.0).sum();
    print_line(&format!("{:<24} {count:>8} {:>10}", "total", shown_bytes(total)))
}
