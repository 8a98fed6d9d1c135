//! Runs the built binary as `qemu-nbd`, and as clients of it and of the installed peer's server.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../../../backends/crypto/tests/common/certificates.rs"]
mod certificates;
mod tools;

use std::path::Path;
use std::process::Output;

use tools::*;

const URI: &str = "nbd+unix:///disk?socket=socket";

/// A client writes, reads, converts and compares against a server, each of either kind.
fn exchange(server: Whose, client: Whose, test: &str) {
    let within = folder(test);
    must(Whose::Ours, "qemu-img", &["create", "-q", "-f", "qcow2", "disk", "8M"], &within);
    let serving = Server::start(server, &["-t", "-x", "disk", "-f", "qcow2", "disk"], &within);
    let script = [
        "-c",
        "write -P 3 1M 300k",
        "-c",
        "write -P 4 12345 678",
        "-c",
        "read -P 3 1M 300k",
        "-c",
        "read -P 4 12345 678",
        "-c",
        "read -P 0 2M 64k",
        "-c",
        "write -z 1M 64k",
        "-c",
        "read -P 0 1M 64k",
        "-c",
        "discard 4M 1M",
        "-c",
        "flush",
    ];
    must(client, "qemu-io", &[&["-f", "raw"], &script[..], &[URI]].concat(), &within);
    must(client, "qemu-img", &["convert", "-f", "raw", "-O", "qcow2", URI, "copy"], &within);
    drop(serving);
    must(Whose::Ours, "qemu-img", &["compare", "disk", "copy"], &within);
    must(Whose::Ours, "qemu-img", &["check", "-q", "disk"], &within);
    let map = must(Whose::Ours, "qemu-img", &["map", "--output=json", "copy"], &within);
    assert!(map.contains("\"start\": 2097152") || !map.contains("\"length\": 8388608"), "{map}");
}

#[test]
fn our_client_and_our_server() {
    exchange(Whose::Ours, Whose::Ours, "ours-ours");
}

#[test]
fn their_client_and_our_server() {
    exchange(Whose::Ours, Whose::Peer, "theirs-ours");
}

#[test]
fn our_client_and_their_server() {
    exchange(Whose::Peer, Whose::Ours, "ours-theirs");
}

#[test]
fn a_server_ends_with_its_last_client() {
    let within = folder("last");
    must(Whose::Ours, "qemu-img", &["create", "-q", "disk", "1M"], &within);
    let serving = Server::start(Whose::Ours, &["-x", "disk", "-f", "raw", "disk"], &within);
    must(Whose::Ours, "qemu-io", &["-f", "raw", "-c", "write -P 1 0 512", URI], &within);
    serving.ended();
    assert!(!within.join("socket").exists(), "the socket is gone");
    must(Whose::Ours, "qemu-io", &["-f", "raw", "-c", "read -P 1 0 512", "disk"], &within);
}

#[test]
fn a_server_lists_its_exports() {
    let within = folder("list");
    must(Whose::Ours, "qemu-img", &["create", "-q", "disk", "1M"], &within);
    let args = ["-t", "-x", "disk", "-D", "a disk", "-r", "-A", "-f", "raw", "disk"];
    let _serving = Server::start(Whose::Ours, &args, &within);
    let socket = within.join("socket").display().to_string();
    let ours = must(Whose::Ours, "qemu-nbd", &["-L", "-k", &socket], &within);
    let expected = "exports available: 1\n export: 'disk'\n  description: a disk\n  size:  1048576\n  \
        flags: 0x48f ( readonly flush fua df cache )\n  min block: 1\n  opt block: 4096\n  \
        max block: 33554432\n  transaction size: 64-bit\n  available meta contexts: 2\n   \
        base:allocation\n   qemu:allocation-depth\n";
    assert_eq!(ours, expected);
    let refused = tool(Whose::Ours, "qemu-img", &["info", "nbd+unix:///x?socket=socket"], &within);
    let refused = { refused }.output().unwrap();
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("Requested export not available"), "{text}");
}

#[test]
fn a_server_in_the_background_can_be_called_at_once() {
    let within = folder("fork");
    must(Whose::Ours, "qemu-img", &["create", "-q", "disk", "1M"], &within);
    let at = |name: &str| within.join(name).display().to_string();
    let (socket, pid, disk) = (at("socket"), at("pid"), at("disk"));
    let args = ["--fork", "--pid-file", &pid, "-k", &socket, "-x", "disk", "-f", "raw", &disk];
    must(Whose::Ours, "qemu-nbd", &args, &within);
    assert!(std::fs::read_to_string(&pid).unwrap().trim().parse::<u32>().is_ok());
    must(Whose::Ours, "qemu-io", &["-f", "raw", "-c", "read -P 0 0 1M", URI], &within);
}

