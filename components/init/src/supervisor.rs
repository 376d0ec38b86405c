//! The loop of PID 1: signals, children, output of containers, devices. One thread; whoever waits for something
//! waits here, so that nothing else stands still meanwhile.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read};
use rustix::process::{Pid, WaitOptions, wait};

use crate::console::say;
use crate::error::{Doing, Failure, Result};
use crate::kernel_options::Ending;
use crate::logs::{LogPlace, Stream};
use crate::modules::Coldplug;
use crate::modules::coldplug::read_events;
use crate::power_button::PowerButton;
use crate::sys;

/// Exits of processes that nobody watches (yet). Orphans of containers end here, so the list is bounded.
const KEPT_EXITS: usize = 256;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// The status as a shell gives it: 128 and the signal's number for a signal.
    pub fn code(self) -> i32 {
        match self {
            Exit::Status(status) => status,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Status(status) => write!(out, "exit status {status}"),
            Exit::Signal(signal) => write!(out, "ended by signal {signal}"),
        }
    }
}

/// A wait ended early because the machine was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

/// The loop's state.
#[derive(Debug)]
pub struct Supervisor {
    signals: OwnedFd,
    devices: Option<(OwnedFd, Coldplug)>,
    buttons: Vec<PowerButton>,
    streams: Vec<Stream>,
    watched: HashMap<Pid, Option<Exit>>,
    exits: VecDeque<(Pid, Exit)>,
    request: Option<Ending>,
}

impl Supervisor {
    /// Takes over the signals of PID 1. To be called before any child is started.
    pub fn new() -> Result<Supervisor> {
        let signals = [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGPWR];
        let signals = sys::signal_descriptor(&signals).doing("taking over the signals")?;
        Ok(Supervisor {
            signals,
            devices: None,
            buttons: Vec::new(),
            streams: Vec::new(),
            watched: HashMap::new(),
            exits: VecDeque::new(),
            request: None,
        })
    }

    /// From now on loads modules for devices that are announced on `socket`.
    pub fn watch_devices(&mut self, socket: OwnedFd, coldplug: Coldplug) {
        self.devices = Some((socket, coldplug));
    }

    /// From now on a press of one of these buttons powers off.
    pub fn watch_buttons(&mut self, buttons: Vec<PowerButton>) {
        self.buttons = buttons;
    }

    /// What the machine was asked to do, if anything.
    pub fn request(&self) -> Option<Ending> {
        self.request
    }

    /// Asks the machine to stop. The first request stands.
    pub fn ask(&mut self, ending: Ending) {
        self.request.get_or_insert(ending);
    }

    /// Takes the request away: waits are no longer interrupted by it.
    pub fn take_request(&mut self) -> Option<Ending> {
        self.request.take()
    }

    /// Starts a program with its output going to `log`; no standard input.
    pub fn spawn(&mut self, command: &mut Command, log: Option<&LogPlace>) -> Result<Pid> {
        command.stdin(Stdio::null());
        if let Some(log) = log {
            let (streams, [output, error]) = log.open()?;
            command.stdout(output).stderr(error);
            self.streams.extend(streams);
        }
        let name = command.get_program().to_string_lossy().into_owned();
        let child = sys::start_clean(command).spawn();
        // Our copies of the pipe's other ends must go, or the streams would never end.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let pid = i32::try_from(child.doing(format_args!("starting {name}"))?.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Failure::new(format!("starting {name}: no process id")))?;
        // A process of that number may have ended long ago.
        self.exits.retain(|(known, _)| *known != pid);
        self.watched.insert(pid, None);
        Ok(pid)
    }

    /// Starts a program and waits for its end.
    pub fn run(&mut self, command: &mut Command, log: Option<&LogPlace>) -> Result<Result<Exit, Interrupted>> {
        let pid = self.spawn(command, log)?;
        Ok(self.wait_for(pid))
    }

    /// Forgets the exits of processes that nobody watches. To be called before a program is started that makes a process
    /// to [`Supervisor::watch`]: an orphan that had the same number and ended long ago must not be taken for it.
    pub fn forget_exits(&mut self) {
        self.exits.clear();
    }

    /// Remembers how `pid`, which a program of ours has started, ends, until it is asked for. It may have ended since
    /// [`Supervisor::forget_exits`].
    pub fn watch(&mut self, pid: Pid) {
        let at = self.exits.iter().position(|(known, _)| *known == pid);
        let exit = at.and_then(|at| self.exits.remove(at)).map(|(_, exit)| exit);
        self.watched.insert(pid, exit);
    }

