//! How far a job is, on the terminal.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// `-p`: a percentage that is overwritten in place. Without it, a line for each SIGUSR1.
pub(crate) struct Meter {
    shown: bool,
    /// Set by SIGUSR1.
    asked: Arc<AtomicBool>,
    /// Hundredths of a percent that were shown last.
    last: Mutex<Option<u64>>,
}

impl Meter {
    /// Shows progress if the user wants it.
    pub fn new(shown: bool) -> Self {
        let asked = Arc::default();
        // Without the signal there is still the work.
        let _ = signal_hook::flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&asked));
        Self { shown, asked, last: Mutex::new(None) }
    }

    /// Ends the line.
    pub fn finish(&self) {
        if self.shown {
            self.show(10_000);
            println!();
        }
    }

    fn show(&self, hundredths: u64) {
        print!("    ({}.{:02}/100%)\r", hundredths / 100, hundredths % 100);
        // Who closed the output does not want to know.
        let _ = std::io::stdout().flush();
    }
}

impl jobs::Progress for Meter {
    fn at(&self, done: u64, total: u64) {
        let hundredths =
            (u128::from(done) * 10_000).checked_div(u128::from(total)).unwrap_or(10_000);
        // At most ten thousand.
        let hundredths = hundredths as u64;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // One percent is what an eye can follow.
        let moved = last.is_none_or(|last| hundredths >= last + 100 || hundredths == 10_000);
        if self.shown && moved && *last != Some(hundredths) {
            self.show(hundredths);
            *last = Some(hundredths);
        }
        if self.asked.swap(false, Ordering::Relaxed) {
            eprintln!("    ({}.{:02}/100%)", hundredths / 100, hundredths % 100);
        }
    }
}