/// Whoever waits for the process it started finds the reason why there is no server.
#[test]
fn a_server_that_fails_in_the_background_says_so_before_it_is_waited_for() {
    let within = folder("fork-fails");
    let socket = within.join("socket").display().to_string();
    for _ in 0..50 {
        let said = std::fs::File::create(within.join("said")).unwrap();
        let args = ["--fork", "-k", &socket, "-f", "raw", "nothing"];
        let status = tool(Whose::Ours, "qemu-nbd", &args, &within).stderr(said).status().unwrap();
        let said = std::fs::read_to_string(within.join("said")).unwrap();
        assert_eq!(status.code(), Some(1));
        assert!(said.contains("nothing") && said.ends_with('\n'), "{said:?}");
    }
}

/// What the client of a server with TLS is told.
fn info(whose: Whose, object: Option<&str>, options: &str, within: &Path) -> Output {
    let image = format!("driver=nbd,server.type=unix,server.path=socket,export=disk{options}");
    let object = object.map(|object| ["--object", object]);
    let mut args = vec!["info", "--image-opts", &image];
    args.extend(object.into_iter().flatten());
    tool(whose, "qemu-img", &args, within).output().unwrap()
}

/// A client and a server that trust each other, and clients that the server refuses.
fn secured(server: Whose, client: Whose, test: &str) {
    let within = folder(test);
    let authority = certificates::Authority::new();
    authority.server(&within.join("server"));
    authority.client(&within.join("client"));
    authority.stranger(&within.join("stranger"));
    must(Whose::Ours, "qemu-img", &["create", "-q", "disk", "4M"], &within);
    let object = "tls-creds-x509,id=t,dir=server,endpoint=server";
    let args = ["-t", "-x", "disk", "--object", object, "--tls-creds", "t", "-f", "raw", "disk"];
    let _serving = Server::start(server, &args, &within);
    let own = "tls-creds-x509,id=t,dir=client";
    let stranger = "tls-creds-x509,id=t,dir=stranger";
    let name = ",tls-creds=t,tls-hostname=server.test";
    let cases = [
        (None, "", "TLS negotiation required before option 7 (go)"),
        (Some(own), ",tls-creds=t", "No hostname for certificate validation"),
        (Some(own), ",tls-creds=t,tls-hostname=x", "Certificate does not match the hostname x"),
        (Some(own), ",tls-creds=u", "No TLS credentials with id 'u'"),
        (Some(stranger), name, "Could not open"),
    ];
    for (object, options, expected) in cases {
        let output = info(client, object, options, &within);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && text.contains(expected), "{text}");
    }
    let image = format!("driver=nbd,server.type=unix,server.path=socket,export=disk{name}");
    let script = ["-c", "write -P 3 1M 1M", "-c", "read -P 3 1M 1M", "-c", "read -P 0 3M 1M"];
    let image = ["--object", own, "--image-opts", &image];
    let said = must(client, "qemu-io", &[&script[..], &image].concat(), &within);
    assert!(!said.contains("fail"), "{said}");
    let socket = within.join("socket").display().to_string();
    let args = ["-L", "-k", &socket, "--object", own, "--tls-creds", "t"];
    let named = [&args[..], &["--tls-hostname", "localhost"]].concat();
    assert!(must(client, "qemu-nbd", &named, &within).contains("export: 'disk'"));
}

#[test]
fn tls_between_our_own() {
    secured(Whose::Ours, Whose::Ours, "tls-ours-ours");
}

#[test]
fn tls_from_their_client_to_our_server() {
    secured(Whose::Ours, Whose::Peer, "tls-theirs-ours");
}

#[test]
fn tls_from_our_client_to_their_server() {
    secured(Whose::Peer, Whose::Ours, "tls-ours-theirs");
}

#[test]
fn a_backing_file_can_be_on_a_server() {
    let within = folder("backing");
    must(Whose::Ours, "qemu-img", &["create", "-q", "disk", "4M"], &within);
    must(Whose::Ours, "qemu-io", &["-f", "raw", "-c", "write -P 5 1M 1M", "disk"], &within);
    let _serving = Server::start(
        Whose::Ours,
        &["-t", "-e", "0", "-r", "-x", "disk", "-f", "raw", "disk"],
        &within,
    );
    let overlay = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", URI, "overlay"];
    must(Whose::Ours, "qemu-img", &overlay, &within);
    let script = ["-c", "write -P 6 1M 4k", "-c", "read -P 5 1028k 1020k", "-c", "read -P 6 1M 4k"];
    for whose in [Whose::Ours, Whose::Peer] {
        let said = must(whose, "qemu-io", &[&script[..], &["overlay"]].concat(), &within);
        assert!(!said.contains("fail"), "{said}");
    }
}

