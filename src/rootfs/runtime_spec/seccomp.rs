//! The seccomp profile of `security: strict`: what Docker's default profile allows, without io_uring.
//!
//! Everything that is not named is refused with EPERM. A capability opens the system calls that need it.

use super::process::Capabilities;
use crate::Arch;
use crate::blueprint::{MapBuilder, Value};

/// clone(2) flags that make namespaces: all `CLONE_NEW*` but that for time, which clone cannot make.
const CLONE_NEW: i128 = 0x7e02_0000;
/// ENOSYS: makes C libraries fall back from clone3, whose flags a filter cannot see, to clone.
const ENOSYS: i128 = 38;
const EPERM: i128 = 1;
/// The address family of virtual machine sockets, which no namespace confines.
const AF_VSOCK: i128 = 40;
/// personality(2): Linux, Linux with 32-bit uname, both without address randomisation switched off, and asking.
const PERSONALITIES: [i128; 5] = [0x0, 0x8, 0x20000, 0x20008, 0xffff_ffff];

/// Allowed always, by what they work on. Names that an architecture does not have are skipped by the runtimes.
const ALWAYS: &[&str] = &[
    // Processes and threads.
    "execve execveat exit exit_group fork vfork wait4 waitid waitpid kill tkill tgkill pause rt_sigqueueinfo",
    "rt_tgsigqueueinfo pidfd_open pidfd_send_signal process_mrelease set_tid_address set_robust_list get_robust_list",
    "set_thread_area get_thread_area rseq restart_syscall prctl seccomp ptrace process_vm_readv process_vm_writev",
    "getpid getppid gettid getpgid getpgrp setpgid getsid setsid getcpu membarrier",
    "landlock_add_rule landlock_create_ruleset landlock_restrict_self",
    // Users, groups, capabilities.
    "getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getgroups getgroups32 getresuid getresuid32",
    "getresgid getresgid32 setuid setuid32 setgid setgid32 setgroups setgroups32 setreuid setreuid32 setregid",
    "setregid32 setresuid setresuid32 setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32 capget capset",
    // Scheduling and limits.
    "sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler",
    "sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam",
    "sched_setscheduler sched_yield getpriority setpriority ioprio_get ioprio_set getrlimit setrlimit ugetrlimit",
    "prlimit64 getrusage times sysinfo uname umask",
    // Signals.
    "rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64",
    "sigaltstack sigprocmask sigreturn signalfd signalfd4",
    // Time.
    "alarm adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64",
    "clock_nanosleep clock_nanosleep_time64 nanosleep gettimeofday time getitimer setitimer timer_create timer_delete",
    "timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime",
    "timerfd_gettime64 timerfd_settime timerfd_settime64",
    // Memory.
    "brk mmap mmap2 munmap mremap mprotect madvise mincore msync mlock mlock2 mlockall munlock munlockall memfd_create",
    "memfd_secret mseal map_shadow_stack pkey_alloc pkey_free pkey_mprotect remap_file_pages",
    "futex futex_time64 futex_waitv futex_wait futex_wake futex_requeue",
    // Files by descriptor.
    "read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 readahead lseek _llseek close close_range",
    "dup dup2 dup3 fcntl fcntl64 flock fsync fdatasync sync syncfs sync_file_range ftruncate ftruncate64 fallocate",
    "fadvise64 fadvise64_64 copy_file_range sendfile sendfile64 splice tee vmsplice ioctl pipe pipe2 cachestat",
    "select _newselect pselect6 pselect6_time64 poll ppoll ppoll_time64 epoll_create epoll_create1 epoll_ctl",
    "epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 inotify_init inotify_init1",
    "inotify_add_watch inotify_rm_watch fanotify_mark io_setup io_submit io_cancel io_destroy io_getevents",
    "io_pgetevents io_pgetevents_time64",
    // Files by name.
    "open openat openat2 creat access faccessat faccessat2 stat stat64 lstat lstat64 fstat fstat64 fstatat64 newfstatat",
    "statx statfs statfs64 fstatfs fstatfs64 chdir fchdir getcwd getdents getdents64 mkdir mkdirat rmdir mknod mknodat",
    "link linkat symlink symlinkat readlink readlinkat rename renameat renameat2 unlink unlinkat truncate truncate64",
    "chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 fchownat lchown lchown32 utime utimes utimensat",
    "utimensat_time64 futimesat name_to_handle_at getxattr lgetxattr fgetxattr setxattr lsetxattr fsetxattr listxattr",
    "llistxattr flistxattr removexattr lremovexattr fremovexattr getxattrat setxattrat listxattrat removexattrat",
    // Sockets and System V and POSIX communication.
    "socketcall socketpair bind listen accept accept4 connect shutdown getsockname getpeername getsockopt setsockopt",
    "send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64 ipc msgctl msgget msgrcv msgsnd semctl",
    "semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget mq_open mq_unlink mq_notify mq_getsetattr",
    "mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 getrandom",
];

