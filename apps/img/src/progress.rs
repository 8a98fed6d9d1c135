//! How far a job is, on the terminal.

use crate::args::Args;
use crate::{Failure, Invocation, text};
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// Not at all.
    Hidden,
    /// QEMU's: a percentage on standard output that is overwritten in place.
    Percent,
    /// A line on the terminal (standard error) with a bar, the rate and what is left.
    Bar,
    /// Now and then a line on standard error, for logs.
    Lines,
    /// An object on a line of its own on standard error, for programs.
    Json,
}

/// Between two updates of a bar or two JSON objects.
const OFTEN: Duration = Duration::from_millis(100);
/// Between two lines of a log.
const SELDOM: Duration = Duration::from_secs(10);

/// Shows how far a job is; whatever the style, SIGUSR1 gets a line with a percentage.
pub(crate) struct Meter {
    style: Style,
    operation: &'static str,
    /// Set by SIGUSR1.
    asked: Arc<AtomicBool>,
    shown: Mutex<Shown>,
}

/// What was shown last.
#[derive(Default)]
struct Shown {
    /// Hundredths of a percent.
    hundredths: Option<u64>,
    at: Option<Instant>,
    /// When the job began, and what was done then.
    begun: Option<(Instant, u64)>,
    /// Done and in all, as heard last.
    heard: (u64, u64),
    finished: bool,
}

impl Invocation {
    /// What shows the progress of this command, as its options want it.
    pub fn meter(&self, args: &Args) -> Result<Meter, Failure> {
        let style = if args.has("quiet") {
            Style::Hidden
        } else if self.is_own() {
            let terminal = std::io::stderr().is_terminal();
            match args.value("progress") {
                None | Some("") | Some("bar") if terminal => Style::Bar,
                None | Some("none") => Style::Hidden,
                Some("" | "bar") => Style::Lines,
                Some("json") => Style::Json,
                Some(other) => {
                    let text = format!("--progress expects 'bar', 'json' or 'none', not '{other}'");
                    return Err(self.usage(text));
                }
            }
        } else if args.has("progress") {
            Style::Percent
        } else {
            Style::Hidden
        };
        Ok(Meter::new(style, self.command))
    }
}

impl Meter {
    fn new(style: Style, operation: &'static str) -> Self {
        let asked = Arc::default();
        // Without the signal there is still the work.
        let _ = signal_hook::flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&asked));
        Self { style, operation, asked, shown: Mutex::default() }
    }

    /// Shows that all is done.
    pub fn finish(&self) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.heard.0 = shown.heard.1;
        shown.finished = true;
        match self.style {
            Style::Hidden => {}
            Style::Percent => {
                percent(10_000);
                println!();
            }
            Style::Bar => eprintln!("\r{}", self.pace(&shown).bar()),
            Style::Lines => eprintln!("{}: {}", self.operation, self.pace(&shown).line()),
            Style::Json => eprintln!("{}", self.pace(&shown).json(self.operation, true)),
        }
    }

    /// Ends what is shown before the end is reached.
    pub fn end(&self) {
        if self.style == Style::Percent {
            println!();
        }
    }

    fn pace(&self, shown: &Shown) -> Pace {
        let (done, total) = shown.heard;
        let (elapsed, before) =
            shown.begun.map_or((Duration::ZERO, 0), |(at, before)| (at.elapsed(), before));
        Pace { done, total, elapsed: elapsed.as_secs_f64(), moved: done.saturating_sub(before) }
    }
}

impl Drop for Meter {
    /// What follows a bar that did not reach its end begins a line.
    fn drop(&mut self) {
        let shown = self.shown.get_mut().unwrap_or_else(PoisonError::into_inner);
        if self.style == Style::Bar && shown.at.is_some() && !shown.finished {
            eprintln!();
        }
    }
}

fn percent(hundredths: u64) {
    print!("    ({}.{:02}/100%)\r", hundredths / 100, hundredths % 100);
    // Who closed the output does not want to know.
    let _ = std::io::stdout().flush();
}

