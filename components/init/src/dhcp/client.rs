//! The client's side of the protocol (RFC 2131 4.4): find a server, take an address, keep it.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::dhcp::datagram::{self, SERVER_PORT};
use crate::dhcp::message::{Answer, Client, Kind, Question};
use crate::error::{Doing, Failure, Result};
use crate::netlink::Interface;
use crate::sys;

const IPV4: u16 = 0x0800;
const EVERYBODY: [u8; 6] = [0xff; 6];

/// The first wait for an answer; doubled each time up to the longest. RFC 2131 4.1 begins with 4 s for a shared
/// wire with many clients that boot at once; on a virtual network an answer that takes a second will not come.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(16);

/// Packets for others that are looked at while waiting for one answer.
const LOOKED_AT: usize = 10_000;

/// Why a wait ended.
#[derive(Debug)]
enum Event {
    Answer(Box<Answer>),
    TimeUp,
    Stopped,
}

/// One client on one interface.
#[derive(Debug)]
pub struct Exchange {
    interface: Interface,
    client: Client,
    signals: OwnedFd,
    begin: Instant,
}

/// A step ended because the program was asked to stop.
#[derive(Debug)]
pub struct Stopped;

impl Exchange {
    /// For one interface. `signals` becomes readable when the program is to stop.
    pub fn open(interface: Interface, host_name: String, signals: OwnedFd) -> Result<Exchange> {
        let hardware: [u8; 6] = interface
            .hardware
            .as_slice()
            .try_into()
            .map_err(|_| Failure::new(format!("{}: no Ethernet address, which DHCP needs", interface.name)))?;
        Ok(Exchange { interface, client: Client { hardware, host_name }, signals, begin: Instant::now() })
    }

    /// A packet socket gets a copy of all that the interface receives, so it is open only while an answer is awaited.
    fn socket(&self) -> Result<OwnedFd> {
        sys::packet_socket(self.interface.index, IPV4).doing("opening a packet socket")
    }

    /// The interface.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// Gets a lease from any server; `None` if `end` comes first.
    pub fn acquire(&mut self, end: Option<Instant>) -> Result<Result<Option<Answer>, Stopped>> {
        self.begin = Instant::now();
        let mut wait = FIRST_WAIT;
        let socket = self.socket()?;
        loop {
            let transaction = random()?;
            let discover = self.question(Kind::Discover, transaction, Ipv4Addr::UNSPECIFIED);
            self.broadcast(&socket, &discover)?;
            match self.listen(&socket, transaction, wait, end, &[Kind::Offer])? {
                Event::Stopped => return Ok(Err(Stopped)),
                Event::Answer(offer) => match self.take(&socket, &offer, transaction, end)? {
                    Event::Stopped => return Ok(Err(Stopped)),
                    Event::Answer(answer) if answer.kind == Kind::Acknowledge => return Ok(Ok(Some(*answer))),
                    _ => {}
                },
                Event::TimeUp => wait = (wait * 2).min(LONGEST_WAIT),
            }
            if end.is_some_and(|end| Instant::now() >= end) {
                return Ok(Ok(None));
            }
        }
    }

    fn take(&self, socket: &OwnedFd, offer: &Answer, transaction: u32, end: Option<Instant>) -> Result<Event> {
        let mut request = self.question(Kind::Request, transaction, Ipv4Addr::UNSPECIFIED);
        request.requested = Some(offer.address);
        request.server = offer.server;
        let mut wait = FIRST_WAIT;
        for _ in 0..4 {
            self.broadcast(socket, &request)?;
            match self.listen(socket, transaction, wait, end, &[Kind::Acknowledge, Kind::Refuse])? {
                Event::TimeUp => wait *= 2,
                event => return Ok(event),
            }
        }
        Ok(Event::TimeUp)
    }

    /// Keeps a lease: asks its server, later any server, until the lease ends. `None` when it has ended or was
    /// refused.
    pub fn renew(&mut self, lease: &Answer, taken: Instant) -> Result<Result<Option<Answer>, Stopped>> {
        let at = |seconds: u32| taken + Duration::from_secs(seconds.into());
        if lease.lease == u32::MAX {
            // For ever; whatever arrives is not for us.
            while !self.sleep(Duration::from_secs(86_400))? {}
            return Ok(Err(Stopped));
        }
        if self.sleep(at(lease.renew).saturating_duration_since(Instant::now()))? {
            return Ok(Err(Stopped));
        }
        self.begin = Instant::now();
        let socket = self.socket()?;
        while Instant::now() < at(lease.lease) {
            let now = Instant::now();
            let rebinding = now >= at(lease.rebind);
            let until = if rebinding { at(lease.lease) } else { at(lease.rebind) };
            // RFC 2131 4.4.5: half of the time that is left, but not less than a minute (or what is left).
            let left = until.saturating_duration_since(now);
            let wait = (left / 2).max(Duration::from_secs(60)).min(left).max(FIRST_WAIT);
            let transaction = random()?;
            let request = self.question(Kind::Request, transaction, lease.address);
            match lease.server.filter(|_| !rebinding) {
                // A server that cannot be reached now is asked again later.
                Some(server) => drop(self.unicast(&request, lease.address, server)),
                None => self.broadcast(&socket, &request)?,
            }
            match self.listen(&socket, transaction, wait, None, &[Kind::Acknowledge, Kind::Refuse])? {
                Event::Stopped => return Ok(Err(Stopped)),
                Event::Answer(answer) if answer.kind == Kind::Acknowledge => return Ok(Ok(Some(*answer))),
                Event::Answer(_) => return Ok(Ok(None)),
                Event::TimeUp => {}
            }
        }
        Ok(Ok(None))
    }

