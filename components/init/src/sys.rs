//! The system calls that rustix has no safe form of. The only unsafe code of this program.

#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Blocks `signals` in this thread and returns a descriptor that becomes readable when one of them arrives.
/// To be called before any thread is started. Non-blocking, closed on exec.
pub fn signal_descriptor(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: `set` is plain data that sigemptyset initialises before use; the descriptor is fresh and ours alone.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&mut set);
        for &signal in signals {
            libc::sigaddset(&mut set, signal);
        }
        if libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        match libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            descriptor if descriptor >= 0 => Ok(OwnedFd::from_raw_fd(descriptor)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Makes the child start with no blocked signal (a signal mask is inherited over exec) and in a session of its own,
/// so that a terminal's interrupt does not reach it.
pub fn start_clean(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec only async-signal-safe calls are made, on data of this stack frame.
    unsafe {
        command.pre_exec(|| {
            unblock_all()?;
            libc::setsid();
            Ok(())
        })
    }
}

/// As [`start_clean`], and the child's standard input becomes the controlling terminal of its session.
pub fn start_on_terminal(command: &mut Command) -> &mut Command {
    // SAFETY: as in `start_clean`; TIOCSCTTY takes an integer argument.
    unsafe {
        command.pre_exec(|| {
            unblock_all()?;
            libc::setsid();
            libc::ioctl(0, libc::TIOCSCTTY, 1);
            Ok(())
        })
    }
}

fn unblock_all() -> io::Result<()> {
    // SAFETY: plain data, initialised by sigemptyset.
    unsafe {
        let mut none: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&mut none);
        match libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut()) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Sends `signal` to every process but this one. Refused unless this is PID 1: on any other machine it would end
/// everything that the user runs.
pub fn signal_everything(signal: i32) -> io::Result<()> {
    if std::process::id() != 1 {
        return Err(io::Error::other("refused: this is not PID 1"));
    }
    // SAFETY: kill takes two integers.
    match unsafe { libc::kill(-1, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A socket of network-layer packets (the kernel makes the link-layer header) of one Ethernet type on one interface,
/// close on exec (packet(7)). `interface` is its index, `ethernet_type` in host order (0x0800 is IPv4).
pub fn packet_socket(interface: u32, ethernet_type: u16) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: socket takes integers; the descriptor is fresh; `address` is a whole sockaddr_ll that outlives the call.
    unsafe {
        let descriptor = libc::socket(libc::AF_PACKET, kind, i32::from(ethernet_type.to_be()));
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        let socket = OwnedFd::from_raw_fd(descriptor);
        let address = link_address(interface, ethernet_type, &[]);
        let pointer = (&raw const address).cast::<libc::sockaddr>();
        match libc::bind(socket.as_raw_fd(), pointer, mem::size_of_val(&address) as libc::socklen_t) {
            0 => Ok(socket),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Sends a packet to a hardware address (at most 8 bytes are used) from a [`packet_socket`].
pub fn send_packet(
    socket: BorrowedFd<'_>,
    interface: u32,
    ethernet_type: u16,
    to: &[u8],
    packet: &[u8],
) -> io::Result<()> {
    let address = link_address(interface, ethernet_type, to);
    // SAFETY: `packet` and `address` are valid for the lengths given, and outlive the call.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            (&raw const address).cast::<libc::sockaddr>(),
            mem::size_of_val(&address) as libc::socklen_t,
        )
    };
    match sent {
        length if length >= 0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Writes a byte to an I/O port of the PC. (/dev/port would need no unsafe code, but Debian's cloud kernels lack it.)
#[cfg(target_arch = "x86_64")]
pub fn write_port(port: u16, value: u8) -> io::Result<()> {
    // SAFETY: ioperm takes integers. The instruction touches no memory and no flags; what the port does is the
    // caller's affair, and the only one is QEMU's exit port when the kernel command line asks for it.
    unsafe {
        if libc::ioperm(port.into(), 1, 1) != 0 {
            return Err(io::Error::last_os_error());
        }
        std::arch::asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags));
    }
    Ok(())
}

/// Other machines have no I/O ports.
#[cfg(not(target_arch = "x86_64"))]
pub fn write_port(_port: u16, _value: u8) -> io::Result<()> {
    Err(io::Error::other("this processor has no I/O ports"))
}

fn link_address(interface: u32, ethernet_type: u16, hardware: &[u8]) -> libc::sockaddr_ll {
    // SAFETY: sockaddr_ll is plain data for which all zeros is valid.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ethernet_type.to_be();
    address.sll_ifindex = interface as i32;
    let length = hardware.len().min(address.sll_addr.len());
    address.sll_halen = length as u8;
    for (to, from) in address.sll_addr.iter_mut().zip(hardware) {
        *to = *from;
    }
    address
}
