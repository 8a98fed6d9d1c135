//! The control thread: acts on what the guest, signals and monitors ask for.

use crate::system::start::Started;
use device::Cause;
use host::signals::{Ending, Endings};
use machine::{Event, Events};
use plan::{Plan, RebootAction, ShutdownAction};
use std::process::ExitCode;
use std::sync::mpsc::Receiver;

/// Runs the machine to its end.
pub fn run(
    program: &str,
    plan: &Plan,
    started: Started,
    events: &Events,
    inbox: &Receiver<Event>,
) -> ExitCode {
    catch_signals(program, events);
    let machine = &started.machine;
    if !plan.stopped {
        machine.resume();
    }
    let mut code = 0;
    while let Ok(event) = inbox.recv() {
        match event {
            Event::Shutdown(cause, status) => {
                let guest = matches!(cause, Cause::GuestShutdown | Cause::GuestPanic);
                if guest && plan.actions.shutdown == ShutdownAction::Pause {
                    machine.pause();
                    continue;
                }
                code = status;
                break;
            }
            Event::Reset(cause) => {
                let guest = cause == Cause::GuestReset;
                if guest && plan.actions.reboot == RebootAction::Shutdown {
                    break;
                }
                machine.reset();
            }
            Event::Do(act) => act(machine),
        }
    }
    machine.pause();
    started.disks.flush();
    host::terminal::restore();
    // As the host cuts off any exit code.
    ExitCode::from(code as u8)
}

/// SIGTERM, SIGINT and SIGHUP end the machine in order.
fn catch_signals(program: &str, events: &Events) {
    let Ok(mut endings) = Endings::catch() else { return };
    let (program, events) = (program.to_owned(), events.clone());
    let watch = move || {
        if let Ok(ending) = endings.wait() {
            eprintln!("{program}: {}", describe(ending));
            events.send(Event::Shutdown(Cause::HostSignal, 0));
        }
    };
    // Without the thread the signals end the process at once, as they would anyway.
    let _no_thread = std::thread::Builder::new().name("signals".into()).spawn(watch);
}

/// What ends the machine, with the name of who sent it.
fn describe(Ending { signal, sender }: Ending) -> String {
    if sender == 0 {
        return format!("terminating on signal {signal}");
    }
    let line = std::fs::read(format!("/proc/{sender}/cmdline")).unwrap_or_default();
    let name = line.split(|byte| *byte == 0).next().filter(|name| !name.is_empty());
    let name = name.map_or("<unknown process>".into(), String::from_utf8_lossy);
    format!("terminating on signal {signal} from pid {sender} ({name})")
}
