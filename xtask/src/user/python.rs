//! Python's own tests, as Debian packages them, one file of them at a time.

use super::Bench;
use crate::tools::Result;

/// The name of all of them together.
pub const NAME: &str = "python-tests";

/// Seconds after which a file of tests counts as hanging.
const LIMIT: &str = "1800";

/// A file of Python's tests.
struct File {
    name: &'static str,
    /// Whether it is left to the long form.
    long: bool,
    /// Its tests that are left out, as patterns, and why.
    without: &'static [(&'static str, &'static str)],
}

const FILES: &[File] = &[
    File { name: "test_float", long: false, without: &[] },
    File { name: "test_struct", long: false, without: &[] },
    File { name: "test_mmap", long: false, without: &[] },
    File { name: "test_fork1", long: false, without: &[] },
    File { name: "test_thread", long: false, without: &[] },
    File { name: "test_int", long: true, without: &[] },
    File { name: "test_math", long: true, without: &[] },
    File { name: "test_cmath", long: true, without: &[] },
    File { name: "test_complex", long: true, without: &[] },
    File { name: "test_threading", long: true, without: &[] },
    File { name: "test_signal", long: true, without: &[] },
    File { name: "test_subprocess", long: true, without: &[] },
    File {
        name: "test_socket",
        long: true,
        without: &[("*VSOCK*", "needs a host whose virtual sockets reach itself")],
    },
    File { name: "test_select", long: true, without: &[] },
    File { name: "test_time", long: true, without: &[] },
    File {
        name: "test_os",
        long: true,
        without: &[(
            "test_timerfd_TFD_TIMER_ABSTIME",
            "asks for a timer to be as exact as an idle host's",
        )],
    },
    File { name: "test_re", long: true, without: &[] },
    File { name: "test_hashlib", long: true, without: &[] },
    File { name: "test_multiprocessing_fork.test_processes", long: true, without: &[] },
    File { name: "test_asyncio.test_unix_events", long: true, without: &[] },
    File { name: "test_asyncio.test_subprocess", long: true, without: &[] },
    File { name: "test_asyncio.test_events", long: true, without: &[] },
    File { name: "test_concurrent_futures.test_thread_pool", long: true, without: &[] },
];

/// Runs the files: their names and how they ended.
pub fn all(bench: &Bench<'_>, long: bool) -> Vec<(String, Result<()>)> {
    let files = FILES.iter().filter(|file| long || !file.long);
    files.map(|file| (file.name.to_string(), run(bench, file))).collect()
}

fn run(bench: &Bench<'_>, file: &File) -> Result<()> {
    let without: String =
        file.without.iter().map(|(pattern, _)| format!(" -i '{pattern}'")).collect();
    let script = format!(
        "cd $W; exec $Q $R/usr/bin/python3 -m test -q --timeout 1700{without} {}",
        file.name
    );
    let (mut shell, _work) = bench.shell(&script, LIMIT)?;
    let done = shell.env("LC_ALL", "C.UTF-8").output().map_err(|error| error.to_string())?;
    if done.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    Err(format!("{}\n{text}", done.status))
}
