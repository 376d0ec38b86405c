//! PID 1 of moby's images, and the few programs that an image without a shell needs, in one static binary: the name
//! it is called by decides what it is.

mod applets;
mod boot;
mod bundle;
mod console;
mod containers;
mod dhcp;
mod error;
mod host;
mod kernel_options;
mod log_file;
mod logs;
mod modules;
mod mount_options;
mod mounts;
mod netlink;
mod power_button;
mod root;
mod runtime;
mod services;
mod shutdown;
mod stages;
mod supervisor;
mod sys;
mod volumes;

fn main() {
    let mut arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let name = applets::name_of(&arguments.next().unwrap_or_default());
    let rest: Vec<String> = arguments.collect();
    std::process::exit(run(&name, &rest));
}

fn run(name: &str, arguments: &[String]) -> i32 {
    match applets::run(name, arguments) {
        Some(Ok(status)) => status,
        Some(Err(failure)) => {
            eprintln!("{name}: {failure}");
            1
        }
        None if std::process::id() == 1 || name == "rc.init" => boot::run(),
        None => {
            eprintln!(
                "{name}: this is the init of an image, which runs as PID 1; its other names are poweroff, reboot, halt, \
                 modprobe, sysctl, getty and dhcp"
            );
            2
        }
    }
}
