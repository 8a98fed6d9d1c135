//! Sockets of NBD servers and clients that are in no folder.

use crate::Test;
use crate::client::Daemon;
use crate::tools::{Whose, folder, must, tool};
use serde_json::json;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

pub const TESTS: &[Test] = &[
    ("sockets_without_a_path_are_met_by_name", named),
    ("sockets_are_handed_over", handed),
    ("addresses_are_refused_as_by_the_peer", refused),
];

const WHOSE: [Whose; 2] = [Whose::Peer, Whose::Ours];
const NODE: &str = "file,node-name=disk,filename=disk";

/// A folder with an image that has a 7 at the beginning.
fn made(test: &str) -> std::path::PathBuf {
    let within = folder(test);
    std::fs::write(within.join("disk"), vec![7; 1 << 20]).unwrap();
    within
}

fn named() {
    for server in WHOSE {
        let within = made(&format!("abstract-{server:?}"));
        // Names are the whole host's.
        let name = format!("tinamou-{}-{server:?}", std::process::id());
        for tight in ["on", "off"] {
            let place =
                format!("addr.type=unix,addr.path={name},addr.abstract=on,addr.tight={tight}");
            let export = "nbd,id=e,node-name=disk,name=x";
            let args = ["--blockdev", NODE, "--nbd-server", &place, "--export", export];
            let daemon = Daemon::start(server, &args, &within);
            let mut monitor = daemon.client();
            let image = |tight: &str| {
                let socket = format!("server.path={name},server.abstract=on{tight}");
                format!("driver=nbd,export=x,server.type=unix,{socket}")
            };
            let found = image(&format!(",server.tight={tight}"));
            for client in WHOSE {
                let read = ["-r", "-c", "read -P 7 0 1M", "--image-opts", &found];
                let said = must(client, "qemu-io", &read, &within);
                assert!(said.contains("read 1048576/1048576"), "{said}");
                let info = must(client, "qemu-img", &["info", "--image-opts", &found], &within);
                assert!(info.contains(&format!("image: nbd+unix:///x?socket={name}\n")), "{info}");
                let other = if tight == "on" { ",server.tight=off" } else { "" };
                let said =
                    tool(client, "qemu-img", &["info", "--image-opts", &image(other)], &within);
                let said = { said }.output().unwrap();
                let said = String::from_utf8_lossy(&said.stderr).into_owned();
                let text = format!("Failed to connect to '{name}': Connection refused");
                assert!(said.contains(&text), "{said}");
            }
            monitor.call("quit", json!({}));
            assert!(daemon.ended().success());
        }
    }
}

/// A tool whose descriptor 3 is a socket.
fn with_socket(whose: Whose, name: &str, socket: OwnedFd, args: &[&str], within: &Path) -> Command {
    let program = match whose {
        Whose::Peer => name.to_owned(),
        Whose::Ours => {
            let link = within.join(name);
            if !link.exists() {
                symlink(std::env::current_exe().unwrap(), &link).unwrap();
            }
            link.display().to_string()
        }
    };
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$0\" \"$@\" 3<&0 0</dev/null", &program]).args(args);
    shell.current_dir(within).stdin(Stdio::from(socket));
    shell
}

fn handed() {
    let within = made("handed");
    let socket = within.join("nbd");
    let listener = UnixListener::bind(&socket).unwrap();
    let export = "nbd,id=e,node-name=disk,name=";
    let server = "addr.type=fd,addr.str=3";
    let args = ["--blockdev", NODE, "--nbd-server", server, "--export", export];
    let taken = listener.try_clone().unwrap().into();
    let mut daemon = with_socket(Whose::Ours, "qemu-storage-daemon", taken, &args, &within);
    let mut daemon = daemon.spawn().unwrap();
    for client in WHOSE {
        // The socket listens already: nobody comes too early.
        let stream = UnixStream::connect(&socket).unwrap();
        let image = "json:{\"driver\": \"nbd\", \"server\": {\"type\": \"fd\", \"str\": \"3\"}}";
        let info = ["info", image];
        let said = with_socket(client, "qemu-img", stream.into(), &info, &within).output().unwrap();
        let said = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
        let name = "json:{\"server.str\": \"3\", \"driver\": \"nbd\", \"server.type\": \"fd\"}";
        assert!(said.starts_with(&format!("image: {name}\n")), "{said}");
        assert!(said.contains("virtual size: 1 MiB"), "{said}");
    }
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

fn refused() {
    let within = made("addresses");
    let complaint = |name: &str, args: &[&str]| {
        let [theirs, ours] = WHOSE.map(|whose| {
            let output = tool(whose, name, args, &within).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            (output.status.code(), said.replace("qemu-storage-daemon: ", ""))
        });
        assert_eq!(ours, theirs, "{name} {args:?}");
    };
    for address in [
        "addr.type=vsock,addr.cid=x,addr.port=1234",
        "addr.type=vsock,addr.cid=1,addr.port=y",
        "addr.type=vsock,addr.cid=1",
        "addr.type=fd,addr.str=9",
        "addr.type=fd,addr.str=foo",
        "addr.type=fd",
        "addr.type=bar",
    ] {
        complaint("qemu-storage-daemon", &["--nbd-server", address]);
    }
    for server in [
        "\"type\": \"unix\"",
        "\"type\": \"unix\", \"path\": \"nobody\", \"abstract\": true",
        "\"type\": \"unix\", \"path\": \"nobody\"",
        "\"type\": \"vsock\", \"cid\": \"x\", \"port\": \"1\"",
        "\"type\": \"vsock\", \"cid\": \"1\", \"port\": \"y\"",
        "\"type\": \"vsock\", \"cid\": \"1\"",
        "\"type\": \"vsock\", \"port\": \"1\"",
        "\"type\": \"fd\", \"str\": \"foo\"",
        "\"type\": \"fd\", \"str\": \"7\"",
        "\"type\": \"fd\"",
        "\"type\": \"inet\"",
        "\"type\": \"bar\"",
    ] {
        let image = format!("json:{{\"driver\": \"nbd\", \"server\": {{{server}}}}}");
        complaint("qemu-img", &["info", &image]);
    }
}
