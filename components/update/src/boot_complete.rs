//! `boot-complete`: marks the boot as good once what it waits for is good.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::machine::{self, Disk};
use crate::slots::complete::{Completed, complete};
use crate::slots::failure::{Doing, Failure, Result};
use crate::slots::layout::ESP;

const USAGE: &str = "use: boot-complete [--after SECONDS] [--connect HOST:PORT]... [--timeout SECONDS] [--or-reboot] [-- PROGRAM ARGUMENTS]";

/// Init writes the names of onboot containers that failed there.
const FAILED: &str = "/run/moby/onboot.failed";
/// How long a check may take to become good.
const TIMEOUT: Duration = Duration::from_secs(60);
const BETWEEN: Duration = Duration::from_secs(1);
/// An update has the EFI system partition while it is written: that is no reason to call the boot a bad one.
const UPDATE: Duration = Duration::from_secs(600);

#[derive(Debug, PartialEq, Eq)]
struct Arguments {
    after: Duration,
    timeout: Duration,
    connect: Vec<String>,
    or_reboot: bool,
    check: Vec<String>,
}

/// Runs the program with these arguments.
pub fn run(arguments: &[String]) -> Result<()> {
    let arguments = parse(arguments)?;
    let result = wait(&arguments).and_then(|()| mark());
    match result {
        Err(failure) if arguments.or_reboot => {
            eprintln!("boot-complete: {failure}; rebooting");
            machine::reboot()
        }
        other => other,
    }
}

fn parse(arguments: &[String]) -> Result<Arguments> {
    let mut parsed =
        Arguments { after: Duration::ZERO, timeout: TIMEOUT, connect: Vec::new(), or_reboot: false, check: Vec::new() };
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| Failure::new(format!("{word} needs a value; {USAGE}")));
        let seconds = |text: &String| {
            let number = text.parse().map_err(|_| Failure::new(format!("{word} {text}: not a number of seconds")));
            number.map(Duration::from_secs)
        };
        match word.as_str() {
            "--after" => parsed.after = seconds(value()?)?,
            "--timeout" => parsed.timeout = seconds(value()?)?,
            "--connect" => parsed.connect.push(value()?.clone()),
            "--or-reboot" => parsed.or_reboot = true,
            "--" => parsed.check = rest.by_ref().cloned().collect(),
            other => return Err(Failure::new(format!("{other}: not known; {USAGE}"))),
        }
    }
    Ok(parsed)
}

/// Returns when everything is good.
fn wait(arguments: &Arguments) -> Result<()> {
    if !Path::new("/run").join("moby").exists() {
        return Err(Failure::new("no /run/moby: /run of the machine must be bound to /run here"));
    }
    let failed = std::fs::read_to_string(FAILED).unwrap_or_default();
    if !failed.trim().is_empty() {
        return Err(Failure::new(format!("not a good boot: {}", failed.trim().replace('\n', ", "))));
    }
    sleep(arguments.after);
    // One that is beyond what a clock can tell never comes.
    let deadline = Instant::now().checked_add(arguments.timeout);
    for address in &arguments.connect {
        until(deadline, || connect(address))?;
    }
    if let Some((program, rest)) = arguments.check.split_first() {
        until(deadline, || check(program, rest))?;
    }
    Ok(())
}

fn until(deadline: Option<Instant>, mut good: impl FnMut() -> Result<()>) -> Result<()> {
    loop {
        match good() {
            Ok(()) => return Ok(()),
            Err(failure) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                return Err(Failure::new(format!("not a good boot: {failure}")));
            }
            Err(_) => sleep(BETWEEN),
        }
    }
}

fn connect(address: &str) -> Result<()> {
    let addresses = address.to_socket_addrs().doing(format_args!("looking up {address}"))?;
    connect_to_any(address, addresses)
}

/// One address that answers is enough: `localhost` is `::1` too, and a service may be at 127.0.0.1 alone.
fn connect_to_any(name: &str, addresses: impl Iterator<Item = SocketAddr>) -> Result<()> {
    let mut result = Err(Failure::new(format!("{name} has no address")));
    for address in addresses {
        let connection = TcpStream::connect_timeout(&address, Duration::from_secs(5));
        result = connection.map(drop).doing(format_args!("connecting to {name} ({address})"));
        if result.is_ok() {
            break;
        }
    }
    result
}

fn check(program: &str, arguments: &[String]) -> Result<()> {
    let status = Command::new(program).args(arguments).status().doing(format_args!("running {program}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(Failure::new(format!("{program} ended with {status}"))),
    }
}

fn mark() -> Result<()> {
    let running = machine::running()?;
    let disk = Disk::of_running(&running)?;
    let claims = disk.claim(&[ESP], UPDATE)?;
    let completed = complete(&disk.device, &running)?;
    drop(claims);
    match completed {
        Completed::Already(name) => println!("{name} was good before"),
        Completed::Renamed(from, to) => println!("a good boot: {from} is {to} now"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn arguments() {
        let parsed = parse(&words("--after 5 --connect 127.0.0.1:80 --timeout 9 --or-reboot -- /bin/check --after x"));
        let parsed = parsed.unwrap();
        assert_eq!((parsed.after.as_secs(), parsed.timeout.as_secs(), parsed.or_reboot), (5, 9, true));
        assert_eq!((parsed.connect, parsed.check.len()), (vec!["127.0.0.1:80".to_owned()], 3));
        for wrong in ["--after", "--after x", "--now", "check"] {
            assert!(parse(&words(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn checks_are_tried_until_they_are_good() {
        let mut left = 1;
        let later = Instant::now() + Duration::from_secs(20);
        until(Some(later), || {
            left -= 1;
            if left < 0 { Ok(()) } else { Err(Failure::new("not yet")) }
        })
        .unwrap();
        let now = Some(Instant::now());
        assert!(until(now, || check("/bin/false", &[])).is_err());
        assert!(until(now, || check("/bin/true", &[])).is_ok());
        assert!(until(None, || check("/bin/true", &[])).is_ok());
    }

    #[test]
    fn times_without_an_end() {
        let parsed = parse(&words("--timeout 18446744073709551615")).unwrap();
        assert_eq!(Instant::now().checked_add(parsed.timeout), None);
    }

    #[test]
    fn every_address_is_tried() {
        let (open, closed) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let [open_address, closed_address] = [&open, &closed].map(|listener| listener.local_addr().unwrap());
        drop(closed);
        assert!(connect_to_any("x", [closed_address, open_address].into_iter()).is_ok());
        let failure = connect_to_any("x", [closed_address].into_iter()).unwrap_err();
        assert!(failure.to_string().contains(&closed_address.to_string()), "{failure}");
        assert!(connect_to_any("x", [].into_iter()).is_err());
    }
}
