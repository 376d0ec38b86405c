//! Services: containers that are kept running.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::bundle::Bundle;
use crate::console::say;
use crate::containers::{self, Running, name_of, seconds};
use crate::error::Result;
use crate::kernel_options::KernelOptions;
use crate::logs::LogPlace;
use crate::runtime::OciRuntime;
use crate::supervisor::{Exit, Supervisor};

/// The first pause before a restart; each failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A service that ran this long starts again with the first pause.
const STEADY: Duration = Duration::from_secs(60);

/// One service.
#[derive(Debug)]
struct Service {
    name: String,
    bundle: Bundle,
    log: LogPlace,
    prepared: bool,
    restarts: u32,
    pause: Duration,
    state: State,
}

#[derive(Debug)]
enum State {
    Waiting { until: Instant },
    Running { container: Running, since: Instant },
    Ended,
}

/// All services of the image.
#[derive(Debug)]
pub struct Services {
    runtime: OciRuntime,
    services: Vec<Service>,
}

impl Services {
    /// Reads /containers/services. `None` if there are none.
    pub fn read(options: &KernelOptions) -> Result<Option<Services>> {
        let bundles = containers::section("services");
        if bundles.is_empty() {
            return Ok(None);
        }
        let runtime = OciRuntime::find(options.runtime.as_deref(), options.runtime_debug)?;
        let mut services = Vec::new();
        for path in bundles {
            let name = name_of(&path);
            match Bundle::read(&path) {
                Err(failure) => say(&format!("service {name}: not started: {failure}")),
                Ok(bundle) => services.push(Service {
                    log: LogPlace {
                        folder: PathBuf::from("/var/log"),
                        name: name.clone(),
                        console: (!options.quiet).then(|| name.clone()),
                    },
                    name,
                    bundle,
                    prepared: false,
                    restarts: 0,
                    pause: FIRST_PAUSE,
                    state: State::Waiting { until: Instant::now() },
                }),
            }
        }
        Ok(Some(Services { runtime, services }))
    }

    /// Starts what is due, and deals with what has ended. Returns how long nothing will have to be done, unless
    /// something happens; `None` is for ever.
    pub fn turn(&mut self, supervisor: &mut Supervisor) -> Option<Duration> {
        for service in &mut self.services {
            if supervisor.request().is_some() {
                return Some(Duration::ZERO);
            }
            service.turn(supervisor, &self.runtime);
        }
        let now = Instant::now();
        let due = |service: &Service| match service.state {
            State::Waiting { until } => Some(until.saturating_duration_since(now)),
            _ => None,
        };
        self.services.iter().filter_map(due).min()
    }

    /// Whether every service has ended for good.
    pub fn all_ended(&self) -> bool {
        self.services.iter().all(|service| matches!(service.state, State::Ended))
    }
}

impl Service {
    fn turn(&mut self, supervisor: &mut Supervisor, runtime: &OciRuntime) {
        match &self.state {
            State::Ended => {}
            State::Waiting { until } if Instant::now() < *until => {}
            State::Waiting { .. } => self.start(supervisor, runtime),
            State::Running { container, since } => {
                if let Some(exit) = supervisor.take_exit(container.pid) {
                    let (id, ran) = (container.id().to_owned(), since.elapsed());
                    containers::delete(supervisor, runtime, &id);
                    self.ended(exit, ran);
                }
            }
        }
    }

    fn start(&mut self, supervisor: &mut Supervisor, runtime: &OciRuntime) {
        let begin = Instant::now();
        if !self.prepared {
            if let Err(failure) = self.bundle.prepare() {
                return self.failed(&failure.to_string());
            }
            self.prepared = true;
        }
        match containers::start(supervisor, runtime, &self.bundle, &self.name, &self.log) {
            Ok(Ok(container)) => {
                say(&format!("service {}: started in {}", self.name, seconds(begin.elapsed())));
                self.state = State::Running { container, since: Instant::now() };
            }
            // The machine stops: what was created goes with everything else.
            Ok(Err(_)) => self.state = State::Ended,
            Err(failure) => {
                containers::delete(supervisor, runtime, &self.name);
                self.failed(&failure.to_string());
            }
        }
    }

    /// A service that ends with status 0 has done what it was for; anything else is a failure.
    fn ended(&mut self, exit: Exit, ran: Duration) {
        if exit == Exit::Status(0) {
            say(&format!("service {}: {exit} after {}, done", self.name, seconds(ran)));
            self.state = State::Ended;
            self.bundle.release();
            return;
        }
        if ran >= STEADY {
            self.pause = FIRST_PAUSE;
        }
        self.failed(&format!("{exit} after {}", seconds(ran)));
    }

    fn failed(&mut self, what: &str) {
        self.restarts = self.restarts.saturating_add(1);
        let pause = self.pause;
        say(&format!("service {}: {what}; restart {} in {} s", self.name, self.restarts, pause.as_secs()));
        self.state = State::Waiting { until: Instant::now() + pause };
        self.pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> Service {
        Service {
            name: "test".into(),
            bundle: Bundle::read(&std::env::temp_dir().join("moby-init-no-such-bundle")).unwrap(),
            log: LogPlace { folder: PathBuf::new(), name: String::new(), console: None },
            prepared: true,
            restarts: 0,
            pause: FIRST_PAUSE,
            state: State::Ended,
        }
    }

    fn pause(service: &Service) -> u64 {
        match service.state {
            State::Waiting { until } => until.saturating_duration_since(Instant::now()).as_secs_f64().round() as u64,
            _ => panic!("not waiting"),
        }
    }

    #[test]
    fn failures_wait_longer_and_longer() {
        let mut service = service();
        let pauses: Vec<u64> = (0..8)
            .map(|_| {
                service.ended(Exit::Status(1), Duration::from_secs(1));
                pause(&service)
            })
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        service.ended(Exit::Signal(9), STEADY);
        assert_eq!(pause(&service), 1);
    }

    #[test]
    fn success_is_the_end() {
        let mut service = service();
        service.ended(Exit::Status(0), Duration::from_secs(1));
        assert!(matches!(service.state, State::Ended));
    }
}
