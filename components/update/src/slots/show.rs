//! What is on a disk with two slots, for people.

use std::fmt::Write;

use super::bytes::hex;
use super::layout::{Image, Layout, SLOTS, Tries};

/// A line for each slot, and one that says what starts next.
pub fn show(layout: &Layout<'_>, running: Option<&[u8; 32]>) -> String {
    let mut out = String::new();
    let running = running.and_then(|hash| layout.slot_of(hash));
    for slot in SLOTS {
        let images = layout.images_of(slot);
        let state = match (layout.in_use(slot), images.first()) {
            (false, None) => "unused".to_owned(),
            (false, Some(image)) => format!("unused, but there is {}", image.file.name),
            (true, None) => "no kernel image starts it".to_owned(),
            (true, Some(image)) => describe(image),
        };
        let mark = if running == Some(slot) { ", running" } else { "" };
        let _ = writeln!(out, "slot {}: {state}{mark}", slot.letter);
    }
    let next = layout.next().map_or("nothing", |image| image.file.name.as_str());
    let _ = writeln!(out, "starts next: {next}");
    if layout.table.is_backup() {
        out.push_str("the first copy of the partition table is damaged; the next update repairs it\n");
    }
    out
}

fn describe(image: &Image) -> String {
    let state = match image.tries {
        None => "good".to_owned(),
        Some(Tries { left: 0, done }) => format!("failed {done} times"),
        Some(Tries { left, done }) => format!("on trial, {left} tries left, {done} had"),
    };
    let hash = image.root_hash.map(|hash| hex(&hash)).unwrap_or_default();
    format!("generation {}, {state}, {}, root hash {hash}", image.generation, image.file.name)
}
