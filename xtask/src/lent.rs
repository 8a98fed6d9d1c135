//! `cargo xtask lent`: the installed QEMU boots Linux from a disk that our storage daemon lends it
//! (`vhost-user-blk`), while the daemon lives, and while it is killed again and again.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::emulator::{self, Emulator};
use crate::expect::Session;
use crate::guests;
use crate::packages;
use crate::tools::{self, Result, Scratch};

/// How long a story waits for one thing: a slow, busy host needs minutes.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long a daemon lives that is to be killed.
const LIFE: Duration = Duration::from_millis(700);

/// How the disk is lent.
struct Story {
    name: &'static str,
    /// More of the export's options.
    options: &'static str,
    killed: bool,
}

const STORIES: &[Story] = &[
    Story { name: "lent", options: "", killed: false },
    // Nothing that was acknowledged is held back in memory.
    Story { name: "lent-killed", options: ",writethrough=on", killed: true },
];

/// What the guest runs in each life, and what it says at the end of it.
const LIVES: &[(&str, &str, &str)] = &[
    ("guest.root guest.run=disktest", "GUEST-INFO boot 1", "GUEST-SELFTEST PASS"),
    ("guest.root guest.run=disktest", "GUEST-TEST survived ok", "GUEST-SELFTEST PASS"),
    ("guest.run=fsck", "GUEST-READY", "GUEST-FSCK clean"),
];

/// `cargo xtask lent`.
///
/// # Errors
/// When a story does not end well.
pub fn run(arguments: &[String]) -> Result<()> {
    if let Some(word) = arguments.first() {
        return Err(format!("what is '{word}'?"));
    }
    let failed = all()?.into_iter().filter(|(_, done)| done.is_err()).count();
    if failed == 0 { Ok(()) } else { Err(format!("{failed} machines failed")) }
}

/// Plays all stories, side by side, and tells each as it ends.
///
/// # Errors
/// When there is nothing to play with.
pub fn all() -> Result<Vec<(&'static str, Result<()>)>> {
    packages::need(&["qemu-utils"])?;
    let (tinamou, machine) = (emulator::build()?, Emulator::installed()?);
    let guest = guests::folder("riscv64")?;
    let told = |story: &Story| {
        let start = Instant::now();
        let done = play(story, &tinamou, &machine, &guest);
        let took = start.elapsed().as_secs_f64();
        match &done {
            Ok(()) => println!("  machine {} ok ({took:.1} s)", story.name),
            Err(message) => println!("  machine {} FAIL ({took:.1} s)\n{message}", story.name),
        }
        (story.name, done)
    };
    Ok(thread::scope(|scope| {
        let players: Vec<_> =
            STORIES.iter().map(|story| scope.spawn(move || told(story))).collect();
        let ended = players.into_iter().map(|player| player.join());
        ended.map(|told| told.unwrap_or(("a story", Err("it panicked".to_owned())))).collect()
    }))
}

/// Our daemon with the disk. It ends with its value, by force.
struct Lender(Child);

impl Lender {
    /// The socket is the caller's, so that a machine finds it at any time.
    fn start(
        story: &Story,
        tinamou: &Path,
        work: &Path,
        socket: &UnixListener,
    ) -> std::io::Result<Self> {
        let node = "qcow2,node-name=disk,discard=unmap,file.driver=file,file.filename=disk.qcow2";
        let export = format!(
            "vhost-user-blk,id=e,node-name=disk,addr.type=fd,addr.str=3,writable=on,num-queues=2{}",
            story.options
        );
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" storage \"$@\" 3<&0 0</dev/null"]).arg(tinamou);
        command.args(["--blockdev", node, "--export", &export]).current_dir(work);
        command.stdin(Stdio::from(OwnedFd::from(socket.try_clone()?))).spawn().map(Self)
    }

    /// Ends it in good order.
    fn finish(mut self) -> Result<()> {
        tools::call(Command::new("kill").arg(self.0.id().to_string()))?;
        let status = self.0.wait().map_err(|error| format!("waiting for the daemon: {error}"))?;
        if status.success() { Ok(()) } else { Err(format!("the daemon ended with {status}")) }
    }
}

impl Drop for Lender {
    fn drop(&mut self) {
        // Either fails when it has ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn play(story: &Story, tinamou: &Path, machine: &Emulator, guest: &Path) -> Result<()> {
    let folder = tools::target().join("boots");
    tools::make_folder(&folder)?;
    let work = Scratch::new(&folder, story.name)?;
    let disk = work.path().join("disk.qcow2");
    std::fs::copy(guest.join("root.qcow2"), &disk).map_err(|e| format!("copying: {e}"))?;
    let path = work.path().join("s");
    let socket = UnixListener::bind(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let lend = || {
        let lender = Lender::start(story, tinamou, work.path(), &socket);
        lender.map_err(|error| format!("starting the daemon: {error}"))
    };
    let mut lender = lend()?;
    for (words, first, last) in LIVES {
        let mut command = command(machine, guest, words);
        let mut session = Session::start(command.current_dir(work.path()))?;
        session.wait_for(first, PATIENCE)?;
        let begun = Instant::now();
        while story.killed && session.wait_for(last, LIFE).is_err() {
            if begun.elapsed() > PATIENCE || session.output().contains("GUEST-DONE") {
                return Err(format!("no '{last}'\n{}", session.tail()));
            }
            lender = {
                drop(lender);
                lend()?
            };
        }
        if !story.killed {
            session.wait_for(last, PATIENCE)?;
        }
        let status = session.wait_for_end(PATIENCE)?;
        if !status.success() {
            return Err(format!("the machine ended with {status}\n{}", session.tail()));
        }
    }
    lender.finish()?;
    tools::call(Command::new("qemu-img").args(["check", "-q"]).arg(&disk))
}

/// A machine whose memory others may map, on the disk behind the socket `s`.
fn command(machine: &Emulator, guest: &Path, words: &str) -> Command {
    let mut command = machine.command();
    command.args(["-nographic", "-no-reboot", "-smp", "2", "-m", "512M"]);
    command.args(["-M", "virt,memory-backend=m"]);
    command.args(["-object", "memory-backend-memfd,id=m,size=512M,share=on"]);
    command.args(["-chardev", "socket,id=c,path=s,reconnect-ms=50"]);
    command.args(["-device", "vhost-user-blk-pci,chardev=c,num-queues=2"]);
    command.arg("-kernel").arg(guest.join("kernel"));
    command.arg("-initrd").arg(guest.join("initrd.gz"));
    command.args(["-append", &format!("console=ttyS0 guest.disk=vda {words}")]);
    command
}
