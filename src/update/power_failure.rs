//! Updates of a disk whose power fails at any moment: the version that ran before must always be there to start, and
//! whatever else the boot menu finds must be whole.

use std::sync::Arc;

use super::sample::{Memory, Sector, disk, disk_with_data};
use super::slots::complete::{Completed, complete};
use super::slots::layout::{Layout, SLOTS, Tries};
use super::slots::reset::{RESET, request};
use super::slots::stage::stage;
use super::slots::table::Table;
use super::slots::verity::Superblock;

/// The disk after `count` operations of a log, and after some that were not flushed yet: every subset of sectors may be
/// there. `seed` chooses one.
fn cut(before: &Memory, log: &[Option<Sector>], count: usize, seed: u64) -> Memory {
    let flushed = log[..count].iter().rposition(Option::is_none).unwrap_or(0);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let sectors = log[..count].iter().enumerate().filter_map(|(at, operation)| {
        let sector = (*operation)?;
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (at < flushed || seed == 0 || state & 1 == 1).then_some(sector)
    });
    before.with(sectors)
}

/// What must be true at every moment. Gives the generation that starts next.
fn bootable(disk: &Memory, running: &[u8; 32], generation: u64) -> u64 {
    // The kernel looks at nothing else.
    Table::read_first(disk).unwrap();
    let layout = Layout::read(disk).unwrap();
    let slot = layout.slot_of(running).expect("the running slot");
    assert_eq!(layout.partition(slot.root).unwrap().name, format!("root-{}", slot.letter));
    let of_running = layout.images_of(slot);
    assert_eq!(of_running.iter().map(|image| image.generation).collect::<Vec<_>>(), [generation]);
    for image in &layout.images {
        let hash = image.root_hash.expect("a root hash");
        let slot = SLOTS.into_iter().find(|slot| layout.slot_of(&hash) == Some(*slot)).expect("its slot");
        let (root, tree) = (layout.partition(slot.root).unwrap(), layout.partition(slot.tree).unwrap());
        let superblock = Superblock::read(disk, tree.start()).unwrap();
        superblock.check(disk, root.start(), tree.start(), &hash).unwrap();
        // All of its bytes are the sample's.
        let mut bytes = vec![0; image.file.size as usize];
        layout.volume.read(&image.file, 0, &mut bytes).unwrap();
        assert!(bytes[1024..].iter().all(|byte| *byte == 0x5a), "{}", image.file.name);
    }
    layout.next().expect("something starts").generation
}

fn hash_of(disk: &Memory) -> [u8; 32] {
    Layout::read(disk).unwrap().images[0].root_hash.unwrap()
}

fn update(disk: &Memory, image: &Memory, running: &[u8; 32]) -> Result<String, String> {
    stage(disk, image, Some(running), &mut |_| {}).map(|staged| staged.name).map_err(|failure| failure.to_string())
}

/// Cuts an update wherever something can be half done.
fn cut_everywhere(before: &Memory, image: &Memory, running: &[u8; 32], generation: u64) {
    let whole = before.with([]);
    let name = update(&whole, image, running).unwrap();
    let log = whole.log.borrow().clone();
    let new = bootable(&whole, running, generation);
    assert_eq!(new, generation + 1);
    let (mut seen_old, mut seen_new) = (0, 0);
    for count in 0..=log.len() {
        // Inside of long runs a few places do: the sectors there are alike.
        let near = |at: usize| log.get(at).is_none_or(Option::is_none);
        if !(count.saturating_sub(1)..count + 2).any(near) && !count.is_multiple_of(97) {
            continue;
        }
        for seed in 0..3 {
            let disk = cut(before, &log, count, seed);
            let next = bootable(&disk, running, generation);
            assert!(next == generation || next == new, "{next}");
            if next == new {
                seen_new += 1;
                continue;
            }
            seen_old += 1;
            // Another attempt goes through.
            if count.is_multiple_of(5) {
                assert_eq!(update(&disk, image, running).as_ref(), Ok(&name), "{count} {seed}");
                assert_eq!(bootable(&disk, running, generation), new);
            }
        }
    }
    assert!(seen_old > 20 && seen_new > 0, "{seen_old} {seen_new}");
}

#[test]
fn power_may_fail_at_any_point_of_an_update() {
    let first = Memory::new(disk(1, "moby_1.efi"));
    let running = hash_of(&first);
    let image = Memory::new(disk(2, "moby_1+3.efi"));
    cut_everywhere(&first, &image, &running, 1);
}

/// The third version goes into the slot of the first one, over what is there.
#[test]
fn power_may_fail_at_any_point_of_a_second_update() {
    let machine = Memory::new(disk(1, "moby_1.efi"));
    let second = Memory::new(disk(2, "moby_1+3.efi"));
    assert_eq!(update(&machine, &second, &hash_of(&machine)).as_deref(), Ok("moby_2+3.efi"));
    let running = hash_of(&second);
    let marked = complete(&machine, &running).unwrap();
    assert_eq!(marked, Completed::Renamed("moby_2+3.efi".to_owned(), "moby_2.efi".to_owned()));
    let third = Memory::new(disk(3, "moby_1+3.efi"));
    cut_everywhere(&machine.with([]), &third, &running, 2);
}

