//! What is left when there is no root.

use std::time::Duration;

use rustix::system::{RebootCommand, reboot};

use crate::console::{drain, print_line, say};

/// So that a person can read the message before a restart.
const READING_TIME: Duration = Duration::from_secs(10);

/// The exit status that is told: as that of a container that could not be run.
const STATUS: u8 = 125;

/// What to do when the root cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Stop the processor; the message stays on the screen.
    Halt,
    /// Switch the power off.
    PowerOff,
    /// Start again: another boot entry may work, or the disk be ready then.
    Reboot,
}

impl Ending {
    /// The word of the kernel command line.
    pub fn of_word(word: &str) -> Option<Ending> {
        match word {
            "halt" => Some(Ending::Halt),
            "poweroff" => Some(Ending::PowerOff),
            "reboot" => Some(Ending::Reboot),
            _ => None,
        }
    }
}

/// Ends the machine. Never returns: the kernel would panic.
pub fn end_machine(ending: Ending) -> ! {
    let command = match ending {
        Ending::Halt => {
            say("no root: halting");
            RebootCommand::Halt
        }
        Ending::PowerOff => {
            say("no root: switching off");
            RebootCommand::PowerOff
        }
        Ending::Reboot => {
            say(&format!("no root: restarting in {} seconds", READING_TIME.as_secs()));
            std::thread::sleep(READING_TIME);
            RebootCommand::Restart
        }
    };
    // The line that `moby run` reads, in PID 1's words.
    print_line("moby", format!("exit status {STATUS}").as_bytes());
    drain();
    rustix::fs::sync();
    if let Err(error) = reboot(command) {
        say(&format!("ending the machine: {error}"));
    }
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}
