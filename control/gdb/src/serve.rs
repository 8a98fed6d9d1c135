//! The protocol on a connection.

use crate::packet::{Decoder, Input, frame};
use crate::session::{Reply, Session};
use crate::target::{Stop, Target};
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, Sender, channel};

/// What the thread of the protocol waits for.
enum Heard {
    Input(Input),
    Stop(Stop),
    /// The connection ended.
    Gone,
}

/// Tells of a target's stop, from any thread.
#[derive(Clone)]
pub struct Notifier(Sender<Heard>);

impl Notifier {
    /// The target has stopped, as it was asked or by itself.
    pub fn stopped(&self, stop: Stop) {
        // A debugger that is gone does not want to know.
        let _ = self.0.send(Heard::Stop(stop));
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The debugger said goodbye: it let the target go, or ended it.
    Left,
    /// The connection broke, while the target stood.
    LostStopped,
    /// The connection broke, while the target ran.
    LostRunning,
    /// The target ended.
    TargetGone,
}

/// Serves a debugger until it leaves, the connection breaks, or the target ends. The target stands when this
/// begins. `from` must end when the connection does; it is read on a thread of its own.
///
/// # Errors
/// The connection cannot be written to, or the host has no more threads.
pub fn serve(
    target: &mut dyn Target,
    from: impl Read + Send + 'static,
    to: impl Write,
) -> io::Result<Ended> {
    let (sender, heard) = channel();
    target.attached(Notifier(sender.clone()));
    std::thread::Builder::new().name("gdb".to_owned()).spawn(move || listen(from, &sender))?;
    Connection { to, session: Session::default(), last: Vec::new() }.run(target, &heard)
}

/// Reads until the connection ends or nobody listens.
fn listen(mut from: impl Read, to: &Sender<Heard>) {
    let mut decoder = Decoder::default();
    let mut bytes = [0; 4096];
    loop {
        let count = match from.read(&mut bytes) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        for input in bytes[..count].iter().filter_map(|&byte| decoder.push(byte)) {
            if to.send(Heard::Input(input)).is_err() {
                return;
            }
        }
    }
    // Nobody listens any more: nothing is lost.
    let _ = to.send(Heard::Gone);
}

struct Connection<W> {
    to: W,
    session: Session,
    /// What was sent last, in case it does not arrive.
    last: Vec<u8>,
}

impl<W: Write> Connection<W> {
    fn run(&mut self, target: &mut dyn Target, heard: &Receiver<Heard>) -> io::Result<Ended> {
        let mut running = false;
        loop {
            match heard.recv().unwrap_or(Heard::Gone) {
                Heard::Gone if running => return Ok(Ended::LostRunning),
                Heard::Gone => return Ok(Ended::LostStopped),
                Heard::Input(Input::Ack) => {}
                Heard::Input(Input::Nack) => {
                    self.to.write_all(&self.last)?;
                    self.to.flush()?;
                }
                Heard::Input(Input::Damaged) => self.acknowledge(b"-")?,
                Heard::Input(Input::Interrupt) if running => target.interrupt(),
                Heard::Input(Input::Interrupt) => {}
                // Nobody asks a running target anything, but to stop.
                Heard::Input(Input::Packet(_)) if running => self.acknowledge(b"+")?,
                Heard::Input(Input::Packet(payload)) => {
                    self.acknowledge(b"+")?;
                    match self.session.handle(target, &payload) {
                        Reply::Payload(payload) => self.send(&payload)?,
                        Reply::Running => running = true,
                        Reply::Farewell(payload) => {
                            // Whoever ends a target may be gone by now.
                            let _ = self.send(&payload);
                            return Ok(Ended::Left);
                        }
                    }
                }
                // It stopped before it was told that it is to be left alone.
                Heard::Stop(_) if !running => {}
                Heard::Stop(stop) => {
                    running = false;
                    let reply = self.session.stopped(target, &stop);
                    self.send(&reply)?;
                    if stop.thread().is_none() {
                        return Ok(Ended::TargetGone);
                    }
                }
            }
        }
    }

    fn acknowledge(&mut self, byte: &[u8]) -> io::Result<()> {
        if self.session.is_quiet() {
            return Ok(());
        }
        self.to.write_all(byte)?;
        self.to.flush()
    }

    fn send(&mut self, payload: &[u8]) -> io::Result<()> {
        self.last = frame(payload);
        self.to.write_all(&self.last)?;
        self.to.flush()
    }
}