#[test]
fn power_may_fail_while_a_boot_is_marked_as_good() {
    for name in ["moby_1+2-1.efi", "moby_1+0-3.efi", "moby_123456+2-1.efi"] {
        let before = Memory::new(disk(1, name));
        let running = hash_of(&before);
        let whole = before.with([]);
        complete(&whole, &running).unwrap();
        let log = whole.log.borrow().clone();
        let image = |disk: &Memory| Layout::read(disk).unwrap().images[0].clone();
        let generation = image(&before).generation;
        assert_eq!(image(&whole).tries, None);
        for count in 0..=log.len() {
            let disk = cut(&before, &log, count, 0);
            assert_eq!(bootable(&disk, &running, generation), generation);
            assert!(image(&disk).tries.is_none() || image(&disk).tries == image(&before).tries);
        }
        assert_eq!(complete(&whole, &running).unwrap(), Completed::Already(format!("moby_{generation}.efi")));
    }
}

#[test]
fn refusals_write_nothing() {
    let machine = Memory::new(disk(1, "moby_1.efi"));
    let running = hash_of(&machine);
    let refused = |disk: &Memory, image: &Memory, running: &[u8; 32], text: &str| {
        let failure = update(disk, image, running).unwrap_err();
        assert!(failure.contains(text), "{failure}");
        assert!(disk.log.borrow().is_empty(), "{text}: something was written");
    };
    refused(&machine, &Memory::new(disk(1, "moby_1+3.efi")), &running, "what slot A has");
    let mut damaged = disk(2, "moby_1+3.efi");
    let place = {
        let sample = Memory::new(Arc::clone(&damaged));
        Table::read(&sample).unwrap().get(2).unwrap().start() as usize
    };
    Arc::get_mut(&mut damaged).map(|bytes| bytes[place + 77 * 4096] ^= 1).unwrap();
    refused(&machine, &Memory::new(damaged), &running, "block 77 of the root");
    refused(&machine, &Memory::new(Arc::new(vec![0; 1 << 20])), &running, "the new image: ");
    // The new one must be good before the old one goes.
    let second = Memory::new(disk(2, "moby_1+3.efi"));
    update(&machine, &second, &running).unwrap();
    let machine = machine.with([]);
    let third = Memory::new(disk(3, "moby_1+3.efi"));
    refused(&machine, &third, &hash_of(&second), "still on trial");
    refused(&machine, &second, &running, "in slot B already, as moby_2+3.efi");
}

/// Another program of the machine writes the partition table between the steps of an update.
#[test]
fn a_reset_of_the_data_during_an_update_stays() {
    let before = Memory::new(disk_with_data(1, "moby_1.efi"));
    let running = hash_of(&before);
    let image = Memory::new(disk(2, "moby_1+3.efi"));
    for step in 0..5 {
        let whole = before.with([]);
        let mut lines = 0;
        let staged = stage(&whole, &image, Some(&running), &mut |_| {
            if lines == step {
                assert_eq!(request(&whole).unwrap(), 6);
            }
            lines += 1;
        });
        assert_eq!((staged.unwrap().name.as_str(), lines), ("moby_2+3.efi", 5));
        let name = |disk: &Memory, number| Table::read_first(disk).unwrap().get(number).unwrap().name;
        assert_eq!((name(&whole, 6).as_str(), name(&whole, 4).as_str()), (RESET, "root-B"), "{step}");
        assert_eq!(bootable(&whole, &running, 1), 2);
        // The table is whole at every moment, whoever wrote it last.
        let log = whole.log.borrow().clone();
        let mut seen = false;
        for count in 0..=log.len() {
            let near = |at: usize| log.get(at).is_none_or(Option::is_none);
            if !(count.saturating_sub(1)..count + 2).any(near) && !count.is_multiple_of(97) {
                continue;
            }
            for seed in 0..3 {
                let disk = cut(&before, &log, count, seed);
                let reset = name(&disk, 6) == RESET;
                assert!(reset || !seen || seed > 0, "{step}: the reset is gone again");
                seen |= reset && seed == 0;
            }
        }
        assert!(seen);
    }
}

#[test]
fn what_starts_and_what_is_kept() {
    let machine = Memory::new(disk(1, "moby_1+3.efi"));
    let layout = Layout::read(&machine).unwrap();
    assert_eq!(layout.images[0].tries, Some(Tries { left: 3, done: 0 }));
    assert_eq!(layout.kept(None).letter, 'A');
    let shown = super::slots::show::show(&layout, None);
    assert!(shown.contains("slot A: generation 1, on trial") && shown.contains("slot B: unused"), "{shown}");
    // On a disk that does not run, the newest version that was good is kept.
    let second = Memory::new(disk(2, "moby_1+3.efi"));
    stage(&machine, &second, None, &mut |_| {}).unwrap();
    assert_eq!(Layout::read(&machine).unwrap().kept(None).letter, 'B');
    complete(&machine, &hash_of(&Memory::new(disk(1, "moby_1.efi")))).unwrap();
    assert_eq!(Layout::read(&machine).unwrap().kept(None).letter, 'A');
}
