//! Talking with a program as a person at its terminal would: wait for text,
//! type, wait again.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::tools::{self, Result};

/// How much of the end of the output a failure shows.
const TAIL: usize = 2500;

/// What the program has written so far.
#[derive(Default)]
struct Said {
    bytes: Vec<u8>,
    /// Pipes that are still open.
    open: usize,
}

#[derive(Default)]
struct Screen {
    said: Mutex<Said>,
    changed: Condvar,
}

impl Screen {
    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(self: &Arc<Self>, mut pipe: impl Read + Send + 'static) {
        self.lock().open += 1;
        let screen = Arc::clone(self);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                screen.lock().bytes.extend_from_slice(&buffer[..count]);
                screen.changed.notify_all();
            }
            screen.lock().open -= 1;
            screen.changed.notify_all();
        });
    }
}

/// A running program; it does not outlive this value.
pub struct Session {
    child: Child,
    stdin: ChildStdin,
    screen: Arc<Screen>,
    /// Output before this was waited for already.
    seen: usize,
}

impl Session {
    /// Starts a program with its input and output in our hands.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let name = tools::shown(command);
        let mut child = command.spawn().map_err(|error| format!("{name}: {error}"))?;
        let screen = Arc::new(Screen::default());
        screen.follow(child.stdout.take().expect("stdout is piped"));
        screen.follow(child.stderr.take().expect("stderr is piped"));
        let stdin = child.stdin.take().expect("stdin is piped");
        Ok(Self { child, stdin, screen, seen: 0 })
    }

    /// The program's process number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `text` appears after what was waited for before.
    ///
    /// # Errors
    /// When the program ends first or the time is over; the text holds the end
    /// of what it wrote.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        let mut said = self.screen.lock();
        loop {
            if let Some(at) = find(&said.bytes[self.seen..], text.as_bytes()) {
                self.seen += at + text.len();
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if said.open == 0 || left.is_zero() {
                let why = if said.open == 0 { "the program ended" } else { "time is over" };
                return Err(format!("waiting for '{text}': {why}\n{}", tail(&said.bytes)));
            }
            let waited = self.screen.changed.wait_timeout(said, left);
            said = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Types `text`.
    ///
    /// # Errors
    /// When the program does not listen any more.
    pub fn send(&mut self, text: &str) -> Result<()> {
        let done = self.stdin.write_all(text.as_bytes()).and_then(|()| self.stdin.flush());
        done.map_err(|error| format!("typing {text:?}: {error}\n{}", self.tail()))
    }

    /// Waits until the program has ended.
    ///
    /// # Errors
    /// When it does not within the time.
    pub fn wait_for_end(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
                Ok(None) => return Err(format!("it does not end\n{}", self.tail())),
                Err(error) => return Err(format!("waiting for the end: {error}")),
            }
        }
    }

    /// Everything it wrote so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().bytes).into_owned()
    }

    /// The end of what it wrote, each line marked.
    pub fn tail(&self) -> String {
        tail(&self.screen.lock().bytes)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Either fails when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}

fn tail(bytes: &[u8]) -> String {
    let from = bytes.len().saturating_sub(TAIL);
    let text = String::from_utf8_lossy(&bytes[from..]);
    text.lines().map(|line| format!("    | {}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Session {
        Session::start(Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn a_conversation_goes_to_and_fro() {
        let mut session = shell("echo name?; read name; echo hello $name; exit 3");
        session.wait_for("name?\n", LIMIT).unwrap();
        session.send("world\n").unwrap();
        session.wait_for("hello world", LIMIT).unwrap();
        assert_eq!(session.wait_for_end(LIMIT).unwrap().code(), Some(3));
    }

    #[test]
    fn text_that_was_waited_for_does_not_count_again() {
        let mut session = shell("echo once");
        session.wait_for("once", LIMIT).unwrap();
        let told = session.wait_for("once", LIMIT).unwrap_err();
        assert!(told.contains("the program ended") && told.contains("| once"), "{told}");
    }
}
