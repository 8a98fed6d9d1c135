//! `qemu-system-riscv64`: from arguments to the end of the machine.

mod catalog;
mod control;
mod disks;
mod files;
mod identity;
mod lent;
mod life;
mod monitor;
mod process;
mod show;
mod start;
mod testing;
mod views;

use host::daemon::{self, Side};
use plan::{Environment, Outcome, Plan};
use process::PidFile;
use std::process::ExitCode;

/// Runs a system emulator called `program`.
pub fn run(program: &str, args: &[String]) -> ExitCode {
    let catalog = catalog::Riscv64;
    let read = |path: &str| std::fs::read_to_string(path);
    let env = Environment { program, catalog: &catalog, read: &read };
    let plan = match plan::plan(&env, args) {
        Ok(Outcome::Print(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Ok(Outcome::Run(plan)) => plan,
        Err(refusal) => {
            eprintln!("{}", refusal.report(program).trim_end());
            return ExitCode::FAILURE;
        }
    };
    match run_plan(program, *plan) {
        Ok(code) => code,
        Err(problem) => {
            eprintln!("{program}: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run_plan(program: &str, plan: Plan) -> Result<ExitCode, String> {
    let waiting = match plan.daemonize.then(daemon::split).transpose() {
        Ok(None) => None,
        Ok(Some(Side::Front(code))) => return Ok(code),
        Ok(Some(Side::Back(waiting))) => Some(waiting),
        Err(e) => return Err(format!("-daemonize: {}", show::plain(&e))),
    };
    process::set_name(plan.process.as_deref());
    for warning in &plan.warnings {
        eprintln!("{program}: {warning}");
    }
    configure_log(&plan)?;
    let _pid_file = plan.pidfile.as_deref().map(PidFile::create).transpose()?;
    let (events, inbox) = machine::Events::channel();
    let started = start::start(program, &plan, &events)?;
    let Some(started) = started else { return Ok(ExitCode::SUCCESS) };
    if let Some(waiting) = waiting {
        waiting.release().map_err(|e| format!("-daemonize: {}", show::plain(&e)))?;
    }
    Ok(control::run(&plan, started, inbox))
}

fn configure_log(plan: &Plan) -> Result<(), String> {
    let open = |name: &String| {
        let name = name.replace("%d", &std::process::id().to_string());
        std::fs::File::create(&name).map_err(|e| format!("-D {name}: {}", show::plain(&e)))
    };
    let file = plan.log.file.as_ref().map(open).transpose()?;
    trace::set_filter(plan.log.ranges.clone());
    trace::configure(&plan.log.items, file);
    Ok(())
}