#[test]
fn what_clients_write_to_a_snapshot_is_gone_with_it() {
    let within = folder("snapshot");
    must(Whose::Ours, "qemu-img", &["create", "-q", "disk", "4M"], &within);
    must(Whose::Ours, "qemu-io", &["-f", "raw", "-c", "write -P 5 1M 1M", "disk"], &within);
    let serving = Server::start(Whose::Ours, &["-s", "-x", "disk", "-f", "raw", "disk"], &within);
    let script = ["-c", "write -P 6 0 2M", "-c", "read -P 6 0 2M"];
    must(Whose::Peer, "qemu-io", &[&["-f", "raw"], &script[..], &[URI]].concat(), &within);
    serving.ended();
    let script = ["-c", "read -P 0 0 1M", "-c", "read -P 5 1M 1M"];
    must(Whose::Ours, "qemu-io", &[&["-f", "raw"], &script[..], &["disk"]].concat(), &within);
}

#[test]
fn a_part_of_an_overlay_tells_what_its_backing_file_has() {
    let within = folder("offset");
    must(Whose::Ours, "qemu-img", &["create", "-q", "base", "4M"], &within);
    must(Whose::Ours, "qemu-io", &["-f", "raw", "-c", "write -P 5 2M 1M", "base"], &within);
    let overlay = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base", "disk"];
    must(Whose::Ours, "qemu-img", &overlay, &within);
    let args = ["-t", "-r", "-o", "1M", "-x", "disk", "-f", "qcow2", "disk"];
    let _serving = Server::start(Whose::Ours, &args, &within);
    for whose in [Whose::Peer, Whose::Ours] {
        must(whose, "qemu-img", &["convert", "-f", "raw", "-O", "raw", URI, "copy"], &within);
        let script = ["-c", "read -P 0 0 1M", "-c", "read -P 5 1M 1M", "-c", "read -P 0 2M 1M"];
        let said =
            must(whose, "qemu-io", &[&["-f", "raw"], &script[..], &["copy"]].concat(), &within);
        assert!(!said.contains("fail"), "{said}");
    }
}

#[test]
fn a_socket_can_be_handed_over() {
    let within = folder("activation");
    must(Whose::Ours, "qemu-img", &["create", "-q", "disk", "1M"], &within);
    let listener = std::os::unix::net::UnixListener::bind(within.join("socket")).unwrap();
    // A shell tells its own number and becomes the server; the socket is its descriptor 3.
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" nbd \"$@\" 3<&0 0</dev/null";
    let start = |args: &[&str]| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", script, env!("CARGO_BIN_EXE_tinamou")]).args(args);
        shell.current_dir(&within).stderr(std::process::Stdio::piped());
        let socket = std::os::fd::OwnedFd::from(listener.try_clone().unwrap());
        shell.stdin(std::process::Stdio::from(socket)).spawn().unwrap()
    };
    let refused = start(&["-p", "10809", "-f", "raw", "disk"]).wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("TCP port number can't be set when using socket activation"), "{text}");
    let serving = Server(start(&["-x", "disk", "-f", "raw", "disk"]));
    must(Whose::Peer, "qemu-io", &["-f", "raw", "-c", "read -P 0 0 1M", URI], &within);
    serving.ended();
}

#[test]
fn complaints() {
    let within = folder("complaints");
    let cases = [
        (&["nope"][..], "Failed to blk_new_open 'nope': Could not open 'nope': No such file"),
        (&["-e", "x", "a"], "Invalid shared device number 'x'"),
        (&["-k", "socket", "a"], "socket path must be absolute"),
        (&["-p", "x", "a"], "address resolution failed for 0.0.0.0:x: Servname not supported"),
        (&["-p", "70000", "a"], "Invalid port '70000': the highest is 65535"),
        (
            &["--detect-zeroes=unmap", "a"],
            "setting detect-zeroes to unmap is not allowed without setting discard operation to unmap",
        ),
        (&["--tls-creds", "x", "a"], "Failed to get TLS creds: No TLS credentials with id 'x'"),
        (&["--tls-hostname", "x", "a"], "--tls-hostname is not permitted without --tls-creds"),
        (&[], "Invalid number of arguments"),
    ];
    for (args, expected) in cases {
        let output = tool(Whose::Ours, "qemu-nbd", args, &within).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.starts_with("qemu-nbd: ") && text.contains(expected), "{text}");
    }
}
