//! What the kernel command line asks of this program.

use std::path::Path;

use crate::error::{Doing, Result};

/// What to do when an onboot container fails, and what a shutdown ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Stop the processor; the power stays on.
    Halt,
    /// Switch the power off.
    PowerOff,
    /// Start again.
    Reboot,
}

/// The options of this program on the kernel command line. Unknown words belong to the kernel or to others.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KernelOptions {
    /// `moby.runtime=NAME`: the OCI runtime to use instead of the first that is found.
    pub runtime: Option<String>,
    /// `moby.onfailure=halt|poweroff|reboot`; `continue` is `None`.
    pub on_failure: Option<Ending>,
    /// `moby.console=quiet`: what containers print goes to their log files only.
    pub quiet: bool,
    /// `moby.exit=poweroff|halt|reboot`: what to do when there is nothing left to run.
    pub exit: Option<Ending>,
    /// `moby.exitcode=isa-debug-exit`: hand the exit status to QEMU's debug port.
    pub debug_exit: bool,
    /// `linuxkit.runc_debug=1`: the runtime tells more.
    pub runtime_debug: bool,
    /// `linuxkit.unified_cgroup_hierarchy=0`: version 1 control groups.
    pub cgroup_v1: bool,
    /// Every `console=` device, in order, without its speed.
    pub consoles: Vec<String>,
    /// Options of this program whose value it does not know, to be reported.
    pub unknown: Vec<String>,
}

impl KernelOptions {
    /// Reads /proc/cmdline.
    pub fn read() -> Result<KernelOptions> {
        let path = Path::new("/proc/cmdline");
        Ok(KernelOptions::parse(&String::from_utf8_lossy(&std::fs::read(path).at("reading", path)?)))
    }

    /// Parses a command line. The last of several equal options wins, as in the kernel.
    pub fn parse(line: &str) -> KernelOptions {
        let mut options = KernelOptions::default();
        for word in words(line) {
            let word = unquoted(word);
            let (key, value) = word.split_once('=').map_or((word, ""), |(key, value)| (key, unquoted(value)));
            let known = match (key, value) {
                ("moby.runtime", name) if !name.is_empty() && !name.contains('/') => {
                    options.runtime = Some(name.to_owned());
                    true
                }
                ("moby.onfailure", "continue") => {
                    options.on_failure = None;
                    true
                }
                ("moby.onfailure", value) => ending(value).map(|end| options.on_failure = Some(end)).is_some(),
                ("moby.exit", value) => ending(value).map(|end| options.exit = Some(end)).is_some(),
                ("moby.console", "quiet" | "all") => {
                    options.quiet = value == "quiet";
                    true
                }
                ("moby.exitcode", "isa-debug-exit") => {
                    options.debug_exit = true;
                    true
                }
                ("linuxkit.runc_debug", value) => {
                    options.runtime_debug = value == "1";
                    true
                }
                ("linuxkit.unified_cgroup_hierarchy", value) => {
                    options.cgroup_v1 = value == "0";
                    true
                }
                ("console", value) => {
                    let device = value.split(',').next().unwrap_or_default();
                    if !device.is_empty() && !options.consoles.iter().any(|seen| seen == device) {
                        options.consoles.push(device.to_owned());
                    }
                    true
                }
                // `moby.root.` is stage1's, which ran before; `moby.data.` is that of the component `data`.
                _ => {
                    !key.starts_with("moby.") || ["moby.root.", "moby.data."].iter().any(|start| key.starts_with(start))
                }
            };
            if !known {
                options.unknown.push(word.to_owned());
            }
        }
        options
    }
}

/// The parameters that the command line has for a kernel module: `MODULE.name=value` becomes `name=value`.
/// `-` and `_` are one character in module names.
pub fn module_parameters(line: &str, module: &str) -> String {
    let wanted = module.replace('-', "_");
    let mut parameters = Vec::new();
    for word in words(line) {
        let dot = word.find('.').filter(|dot| word.find('=').is_none_or(|equals| *dot < equals));
        if let Some((name, parameter)) = dot.and_then(|dot| Some((word.get(..dot)?, word.get(dot + 1..)?)))
            && name.replace('-', "_") == wanted
        {
            parameters.push(parameter);
        }
    }
    parameters.join(" ")
}

/// The words before ` -- ` (what follows is for init's arguments). A quoted part may hold spaces.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    line.split(move |character: char| {
        quoted ^= character == '"';
        !quoted && character.is_ascii_whitespace()
    })
    .filter(|word| !word.is_empty())
    .take_while(|word| *word != "--")
}

/// As the kernel does: quotes around a whole word or a whole value are not part of it.
fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').map_or(text, |text| text.strip_suffix('"').unwrap_or(text))
}

fn ending(value: &str) -> Option<Ending> {
    match value {
        "halt" => Some(Ending::Halt),
        "poweroff" => Some(Ending::PowerOff),
        "reboot" => Some(Ending::Reboot),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_option() {
        let options = KernelOptions::parse(
            "console=tty0 console=ttyS0,115200 moby.runtime=runc moby.onfailure=halt moby.exit=poweroff \
             moby.console=quiet moby.exitcode=isa-debug-exit linuxkit.runc_debug=1 quiet\n",
        );
        assert_eq!(options.consoles, ["tty0", "ttyS0"]);
        assert_eq!(options.runtime.as_deref(), Some("runc"));
        assert_eq!((options.on_failure, options.exit), (Some(Ending::Halt), Some(Ending::PowerOff)));
        assert!(options.quiet && options.debug_exit && options.runtime_debug && !options.cgroup_v1);
        assert_eq!(options.unknown, [""; 0]);
    }

    #[test]
    fn reports_its_own_unknown_words_only() {
        let options = KernelOptions::parse(
            "foo=bar moby.root.timeout=5 moby.exit=maybe moby.colour=red moby.runtime=/tmp/x -- moby.x=1",
        );
        assert_eq!(options.unknown, ["moby.exit=maybe", "moby.colour=red", "moby.runtime=/tmp/x"]);
    }

    #[test]
    fn a_later_option_wins() {
        let options =
            KernelOptions::parse("moby.onfailure=halt moby.onfailure=continue moby.console=quiet moby.console=all");
        assert_eq!(options, KernelOptions::default());
    }

    #[test]
    fn quotes_belong_to_no_value() {
        let options = KernelOptions::parse(
            "x=\"moby.exit=halt y\" \"moby.exit=poweroff\" moby.onfailure=\"halt\" console=\"ttyS0,9600\" moby.console=\"a b\"",
        );
        assert_eq!((options.exit, options.on_failure), (Some(Ending::PowerOff), Some(Ending::Halt)));
        assert_eq!((options.consoles, options.unknown.len()), (vec!["ttyS0".to_owned()], 1));
    }

    #[test]
    fn finds_module_parameters() {
        let line = "virtio_net.napi_tx=0 quiet dm-mod.create=\"a b, c\" virtio-net.csum=1 x=y.z";
        assert_eq!(module_parameters(line, "virtio-net"), "napi_tx=0 csum=1");
        assert_eq!(module_parameters(line, "dm_mod"), "create=\"a b, c\"");
        assert_eq!(module_parameters(line, "x=y"), "");
    }
}
