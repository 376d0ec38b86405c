//! Waiting for devices: drivers first, then whatever turns up.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::console::say;
use crate::devices::{Device, Inventory, indented};
use crate::error::{Failure, Result};
use crate::modules::coldplug::{Coldplug, controllers_without_driver, event_socket, read_events};
use crate::source::Source;

/// Not everything is announced (a disc that is put in): devices are looked at again after this.
const PAUSE: Duration = Duration::from_millis(200);

/// Buses are looked at again after this, in case that announcements were lost.
const SCAN: Duration = Duration::from_secs(2);

/// A person who sees nothing for longer than this wants to know why.
const TELL: Duration = Duration::from_secs(5);

/// What is looked for, and what it is to the reader of a message.
#[derive(Debug)]
pub struct Wanted {
    /// How it is named.
    pub source: Source,
    /// What it is: "the root".
    pub what: &'static str,
}

/// The hardware: drivers, announcements, block devices.
#[derive(Debug)]
pub struct Machine {
    /// Loads modules.
    pub coldplug: Coldplug,
    socket: Option<OwnedFd>,
    inventory: Inventory,
}

impl Machine {
    /// Loads the drivers of the devices that are there.
    pub fn start() -> Result<Machine> {
        // The socket first: a device that turns up while the others are looked at is not missed.
        let socket = event_socket().map_err(|failure| say(&failure.to_string())).ok();
        let mut coldplug = Coldplug::open()?;
        coldplug.scan();
        Ok(Machine { coldplug, socket, inventory: Inventory::default() })
    }

    /// Waits until every one of `wanted` is there, at most for `timeout`. Gives them in the same order.
    pub fn wait_for(&mut self, wanted: &[Wanted], timeout: Option<Duration>) -> Result<Vec<Device>> {
        let start = Instant::now();
        let (mut scanned, mut told) = (Instant::now(), false);
        loop {
            if let Some(socket) = &self.socket {
                self.coldplug.announced(&read_events(socket));
            }
            if scanned.elapsed() > SCAN {
                self.coldplug.scan();
                scanned = Instant::now();
            }
            self.inventory.refresh();
            if let Some(found) = self.all_of(wanted) {
                return Ok(found);
            }
            if timeout.is_some_and(|timeout| start.elapsed() >= timeout) {
                return Err(self.report(wanted, start.elapsed()));
            }
            if !told && start.elapsed() > TELL {
                let missing = self.missing(wanted).map(|wanted| format!("{} ({})", wanted.what, wanted.source));
                say(&format!("waiting for {}", missing.collect::<Vec<_>>().join(", ")));
                told = true;
            }
            self.pause();
        }
    }

    fn missing<'w>(&self, wanted: &'w [Wanted]) -> impl Iterator<Item = &'w Wanted> {
        wanted.iter().filter(|wanted| self.inventory.find(&wanted.source).is_empty())
    }

    fn all_of(&self, wanted: &[Wanted]) -> Option<Vec<Device>> {
        let found: Option<Vec<Vec<&Device>>> = wanted
            .iter()
            .map(|wanted| Some(self.inventory.find(&wanted.source)).filter(|devices| !devices.is_empty()))
            .collect();
        let mut chosen = Vec::new();
        for (devices, wanted) in found?.into_iter().zip(wanted) {
            let first = devices.first().copied()?;
            // The first partition of an ISO on a USB disk can begin where the disk does.
            if let Some(other) = devices.iter().skip(1).find(|other| !other.is_part_of(first)) {
                let source = &wanted.source;
                say(&format!("{source} is both {} and {}: taking the first", first.name, other.name));
            }
            chosen.push(first.clone());
        }
        Some(chosen)
    }

    fn pause(&self) {
        let pause = Timespec { tv_sec: 0, tv_nsec: i64::from(PAUSE.subsec_nanos()) };
        match &self.socket {
            Some(socket) => {
                let _ = poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&pause));
            }
            None => std::thread::sleep(PAUSE),
        }
    }

    /// What was awaited and what is there.
    fn report(&self, wanted: &[Wanted], waited: Duration) -> Failure {
        let awaited = indented(self.missing(wanted).map(|wanted| format!("{}: {}", wanted.what, wanted.source)));
        let mut seen: Vec<String> = self.inventory.lines().collect();
        if seen.is_empty() {
            seen.push("no block device at all".to_owned());
        }
        let lone = controllers_without_driver();
        seen.extend(lone.iter().map(|place| format!("storage controller {place}: no driver in this initramfs")));
        seen.extend(self.coldplug.failures.iter().map(Failure::to_string));
        Failure::new(format!(
            "awaited for {} seconds, not found:{awaited}\nseen:{}",
            waited.as_secs(),
            indented(seen.into_iter())
        ))
    }
}