    fn question(&self, kind: Kind, transaction: u32, own: Ipv4Addr) -> Question {
        let seconds = u16::try_from(self.begin.elapsed().as_secs()).unwrap_or(u16::MAX);
        Question { kind, transaction, seconds, own, requested: None, server: None }
    }

    fn broadcast(&self, socket: &OwnedFd, question: &Question) -> Result<()> {
        let packet = datagram::wrap(&question.encode(&self.client));
        match sys::send_packet(socket.as_fd(), self.interface.index, IPV4, &EVERYBODY, &packet) {
            // The interface is down for the moment: as good as lost on the way.
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => Ok(()),
            result => result.doing(format_args!("sending on {}", self.interface.name)),
        }
    }

    fn unicast(&self, question: &Question, own: Ipv4Addr, server: Ipv4Addr) -> std::io::Result<()> {
        let socket = UdpSocket::bind((own, datagram::CLIENT_PORT))?;
        socket.send_to(&question.encode(&self.client), (server, SERVER_PORT))?;
        // The answer is read from the packet socket, which sees it too.
        Ok(())
    }

    /// Waits for an answer of one of these kinds.
    fn listen(
        &self,
        socket: &OwnedFd,
        transaction: u32,
        wait: Duration,
        end: Option<Instant>,
        kinds: &[Kind],
    ) -> Result<Event> {
        // Up to an eighth more, so that machines that were started together do not stay together.
        let until = Instant::now() + wait + wait.mul_f64(f64::from(random()? & 0xff) / 2048.0);
        let until = end.map_or(until, |end| until.min(end));
        let mut buffer = [0_u8; 2048];
        for _ in 0..LOOKED_AT {
            match self.poll(socket, until.saturating_duration_since(Instant::now()))? {
                (_, true) => return Ok(Event::Stopped),
                (false, _) if Instant::now() >= until => return Ok(Event::TimeUp),
                (false, _) => continue,
                (true, _) => {}
            }
            let length = match recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) => length,
                Err(Errno::AGAIN | Errno::INTR | Errno::NETDOWN) => continue,
                Err(error) => return Err(error).doing(format_args!("receiving on {}", self.interface.name)),
            };
            let payload = buffer.get(..length).and_then(datagram::unwrap);
            let answer = payload.and_then(|payload| Answer::decode(payload, transaction, &self.client));
            if let Some(answer) = answer.filter(|answer| kinds.contains(&answer.kind)) {
                return Ok(Event::Answer(Box::new(answer)));
            }
        }
        Ok(Event::TimeUp)
    }

    /// Sleeps, passing over packets. Returns whether the program is to stop.
    pub fn sleep(&self, time: Duration) -> Result<bool> {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).ok();
            let mut descriptors = [PollFd::new(&self.signals, PollFlags::IN)];
            match poll(&mut descriptors, timeout.as_ref()) {
                Ok(0) if left.is_zero() => return Ok(false),
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(true),
                Err(error) => return Err(error).doing("waiting"),
            }
        }
    }

    /// Waits for a packet or a signal.
    fn poll(&self, socket: &OwnedFd, time: Duration) -> Result<(bool, bool)> {
        let mut descriptors = [PollFd::new(socket, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
        match poll(&mut descriptors, Timespec::try_from(time).ok().as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).doing("waiting for packets"),
        }
        let [packet, signal] = descriptors.map(|descriptor| !descriptor.revents().is_empty());
        Ok((packet, signal))
    }
}

/// A number that nobody else on the wire should have chosen. Early after boot the kernel may not have gathered
/// enough for secrets; this is none, so it need not wait.
fn random() -> Result<u32> {
    let mut bytes = [0_u8; 4];
    match getrandom(&mut bytes[..], GetRandomFlags::INSECURE) {
        Ok(_) => {}
        // Before Linux 5.6.
        Err(_) => drop(getrandom(&mut bytes[..], GetRandomFlags::empty()).doing("getting a random number")?),
    }
    Ok(u32::from_ne_bytes(bytes))
}
