//! The node against OpenSSH's SFTP server, directly and through a real sshd, which
//! `cargo xtask test` installs.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use graph::{Node, WriteFlags, ZeroFlags};
use ssh::{HostKey, Options, Ssh};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A folder of this test's own.
fn folder(test: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("ssh-{test}"));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn options(path: &Path) -> Options {
    let uri = format!("ssh://localhost{}", path.display());
    Options { host_key: HostKey::Any, ..Options::parse(&uri).unwrap() }
}

fn direct(options: &Options, create: bool) -> Result<Ssh, String> {
    let server = Command::new("/usr/lib/openssh/sftp-server");
    Ssh::over(server, options, create).map_err(|e| e.to_string())
}

/// Writes and reads, and compares with the file.
fn exercise(node: &Ssh, file: &Path) {
    let image: Vec<u8> = (0..3_000_000_u32).map(|at| (at / 253) as u8 ^ at as u8).collect();
    node.write_at(0, &image, WriteFlags { fua: true }).unwrap();
    assert_eq!(node.size(), image.len() as u64);
    assert!(std::fs::read(file).unwrap() == image);
    std::thread::scope(|scope| {
        for row in 0..4_usize {
            let (node, image) = (&node, &image);
            scope.spawn(move || {
                let mut part = vec![0; 500_000];
                node.read_at(row as u64 * 600_001, &mut part).unwrap();
                assert!(part == image[row * 600_001..][..500_000]);
            });
        }
    });
    node.write_zeroes(100, 70_000, ZeroFlags::default()).unwrap();
    node.truncate(4_000_000).unwrap();
    node.flush().unwrap();
    let now = std::fs::read(file).unwrap();
    assert_eq!((now.len(), now[99], now[100], now[70_099]), (4_000_000, image[99], 0, 0));
    let mut end = vec![1; 100];
    node.read_at(3_999_990, &mut end).unwrap();
    assert_eq!(end, [0; 100], "behind the end");
}

#[test]
fn an_sftp_server_at_the_end_of_a_pipe() {
    let file = folder("pipe").join("image");
    let node = direct(&options(&file), true).unwrap();
    exercise(&node, &file);
    drop(node);
    let read_only = Options { read_only: true, ..options(&file) };
    let node = direct(&read_only, false).unwrap();
    assert_eq!((node.size(), node.read_only()), (4_000_000, true));
    assert!(node.write_at(0, &[1], WriteFlags::default()).is_err());
    assert!(node.truncate(0).is_err());
}

#[test]
fn refusals_say_why() {
    let folder = folder("refusals");
    let why = |path: &Path| direct(&options(path), false).err().unwrap();
    let nothing = why(&folder.join("nothing"));
    assert!(nothing.ends_with("nothing': No such file or directory"), "{nothing}");
    assert!(direct(&Options { read_only: true, ..options(&folder) }, false).is_err(), "a folder");
    let mut silent = Command::new("sh");
    silent.args(["-c", "echo 'nobody is at home' >&2"]);
    let silent = Ssh::over(silent, &options(&folder), false).err().unwrap().to_string();
    assert_eq!(silent, "failed to initialize sftp handle: nobody is at home");
    let absent = Command::new("/nowhere/ssh");
    let absent = Ssh::over(absent, &options(&folder), false).err().unwrap().to_string();
    assert_eq!(absent, "Could not run '/nowhere/ssh': No such file or directory");
}

#[test]
fn a_connection_that_ends_is_an_error() {
    let file = folder("ends").join("image");
    std::fs::write(&file, vec![7; 100_000]).unwrap();
    let mut server = Command::new("sh");
    // Passes on so many bytes of the server's output, and ends.
    server
        .args(["-c", "/usr/lib/openssh/sftp-server | (dd bs=1 count=40000 status=none; kill $$)"]);
    let node = Ssh::over(server, &options(&file), false).unwrap();
    assert!(node.read_at(0, &mut vec![0; 100_000]).is_err());
    assert!(node.flush().is_err());
}

/// sshd in the foreground, gone with the test.
struct Sshd(Child);

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn key(path: &Path) {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path);
    assert!(command.status().expect("ssh-keygen is installed").success());
}

#[test]
fn a_real_ssh_server() {
    let folder = folder("sshd");
    key(&folder.join("host"));
    key(&folder.join("user"));
    std::fs::copy(folder.join("user.pub"), folder.join("authorized")).unwrap();
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let at = folder.display();
    let config = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {at}/host\nAuthorizedKeysFile {at}/authorized\nPidFile none\n\
         StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n\
         Subsystem sftp internal-sftp\n"
    );
    std::fs::write(folder.join("sshd_config"), config).unwrap();
    // Where the service is not set up to start, nobody has made the folder that root's sshd wants.
    let _ = std::fs::create_dir("/run/sshd");
    let mut command = Command::new("/usr/sbin/sshd");
    command.arg("-D").arg("-e").arg("-f").arg(folder.join("sshd_config")).stderr(Stdio::null());
    let _server = Sshd(command.spawn().expect("sshd is installed"));
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(60), "sshd does not listen");
        std::thread::sleep(Duration::from_millis(5));
    }
    let file = folder.join("image");
    let uri = format!("ssh://127.0.0.1:{port}{}?host_key_check=no", file.display());
    let options = Options::parse(&uri).unwrap();
    // The user's client with a key of this test's own.
    let client = |options: &Options| {
        let asked = options.command().unwrap();
        let mut command = Command::new(asked.get_program());
        command.arg("-F").arg("none").arg("-i").arg(folder.join("user"));
        command.args(asked.get_args());
        command
    };
    let node = Ssh::over(client(&options), &options, true).unwrap();
    exercise(&node, &file);
    drop(node);
    let strict = Options { host_key: HostKey::Known, ..options };
    let refused = Ssh::over(client(&strict), &strict, false).err().unwrap().to_string();
    assert!(refused.contains("Host key verification failed"), "{refused}");
}
