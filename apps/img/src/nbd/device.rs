//! `--connect` and `--disconnect`: the kernel's client, which shows the image as `/dev/nbdN`.

use crate::Failure;
use host::daemon::Waiting;
use host::nbd as kernel;
use host::signals::Endings;
use nbd::{Export, Stream};
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Bytes of the blocks that the device counts in.
const BLOCK: u32 = 512;

/// How often, and after what pauses, to look whether a device is there.
const TRIES: u32 = 500;
const PAUSE: Duration = Duration::from_millis(2);

/// A device that is to show an export.
pub(super) struct Device {
    file: Arc<File>,
    name: String,
    /// Says when it does.
    verbose: bool,
}

impl Device {
    /// Opens the device.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn open(name: &str, verbose: bool) -> Result<Self, Failure> {
        let file = writable(name).map_err(|e| Failure::io(format!("Failed to open {name}"), &e))?;
        Ok(Self { file: Arc::new(file), name: name.to_owned(), verbose })
    }

    /// Shows the export until somebody disconnects the device or ends this process.
    ///
    /// # Errors
    /// It is no device of this kind, or is in use.
    pub fn serve(self, export: &Export, waiting: Option<Waiting>) -> Result<(), Failure> {
        let cannot = |what: &'static str| move |_| Failure::new(what);
        let (ours, theirs) = UnixStream::pair().map_err(cannot("Failed to make a socket"))?;
        let failed = "Failed to set NBD socket";
        kernel::set_socket(&self.file, &theirs).map_err(cannot(failed))?;
        let (blocks, flags) = (export.size() / u64::from(BLOCK), export.flags());
        let shaped = kernel::set_shape(&self.file, BLOCK, blocks, flags);
        shaped.map_err(|_| {
            kernel::disconnect(&self.file);
            Failure::new("Failed setting size (in blocks)")
        })?;
        let mut endings =
            Endings::catch().map_err(|e| Failure::io("Failed to catch signals", &e))?;
        if self.verbose {
            eprintln!("NBD device {} is now connected to this process", self.name);
        }
        let signalled = Arc::clone(&self.file);
        std::thread::spawn(move || {
            if endings.wait().is_ok() {
                kernel::disconnect(&signalled);
            }
        });
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // A connection that breaks ends the device, which says so below.
            scope.spawn(|| export.serve_kernel(Stream::Unix(ours)));
            scope.spawn(|| {
                if self.appears(&ended)
                    && let Some(waiting) = waiting
                {
                    // Without success whoever waits hears that this process failed.
                    let _ = waiting.release();
                }
            });
            let served = kernel::run(&self.file);
            ended.store(true, Ordering::Release);
            // The kernel has its own hold on the socket; without this one the server's end is closed.
            drop(theirs);
            served.map_err(|e| Failure::io(self.name.clone(), &e))
        })
    }

    /// Waits until the device has its length, which it gets when it is served, not before. The kernel tells
    /// nobody. Whoever opens it then has its partitions looked for.
    fn appears(&self, ended: &AtomicBool) -> bool {
        for _ in 0..TRIES {
            if ended.load(Ordering::Acquire) {
                return false;
            }
            let length = File::open(&self.name).and_then(|mut file| file.seek(SeekFrom::End(0)));
            if length.is_ok_and(|length| length > 0) {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        // An empty image has no length.
        true
    }
}

/// Takes the image away from a device.
///
/// # Errors
/// There is none of that name.
pub(super) fn disconnect(name: &str) -> Result<ExitCode, Failure> {
    let file = writable(name).map_err(|e| Failure::io(format!("Cannot open {name}"), &e))?;
    kernel::disconnect(&file);
    println!("{name} disconnected");
    Ok(ExitCode::SUCCESS)
}

fn writable(name: &str) -> std::io::Result<File> {
    File::options().read(true).write(true).open(Path::new(name))
}
