//! The node against nginx, which `cargo xtask test` installs.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use graph::Node;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use web::{Http, Options};

/// nginx in the foreground, gone with the test.
struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_image_of_nginx() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("nginx");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let image: Vec<u8> = (0..3_000_000_u32).map(|at| (at / 253) as u8 ^ at as u8).collect();
    std::fs::write(folder.join("image"), &image).unwrap();
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let at = folder.display();
    let config = format!(
        "daemon off; master_process off; pid {at}/pid; error_log {at}/error;\nevents {{}}\nhttp {{ \
         access_log off; client_body_temp_path {at}/1; proxy_temp_path {at}/2; fastcgi_temp_path {at}/3; \
         uwsgi_temp_path {at}/4; scgi_temp_path {at}/5;\n server {{ listen 127.0.0.1:{port}; root {at}; }} }}\n"
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-c").arg(&file).arg("-p").arg(&folder).stderr(Stdio::null());
    let _server = Nginx(command.spawn().expect("nginx is installed"));
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(60), "nginx does not listen");
        std::thread::sleep(Duration::from_millis(5));
    }
    let node =
        Http::open("http", &Options::new(&format!("http://127.0.0.1:{port}/image"))).unwrap();
    assert_eq!(node.size(), image.len() as u64);
    let mut all = vec![0; image.len()];
    node.read_at(0, &mut all).unwrap();
    assert!(all == image);
    let mut part = vec![0; 100_000];
    node.read_at(2_345_678, &mut part).unwrap();
    assert!(part == image[2_345_678..2_445_678]);
    assert!(Http::open("http", &Options::new(&format!("http://127.0.0.1:{port}/none"))).is_err());
}
