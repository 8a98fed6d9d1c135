//! A serial port that echoes and a monitor, sharing this terminal as with `-nographic`: type, then
//! Ctrl-A h for help. SIGTERM and its like end it in order; `!` on the serial port aborts it.

use chardev::{Backend, Chardevs, Config, Port, Request, Sink};
use hmp::{Action, InfoRequest, Monitor, MonitorTarget, Session, Space, Unmapped};
use host::signals::Endings;
use std::sync::{Arc, mpsc};

/// Sends back what comes, in upper case.
struct Echo(Port);

impl Sink for Echo {
    fn receive(&self, bytes: &[u8]) -> usize {
        if bytes == b"!" {
            std::process::abort();
        }
        self.0.write(&bytes.to_ascii_uppercase());
        bytes.len()
    }
}

/// A machine that can only be told to quit.
struct Nothing(mpsc::Sender<String>);

impl MonitorTarget for Nothing {
    fn act(&self, action: Action) -> Result<(), String> {
        self.0.send(format!("{action:?}")).map_err(|e| e.to_string())
    }
    fn status(&self) -> String {
        "running".into()
    }
    fn cpus(&self) -> usize {
        1
    }
    fn register(&self, _: usize, _: &str) -> Option<u64> {
        None
    }
    fn read_memory(&self, _: Space, _: u64, _: &mut [u8]) -> Result<(), Unmapped> {
        Err(Unmapped)
    }
    fn translate(&self, _: usize, _: u64) -> Option<u64> {
        None
    }
    fn disassemble(&self, _: usize, _: u64, _: &[u8]) -> Option<(usize, String)> {
        None
    }
    fn info(&self, _: &InfoRequest) -> Result<String, String> {
        Err("there is no machine".into())
    }
    fn read_ring(&self, _: &str, _: usize) -> Option<Vec<u8>> {
        None
    }
}

fn main() -> std::io::Result<()> {
    let (tx, rx) = mpsc::channel();
    let mut endings = Endings::catch()?;
    let from_keys = tx.clone();
    let chardevs = Chardevs::start(1, move |request| {
        if request == Request::Quit {
            let _ = from_keys.send("Quit".to_owned());
        }
    })?;
    let stdio = Backend::Stdio { signal: false };
    chardevs.open(&Config { mux: true, ..Config::new("serial0", stdio) }, &|_| {})?;
    let port = |name| chardevs.port(name).expect("the back end is shared");
    let serial = port("serial0");
    let echo: Arc<dyn Sink> = Arc::new(Echo(serial.clone()));
    serial.attach(&echo);
    let session = Session::new(Arc::new(Nothing(tx.clone())), " (example)");
    let _monitor = Monitor::attach(session, port("serial0"));
    std::thread::spawn(move || {
        while let Ok(ending) = endings.wait() {
            let _ = tx.send(format!("signal {}", ending.signal));
        }
    });
    while let Ok(what) = rx.recv() {
        if what == "Quit" || what.starts_with("signal") {
            drop(chardevs);
            println!("ended by {what}");
            break;
        }
    }
    Ok(())
}
