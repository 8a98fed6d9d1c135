//! Two ends of TLS over a pair of sockets.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "common/certificates.rs"]
mod certificates;

use certificates::Authority;
use crypto::{Channel, Credentials, Endpoint, Socket};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

struct Wire(UnixStream);

impl Socket for Wire {
    fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(buf)
    }
    fn send(&self, buf: &[u8]) -> io::Result<()> {
        (&self.0).write_all(buf)
    }
}

fn folder(test: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("tls-{test}"));
    let _ = std::fs::remove_dir_all(&path);
    path
}

fn load(folder: &Path, endpoint: Endpoint, verify_peer: bool) -> Credentials {
    Credentials::load(folder, endpoint, verify_peer, true).unwrap()
}

/// Both ends' results.
fn shake(
    client: &Credentials,
    hostname: Option<&str>,
    server: &Credentials,
) -> (io::Result<Channel<Wire>>, io::Result<Channel<Wire>>) {
    let (near, far) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        let accepting = scope.spawn(|| Channel::accept(Wire(far), server));
        let connected = Channel::connect(Wire(near), client, hostname);
        (connected, accepting.join().unwrap())
    })
}

#[test]
fn both_ends_read_and_write_at_the_same_time() {
    let at = folder("both");
    let authority = Authority::new();
    authority.server(&at.join("server"));
    authority.client(&at.join("client"));
    let server = load(&at.join("server"), Endpoint::Server, true);
    let client = load(&at.join("client"), Endpoint::Client, true);
    let (near, far) = shake(&client, Some("server.test"), &server);
    let (near, far) = (near.unwrap(), far.unwrap());
    const LEN: usize = 3 << 20;
    // More than sockets hold: who only writes would never end.
    let pump = |channel: &Channel<Wire>, own: u8, other: u8| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                { channel }.write_all(&vec![own; LEN]).unwrap();
                channel.finish().unwrap();
            });
            let (mut buf, mut came) = (vec![0; 50_000], 0);
            loop {
                let n = channel.read(&mut buf).unwrap();
                assert!(buf[..n].iter().all(|b| *b == other));
                came += n;
                if n == 0 {
                    break;
                }
            }
            assert_eq!(came, LEN);
        });
    };
    std::thread::scope(|scope| {
        scope.spawn(|| pump(&far, 1, 2));
        pump(&near, 2, 1);
    });
}

#[test]
fn strangers_are_refused() {
    let at = folder("strangers");
    let authority = Authority::new();
    authority.server(&at.join("server"));
    authority.stranger(&at.join("client"));
    let server = load(&at.join("server"), Endpoint::Server, true);
    let client = load(&at.join("client"), Endpoint::Client, true);
    let text = |result: io::Result<Channel<Wire>>| result.err().unwrap().to_string();
    let (_, far) = shake(&client, Some("localhost"), &server);
    assert_eq!(text(far), "Verify failed: No certificate was found.");
    let (near, far) = shake(&client, Some("other.test"), &server);
    assert_eq!(text(near), "Certificate does not match the hostname other.test");
    assert!(far.is_err());
    let (near, _) = shake(&client, None, &server);
    assert_eq!(text(near), "No hostname for certificate validation");
    let careless = load(&at.join("server"), Endpoint::Server, false);
    let (near, far) = shake(&client, Some("127.0.0.1"), &careless);
    assert!(near.is_ok() && far.is_ok());
    Authority::new().stranger(&at.join("elsewhere"));
    let elsewhere = load(&at.join("elsewhere"), Endpoint::Client, true);
    let (near, _) = shake(&elsewhere, Some("localhost"), &careless);
    assert_eq!(text(near), "The certificate hasn't got a known issuer");
    let trusting = load(&at.join("elsewhere"), Endpoint::Client, false);
    assert!(shake(&trusting, None, &careless).0.is_ok());
}

#[test]
fn an_own_certificate_of_another_authority_is_refused() {
    let at = folder("own");
    Authority::new().server(&at);
    Authority::new().stranger(&at);
    let why = |sane| Credentials::load(&at, Endpoint::Server, true, sane).err();
    let text = why(true).unwrap();
    let file = |name: &str| at.join(name).display().to_string();
    let expected = format!(
        "Our own certificate {} failed validation against {}: The certificate hasn't got a known issuer",
        file("server-cert.pem"),
        file("ca-cert.pem")
    );
    assert_eq!(text, expected);
    assert_eq!(why(false), None);
    std::fs::write(at.join("server-cert.pem"), "nothing").unwrap();
    let text = why(true).unwrap();
    assert_eq!(text, format!("Unable to import server certificate {}", file("server-cert.pem")));
}
