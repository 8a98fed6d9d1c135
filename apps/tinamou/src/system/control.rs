//! The control thread: acts on what the guest, signals and monitors ask for.

use crate::system::life::{Life, Phase};
use crate::system::start::Started;
use device::Cause;
use host::signals::{Ending, Endings};
use machine::{Event, Events, Machine};
use plan::{Plan, RebootAction, ShutdownAction};
use std::process::ExitCode;
use std::sync::mpsc::Receiver;

/// Runs the machine to its end.
pub fn run(plan: &Plan, started: Started, inbox: Receiver<Event>) -> ExitCode {
    started.chardevs.release();
    let (machine, life) = (&started.machine, &started.life);
    if !plan.stopped {
        // A machine that was just made can run.
        let _can_run = life.resume(machine);
    }
    let mut code = 0;
    while let Ok(event) = inbox.recv() {
        if let Some(status) = act(plan, machine, life, event) {
            code = status;
            break;
        }
    }
    // Monitors that wait for an answer learn that there will be none.
    drop(inbox);
    machine.pause();
    started.disks.flush();
    host::terminal::restore();
    // As the host cuts off any exit code.
    ExitCode::from(code as u8)
}

/// Does what an event asks for; the exit code when it ends the process.
fn act(plan: &Plan, machine: &Machine, life: &Life, event: Event) -> Option<u32> {
    match event {
        Event::Shutdown(cause, status) => {
            let guest = matches!(cause, Cause::GuestShutdown | Cause::GuestPanic);
            if !guest || plan.actions.shutdown != ShutdownAction::Pause {
                return Some(status);
            }
            life.pause(machine, Phase::Shutdown);
        }
        Event::Reset(cause) => {
            let whole = cause != Cause::SubsystemReset;
            if whole && plan.actions.reboot == RebootAction::Shutdown {
                if plan.actions.shutdown != ShutdownAction::Pause {
                    return Some(0);
                }
                life.pause(machine, Phase::Shutdown);
            } else {
                life.reset(machine);
            }
        }
        Event::Do(act) => act(machine),
    }
    None
}

/// SIGTERM, SIGINT and SIGHUP end the machine in order.
pub fn catch_signals(program: &str, events: &Events) {
    let Ok(mut endings) = Endings::catch() else { return };
    let (events, program) = (events.clone(), program.to_owned());
    let watch = move || {
        if let Ok(ending) = endings.wait() {
            eprintln!("{program}: terminating on signal {}", describe(ending));
            events.send(Event::Shutdown(Cause::HostSignal, 0));
        }
    };
    // Without the thread the signals end the process at once, as they would anyway.
    let _no_thread = std::thread::Builder::new().name("signals".into()).spawn(watch);
}

/// The signal, and the process that sent it if one did.
fn describe(Ending { signal, sender }: Ending) -> String {
    if sender == 0 {
        return signal.to_string();
    }
    let command = std::fs::read(format!("/proc/{sender}/cmdline")).unwrap_or_default();
    let name = String::from_utf8_lossy(command.split(|b| *b == 0).next().unwrap_or_default());
    let name = if name.is_empty() { "<unknown process>".into() } else { name };
    format!("{signal} from pid {sender} ({name})")
}