    /// As [`Supervisor::run`], but gives up waiting after `time` and whatever the machine is asked to do. The program
    /// itself goes on.
    pub fn run_briefly(
        &mut self,
        command: &mut Command,
        log: Option<&LogPlace>,
        time: Duration,
    ) -> Result<Option<Exit>> {
        let pid = self.spawn(command, log)?;
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if let Some(exit) = self.take_exit(pid) {
                return Ok(Some(exit));
            }
            if left.is_zero() {
                self.watched.remove(&pid);
                return Ok(None);
            }
            self.turn(Some(left));
        }
    }

    /// Waits until `pid` has ended or the machine is asked to stop.
    pub fn wait_for(&mut self, pid: Pid) -> Result<Exit, Interrupted> {
        loop {
            if let Some(exit) = self.take_exit(pid) {
                return Ok(exit);
            }
            if self.request.is_some() {
                return Err(Interrupted);
            }
            self.turn(None);
        }
    }

    /// How `pid` ended, if it has; once.
    pub fn take_exit(&mut self, pid: Pid) -> Option<Exit> {
        let exit = (*self.watched.get(&pid)?)?;
        self.watched.remove(&pid);
        Some(exit)
    }

    /// Turns until no child is left or the time is up. Returns whether none is left.
    pub fn wait_for_all(&mut self, time: Duration) -> bool {
        let end = Instant::now() + time;
        loop {
            if !self.reap() {
                self.drain_streams();
                return true;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.turn(Some(left));
        }
    }

    /// One round: waits for anything to happen, at most `time`, and deals with it.
    pub fn turn(&mut self, time: Option<Duration>) {
        let timeout = time.and_then(|time| Timespec::try_from(time).ok());
        let mut ready = Vec::new();
        {
            let mut descriptors: Vec<PollFd<'_>> = vec![PollFd::new(&self.signals, PollFlags::IN)];
            descriptors.extend(self.devices.iter().map(|(socket, _)| PollFd::new(socket, PollFlags::IN)));
            descriptors.extend(self.buttons.iter().map(|button| PollFd::new(button.device(), PollFlags::IN)));
            descriptors.extend(self.streams.iter().map(|stream| PollFd::new(stream.pipe(), PollFlags::IN)));
            match poll(&mut descriptors, timeout.as_ref()) {
                Ok(_) => ready.extend(descriptors.iter().map(|descriptor| !descriptor.revents().is_empty())),
                Err(Errno::INTR) => return,
                Err(error) => {
                    // Out of memory, for example: try again later rather than spin.
                    say(&format!("waiting for events: {error}"));
                    std::thread::sleep(Duration::from_secs(1));
                    return;
                }
            }
        }
        let mut ready = ready.into_iter();
        if ready.next() == Some(true) {
            self.read_signals();
        }
        if let Some((socket, coldplug)) = &mut self.devices
            && ready.next() == Some(true)
        {
            for event in read_events(socket) {
                for failure in coldplug.announced(&event) {
                    say(&failure.to_string());
                }
            }
        }
        let pressed: Vec<Option<bool>> = self
            .buttons
            .iter_mut()
            .map(|button| if ready.next() == Some(true) { button.pressed() } else { Some(false) })
            .collect();
        let mut at = pressed.iter();
        self.buttons.retain(|_| at.next().is_some_and(Option::is_some));
        if pressed.contains(&Some(true)) {
            say("power button pressed");
            self.ask(Ending::PowerOff);
        }
        self.streams.retain_mut(|stream| ready.next() != Some(true) || stream.drain());
        self.reap();
    }

    fn drain_streams(&mut self) {
        self.streams.retain_mut(Stream::drain);
    }

    /// Signals mean what they mean to BusyBox's init, which LinuxKit has; SIGPWR is what virtual machine and
    /// container managers send.
    fn read_signals(&mut self) {
        // struct signalfd_siginfo: 128 bytes, the signal's number in the first four.
        let mut record = [0_u8; 128];
        while let Ok(128) = read(&self.signals, &mut record[..]) {
            let number = record.first_chunk::<4>().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
            match i32::try_from(number).unwrap_or(0) {
                libc::SIGUSR1 => self.ask(Ending::Halt),
                libc::SIGUSR2 | libc::SIGPWR => self.ask(Ending::PowerOff),
                libc::SIGTERM | libc::SIGINT => self.ask(Ending::Reboot),
                _ => {}
            }
        }
    }

    fn keep(&mut self, pid: Pid, exit: Exit) {
        self.exits.push_back((pid, exit));
        if self.exits.len() > KEPT_EXITS {
            self.exits.pop_front();
        }
    }

    /// Collects every child that has ended. Returns whether any child is left.
    fn reap(&mut self) -> bool {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let exit = match (status.exit_status(), status.terminating_signal()) {
                        (Some(status), _) => Exit::Status(status),
                        (None, Some(signal)) => Exit::Signal(signal),
                        (None, None) => continue,
                    };
                    if let Some(place) = self.watched.get_mut(&pid) {
                        *place = Some(exit);
                        continue;
                    }
                    self.keep(pid, exit);
                }
                Ok(None) => return true,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supervisor() -> Supervisor {
        let signals = std::fs::File::open("/dev/null").unwrap().into();
        Supervisor {
            signals,
            devices: None,
            buttons: Vec::new(),
            streams: Vec::new(),
            watched: HashMap::new(),
            exits: VecDeque::new(),
            request: None,
        }
    }

    #[test]
    fn numbers_of_processes_come_again() {
        let mut supervisor = supervisor();
        let pid = Pid::from_raw(77).unwrap();
        supervisor.keep(pid, Exit::Status(3));
        supervisor.forget_exits();
        supervisor.watch(pid);
        assert_eq!(supervisor.take_exit(pid), None);
        // The container's own end, between its creation and the watch, counts.
        let pid = Pid::from_raw(78).unwrap();
        supervisor.forget_exits();
        supervisor.keep(pid, Exit::Signal(9));
        supervisor.watch(pid);
        assert_eq!(supervisor.take_exit(pid), Some(Exit::Signal(9)));
        assert_eq!(supervisor.take_exit(pid), None);
    }

    #[test]
    fn orphans_do_not_pile_up() {
        let mut supervisor = supervisor();
        (1..1000).filter_map(Pid::from_raw).for_each(|pid| supervisor.keep(pid, Exit::Status(0)));
        assert_eq!(supervisor.exits.len(), KEPT_EXITS);
    }
}
