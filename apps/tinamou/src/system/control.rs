//! The control thread: acts on what the guest, signals and monitors ask for.

use crate::system::start::Started;
use device::Cause;
use host::signals::Endings;
use machine::{Event, Events};
use plan::{Plan, RebootAction, ShutdownAction};
use std::process::ExitCode;
use std::sync::mpsc::Receiver;

/// Runs the machine to its end.
pub fn run(plan: &Plan, started: Started, events: &Events, inbox: &Receiver<Event>) -> ExitCode {
    catch_signals(events);
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
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// SIGTERM, SIGINT and SIGHUP end the machine in order.
fn catch_signals(events: &Events) {
    let Ok(mut endings) = Endings::catch() else { return };
    let events = events.clone();
    let watch = move || {
        if let Ok(ending) = endings.wait() {
            eprintln!("terminating on signal {} from pid {}", ending.signal, ending.sender);
            events.send(Event::Shutdown(Cause::HostSignal, 0));
        }
    };
    // Without the thread the signals end the process at once, as they would anyway.
    let _no_thread = std::thread::Builder::new().name("signals".into()).spawn(watch);
}
