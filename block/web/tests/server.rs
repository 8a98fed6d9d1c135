//! The node against a small server of this process that can misbehave.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use graph::{Node, WriteFlags};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use web::{Http, Options};

const SIZE: usize = 1 << 20;

/// The image: each byte tells where it is.
fn image() -> Vec<u8> {
    (0..SIZE).map(|at| (at / 251) as u8 ^ at as u8).collect()
}

/// A server, and the requests that it saw.
struct Server {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let log = Arc::clone(&log);
                std::thread::spawn(move || {
                    let mut from = BufReader::new(stream.try_clone().unwrap());
                    while answer(&mut from, &stream, &log).is_some() {}
                });
            }
        });
        Self { port, seen }
    }

    fn options(&self, path: &str) -> Options {
        Options::new(&format!("http://127.0.0.1:{}/{path}", self.port))
    }

    fn open(&self, path: &str) -> Result<Http, String> {
        Http::open("http", &self.options(path)).map_err(|e| e.to_string())
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

/// Answers one request; `None` ends the connection.
fn answer(
    from: &mut BufReader<TcpStream>,
    mut to: &TcpStream,
    log: &Mutex<Vec<String>>,
) -> Option<()> {
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        if from.read_line(&mut request).ok()? == 0 {
            return None;
        }
    }
    log.lock().unwrap().push(request.clone());
    let request = request.to_lowercase();
    let path = request.split(' ').nth(1)?.trim_start_matches('/').to_owned();
    let head = request.starts_with("head");
    let range = request.split("range: bytes=").nth(1).and_then(|r| r.lines().next());
    let range = range.and_then(|r| r.split_once('-'));
    let range = range.map(|(a, b)| (a.parse::<usize>().unwrap(), b.parse::<usize>().unwrap()));
    let (first, last) = range.unwrap_or((0, SIZE - 1));
    let told = match path.as_str() {
        "shifted" => first + 1,
        _ => first,
    };
    let status = match (path.as_str(), range) {
        ("gone", _) => "404 Not Found",
        ("moved", _) => "302 Found\r\nLocation: /image",
        ("whole", Some(_)) | (_, None) => "200 OK",
        _ => "206 Partial Content",
    };
    let ranges = if path == "plain" { "" } else { "Accept-Ranges: bytes\r\n" };
    let body = if status.starts_with('3') || status.starts_with('4') {
        Vec::new()
    } else {
        image()[first..=last].to_vec()
    };
    let size = if path == "grown" && range.is_some() { SIZE + 1 } else { SIZE };
    let length = match path.as_str() {
        "endless" => String::new(),
        _ => format!("Content-Length: {}\r\n", body.len()),
    };
    let header = format!(
        "HTTP/1.1 {status}\r\n{length}{ranges}Content-Range: bytes {told}-{last}/{size}\r\n\r\n"
    );
    if path == "slow" && range.is_some() {
        // Until the client loses patience and hangs up.
        let _ = from.read(&mut [0]);
        return None;
    }
    to.write_all(header.as_bytes()).ok()?;
    if !head {
        let sent = if path == "short" && range.is_some() { &body[..body.len() / 2] } else { &body };
        to.write_all(sent).ok()?;
    }
    // A server may close at any time without a word.
    (!matches!(path.as_str(), "short" | "closing" | "endless")).then_some(())
}

#[test]
fn what_is_read_is_what_is_there() {
    let (server, image) = (Server::start(), image());
    for path in ["image", "moved", "closing"] {
        let node = server.open(path).unwrap();
        assert_eq!((node.size(), node.read_only()), (SIZE as u64, true));
        let mut all = vec![0; SIZE];
        node.read_at(0, &mut all).unwrap();
        assert!(all == image, "{path}");
        for (offset, len) in [(0, 1), (SIZE - 1, 1), (511, 70_000), (300_000, 4096), (5, 0)] {
            let mut part = vec![0; len];
            node.read_at(offset as u64, &mut part).unwrap();
            assert!(part == image[offset..offset + len], "{path} {offset}");
        }
        assert!(node.read_at(SIZE as u64, &mut [0]).is_err(), "behind the end");
        assert!(node.write_at(0, &[1], WriteFlags::default()).is_err());
    }
}

#[test]
fn reading_on_needs_no_request_for_each_part() {
    let server = Server::start();
    let node = server.open("image").unwrap();
    server.seen();
    let mut part = [0; 4096];
    for at in 0..64 {
        node.read_at(at * 4096, &mut part).unwrap();
    }
    assert_eq!(server.seen().len(), 1);
    let near = Http::open("http", &Options { readahead: 0, ..server.options("image") }).unwrap();
    server.seen();
    for at in 0..4 {
        near.read_at(at * 4096, &mut part).unwrap();
    }
    near.read_at(0, &mut part).unwrap();
    assert_eq!(server.seen().len(), 4, "only what was asked for, and only once");
}

#[test]
fn servers_that_cannot_be_used_are_refused() {
    let server = Server::start();
    let why = |path| server.open(path).err().unwrap();
    let start = "CURL: Error opening file: ";
    assert_eq!(why("gone"), format!("{start}The requested URL returned error: 404"));
    assert_eq!(why("plain"), format!("{start}Server does not support 'range' (byte ranges)."));
    assert_eq!(why("endless"), format!("{start}Server didn't report file size."));
    let other = Http::open("https", &server.options("image")).err().unwrap().to_string();
    assert!(other.contains("https curl driver cannot handle the URL 'http://"), "{other}");
}

#[test]
fn lies_are_errors_and_nothing_else() {
    let server = Server::start();
    let mut buf = vec![0; 4096];
    for path in ["whole", "short", "shifted", "grown"] {
        let node = server.open(path).unwrap();
        let error = node.read_at(4096, &mut buf).expect_err(path);
        assert!(!error.to_string().is_empty());
    }
    let hasty = Options { timeout: Some(Duration::from_millis(200)), ..server.options("slow") };
    let node = Http::open("http", &hasty).unwrap();
    assert_eq!(node.read_at(0, &mut buf).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn the_server_hears_who_asks() {
    let server = Server::start();
    let options = Options {
        cookie: Some("a=b".to_owned()),
        user: Some(("me".to_owned(), "secret".to_owned())),
        ..server.options("image")
    };
    let node = Http::open("http", &options).unwrap();
    node.read_at(0, &mut [0; 16]).unwrap();
    for request in server.seen() {
        let request = request.to_lowercase();
        assert!(request.contains("cookie: a=b\r\n"), "{request}");
        assert!(request.contains("authorization: basic bwu6c2vjcmv0\r\n"), "{request}");
    }
}