impl jobs::Progress for Meter {
    fn at(&self, done: u64, total: u64) {
        let hundredths = hundredths(done, total);
        if self.asked.swap(false, Ordering::Relaxed) {
            eprintln!("    ({}.{:02}/100%)", hundredths / 100, hundredths % 100);
        }
        if self.style == Style::Hidden {
            return;
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        shown.begun.get_or_insert((now, done));
        // Workers report in any order.
        shown.heard = (done.max(shown.heard.0), total);
        let due = |pause| shown.at.is_none_or(|at: Instant| now.duration_since(at) >= pause);
        match self.style {
            Style::Hidden => return,
            Style::Percent => {
                // One percent is what an eye can follow.
                let last = shown.hundredths;
                let moved =
                    last.is_none_or(|last| hundredths >= last + 100 || hundredths == 10_000);
                if moved && last != Some(hundredths) {
                    percent(hundredths);
                    shown.hundredths = Some(hundredths);
                }
                return;
            }
            Style::Bar if due(OFTEN) => eprint!("\r{}", self.pace(&shown).bar()),
            Style::Lines if due(SELDOM) => {
                eprintln!("{}: {}", self.operation, self.pace(&shown).line());
            }
            Style::Json if due(OFTEN) => {
                eprintln!("{}", self.pace(&shown).json(self.operation, false));
            }
            _ => return,
        }
        shown.at = Some(now);
    }
}

/// Hundredths of a percent.
fn hundredths(done: u64, total: u64) -> u64 {
    // At most ten thousand.
    (u128::from(done) * 10_000).checked_div(u128::from(total)).unwrap_or(10_000) as u64
}

/// How far a job is and how fast it got there.
struct Pace {
    done: u64,
    total: u64,
    /// Seconds.
    elapsed: f64,
    /// Units done in that time: what an earlier run did is not of this one's speed.
    moved: u64,
}

impl Pace {
    /// Units per second; not known at the very beginning.
    fn rate(&self) -> Option<f64> {
        (self.elapsed > 0.05 && self.moved > 0).then(|| self.moved as f64 / self.elapsed)
    }

    /// Seconds that are left at this rate.
    fn left(&self) -> Option<u64> {
        self.rate().map(|rate| (self.total.saturating_sub(self.done) as f64 / rate).ceil() as u64)
    }

    /// `1.5 GiB of 4 GiB, 312 MiB/s, 0:08 left`
    fn line(&self) -> String {
        let mut words = format!("{} of {}", text::size(self.done), text::size(self.total));
        if let Some(rate) = self.rate() {
            words.push_str(&format!(", {}/s", text::size(rate as u64)));
        }
        match self.left() {
            _ if self.done >= self.total => {
                words.push_str(&format!(", took {}", clock(self.elapsed as u64)));
            }
            Some(left) => words.push_str(&format!(", {} left", clock(left))),
            None => {}
        }
        words
    }

    /// The same behind a bar, as long as every other: what was there before is overwritten.
    fn bar(&self) -> String {
        const WIDTH: u64 = 24;
        let hundredths = hundredths(self.done, self.total);
        let full = (hundredths * WIDTH / 10_000) as usize;
        let bar = "=".repeat(full) + &" ".repeat(WIDTH as usize - full);
        format!("{:>3}% [{bar}] {:<46}", hundredths / 100, self.line())
    }

    fn json(&self, operation: &str, finished: bool) -> String {
        json!({
            "operation": operation,
            "done": self.done,
            "total": self.total,
            "percent": hundredths(self.done, self.total) as f64 / 100.0,
            "elapsed": (self.elapsed * 1000.0).round() / 1000.0,
            "rate": self.rate().map(|rate| rate as u64),
            "left": self.left(),
            "finished": finished,
        })
        .to_string()
    }
}

/// `1:02:03`, `2:03`
fn clock(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_rate_and_time_left() {
        let half = Pace { done: 3 << 30, total: 4 << 30, elapsed: 10.0, moved: 1 << 30 };
        assert_eq!(half.line(), "3 GiB of 4 GiB, 102 MiB/s, 0:10 left");
        assert!(half.bar().starts_with(" 75% [==================      ] 3 GiB of 4 GiB"));
        let end = Pace { done: 1 << 20, total: 1 << 20, elapsed: 3723.0, moved: 1 << 20 };
        assert!(end.line().ends_with("took 1:02:03"), "{}", end.line());
    }

    #[test]
    fn nothing_is_divided_by_nothing() {
        let none = Pace { done: 0, total: 0, elapsed: 0.0, moved: 0 };
        assert!(none.bar().starts_with("100%"));
        let json: serde_json::Value =
            serde_json::from_str(&none.json("convert", false)).expect("it is JSON");
        assert_eq!((&json["rate"], &json["percent"]), (&serde_json::Value::Null, &json!(100.0)));
    }
}