/// Allowed with a capability.
const WITH_CAPABILITY: &[(&str, &str)] = &[
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick listmount lookup_dcookie mount mount_setattr \
         move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns statmount syslog \
         umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module finit_module init_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("CAP_SYS_RAWIO", "ioperm iopl"),
    ("CAP_SYS_TIME", "clock_settime clock_settime64 settimeofday stime"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
    ("CAP_PERFMON", "perf_event_open"),
];

fn own(arch: Arch) -> (&'static str, &'static [&'static str]) {
    match arch {
        Arch::Amd64 => ("arch_prctl modify_ldt", &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
        Arch::Arm64 => (
            "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
            &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        ),
    }
}

/// `linux.seccomp` for an architecture and the capabilities of a container.
pub fn profile(arch: Arch, capabilities: &Capabilities) -> Value {
    let (calls, architectures) = own(arch);
    let mut always: Vec<&str> = ALWAYS.iter().flat_map(|line| line.split_whitespace()).collect();
    always.extend(calls.split_whitespace());
    for (capability, calls) in WITH_CAPABILITY {
        if capabilities.has(capability) {
            always.extend(calls.split_whitespace());
        }
    }
    always.sort_unstable();
    always.dedup();

    let mut rules = vec![rule(&always, None)];
    rules.push(rule(&["socket"], Some(condition(AF_VSOCK, None, "SCMP_CMP_NE"))));
    for personality in PERSONALITIES {
        rules.push(rule(&["personality"], Some(condition(personality, None, "SCMP_CMP_EQ"))));
    }
    if !capabilities.has("CAP_SYS_ADMIN") {
        rules.push(rule(&["clone"], Some(condition(CLONE_NEW, Some(0), "SCMP_CMP_MASKED_EQ"))));
        let mut refused = MapBuilder::default();
        refused.put("names", Value::texts(["clone3"])).put("action", Value::text("SCMP_ACT_ERRNO"));
        rules.push(refused.put("errnoRet", Value::Integer(ENOSYS)).build());
    }
    let mut map = MapBuilder::default();
    map.put("defaultAction", Value::text("SCMP_ACT_ERRNO")).put("defaultErrnoRet", Value::Integer(EPERM));
    map.put("architectures", Value::texts(architectures)).put("syscalls", Value::List(rules));
    map.build()
}

fn rule(names: &[&str], condition: Option<Value>) -> Value {
    let mut map = MapBuilder::default();
    map.put("names", Value::texts(names)).put("action", Value::text("SCMP_ACT_ALLOW"));
    map.maybe("args", condition.map(|condition| Value::List(vec![condition]))).build()
}

/// A condition on the first argument.
fn condition(value: i128, second: Option<i128>, operator: &str) -> Value {
    let mut map = MapBuilder::default();
    map.put("index", Value::Integer(0)).put("value", Value::Integer(value));
    map.maybe("valueTwo", second.map(Value::Integer)).put("op", Value::text(operator)).build()
}
