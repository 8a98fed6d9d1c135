//! Exports of kind `vhost-user-blk`: what a virtual machine meets.

use crate::Test;
use crate::client::Daemon;
use crate::front::{
    DISCARD, FLUSH, Front, GET_ID, GUEST, IN, LEN, Machine, OFFSET, OUT, READ_ONLY, USER,
    VERSION_1, WRITE_ZEROES, longs, words,
};
use crate::scripts::is_gone;
use crate::tools::{Whose, folder, must};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use serde_json::json;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use vhost::{flag, protocol, request};

pub const TESTS: &[Test] = &[
    ("a_machine_uses_a_disk_of_either_daemon", requests),
    ("a_machine_sees_what_the_peer_shows", configuration),
    ("a_read_only_disk_stays_as_it_is", read_only),
    ("a_machine_goes_on_after_a_kill", killed),
    ("a_stopped_queue_has_nothing_in_flight", stopped),
    ("a_machine_hears_of_another_length", resized),
    ("machines_that_break_the_rules_are_sent_away", violations),
    ("a_machine_that_takes_its_memory_away_harms_nobody", torn),
    ("exports_to_machines_come_and_go", lives),
    ("a_socket_can_be_inherited", inherited),
];

fn made(test: &str) -> PathBuf {
    let within = folder(test);
    must(Whose::Peer, "qemu-img", &["create", "-q", "-f", "qcow2", "disk.qcow2", "8M"], &within);
    within
}

/// A daemon that lends `disk.qcow2`, with these further options of the export.
fn lending(whose: Whose, within: &Path, options: &str) -> Daemon {
    let node = "qcow2,node-name=disk,discard=unmap,file.driver=file,file.filename=disk.qcow2";
    let export =
        format!("vhost-user-blk,id=e,node-name=disk,addr.type=unix,addr.path=machine{options}");
    Daemon::start(whose, &["--blockdev", node, "--export", &export], within)
}

fn segment(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    let mut bytes = longs(&[sector]);
    bytes.extend(words(&[sectors, flags]));
    bytes
}

/// Every kind of request, on two queues, of both daemons; the image is what was written.
fn requests() {
    let mut told = Vec::new();
    for whose in [Whose::Peer, Whose::Ours] {
        let within = made("requests");
        let daemon = lending(whose, &within, ",writable=on,num-queues=2");
        let machine = Machine::new();
        let mut front = Front::connect(&within.join("machine"));
        let features = front.agree(&machine);
        assert_eq!(features & (VERSION_1 | READ_ONLY), VERSION_1);
        front.start(2, 0);
        let one = |queue: u16, what: (u32, u64), data: &[u8], room: u32| {
            front.request(&machine, queue, what, data, room)
        };
        let mut results = vec![
            one(0, (OUT, 8), &[7; 8192], 0).0,
            one(1, (OUT, 100), &[9; 512], 0).0,
            one(0, (FLUSH, 0), &[], 0).0,
        ];
        let (status, data) = one(1, (IN, 8), &[], 8192);
        assert_eq!((status, data), (0, vec![7; 8192]));
        results.push(one(0, (WRITE_ZEROES, 0), &segment(10, 2, 0), 0).0);
        results.push(one(1, (DISCARD, 0), &segment(16, 8, 0), 0).0);
        results.push(one(0, (DISCARD, 0), &segment(16380, 8, 0), 0).0);
        results.push(one(0, (WRITE_ZEROES, 0), &segment(0, 2, 6), 0).0);
        results.push(one(0, (IN, 16383), &[], 1024).0);
        results.push(one(0, (77, 0), &[], 0).0);
        let (status, id) = one(1, (GET_ID, 0), &[], 20);
        results.push(status);
        let (status, data) = one(1, (IN, 8), &[], 2048);
        assert_eq!(data[..1024], [7; 1024]);
        assert_eq!((status, &data[1024..]), (0, &[0; 1024][..]));
        // Behind its end the peer leaves what was there.
        let id = id.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        told.push((results, id));
        drop(front);
        daemon.client().call("quit", json!({}));
        assert!(daemon.ended().success());
        must(Whose::Peer, "qemu-img", &["check", "-q", "disk.qcow2"], &within);
        let reads = ["-c", "read -P 7 4k 1k", "-c", "read -P 0 5k 1k", "-c", "read -P 9 50k 512"];
        let read = must(Whose::Peer, "qemu-io", &[&reads[..], &["disk.qcow2"]].concat(), &within);
        assert!(!read.contains("failed"), "{read}");
    }
    assert_eq!(told[1], told[0]);
}

/// Bytes of configuration space that have to be the same: all but the geometry, which the peer does
/// not show, the cache mode, which it shows as off, and whether zeroes may unmap.
const SAME: &[std::ops::Range<usize>] = &[0..16, 20..32, 34..56];

fn configuration() {
    let cases = ["", ",writable=on,num-queues=4,logical-block-size=4096", ",writable=on"];
    for options in cases {
        let [theirs, ours] = [Whose::Peer, Whose::Ours].map(|whose| {
            let within = made("configuration");
            let _daemon = lending(whose, &within, options);
            let mut front = Front::connect(&within.join("machine"));
            front.agree(&Machine::new());
            let queues = front.number(request::GET_QUEUE_NUM);
            let mut config = |offset: u32, len: u32| {
                let mut asked = words(&[offset, len, 0]);
                asked.resize(12 + len as usize, 0);
                front.ask(request::GET_CONFIG, &asked).0
            };
            let all = config(0, 60);
            assert_eq!(all[..12], words(&[0, 60, 0]));
            let compared: Vec<u8> =
                SAME.iter().flat_map(|part| all[12..][part.clone()].to_vec()).collect();
            // More than there is.
            (queues, compared, config(0, 200).len())
        });
        assert_eq!(ours, theirs, "{options}");
    }
    // The driver may ask for stable writes.
    let within = made("configuration");
    let _daemon = lending(Whose::Ours, &within, ",writable=on,writethrough=on");
    let mut front = Front::connect(&within.join("machine"));
    front.agree(&Machine::new());
    let cache = |front: &mut Front| {
        front.ask(request::GET_CONFIG, &[&words(&[32, 1, 0])[..], &[0]].concat()).0[12]
    };
    assert_eq!(cache(&mut front), 0);
    front.say(request::SET_CONFIG, &[&words(&[32, 1, 0])[..], &[1]].concat(), &[]);
    assert_eq!(cache(&mut front), 1);
}

fn read_only() {
    let within = made("read-only");
    let _daemon = lending(Whose::Ours, &within, "");
    let machine = Machine::new();
    let mut front = Front::connect(&within.join("machine"));
    assert_ne!(front.agree(&machine) & READ_ONLY, 0);
    front.start(1, 0);
    assert_eq!(front.request(&machine, 0, (OUT, 0), &[1; 512], 0).0, 1);
    assert_eq!(front.request(&machine, 0, (WRITE_ZEROES, 0), &segment(0, 1, 0), 0).0, 1);
    assert_eq!(front.request(&machine, 0, (IN, 0), &[], 512), (0, vec![0; 512]));
}

/// What was in flight when the daemon was killed is done by the next one, once each.
fn killed() {
    let within = made("killed");
    let node = "throttle,node-name=disk,throttle-group=t,file.driver=qcow2,file.file.driver=file,file.file.filename=disk.qcow2";
    let group = "throttle-group,id=t,limits.iops-total=1";
    let export = "vhost-user-blk,id=e,node-name=disk,writable=on,addr.type=unix,addr.path=machine";
    let slow = ["--object", group, "--blockdev", node, "--export", export];
    let daemon = Daemon::start(Whose::Ours, &slow, &within);
    let machine = Machine::new();
    let mut front = Front::connect(&within.join("machine"));
    front.agree(&machine);
    let mut asked = longs(&[0, 0]);
    asked.extend([1, 0, 16, 0, 0, 0, 0, 0]);
    let (account, file) = front.ask(request::GET_INFLIGHT_FD, &asked);
    front.say(request::SET_INFLIGHT_FD, &account, &[file[0].as_fd()]);
    front.start(1, 0);
    for slot in 0..5 {
        machine.prepare(0, slot, OUT, u64::from(slot) * 8, &[slot as u8 + 1; 4096], 0);
    }
    front.kick(0);
    front.wait(&machine, 0, 1);
    daemon.signal("KILL");
    daemon.ended();
    drop(front);
    // The front end knows what was given back, and what was taken is in the account.
    let done = machine.used(0);
    assert!(done < 5, "the throttle lets one pass in a second");
    let _daemon = lending(Whose::Ours, &within, ",writable=on");
    let mut front = Front::connect(&within.join("machine"));
    front.agree(&machine);
    front.say(request::SET_INFLIGHT_FD, &account, &[file[0].as_fd()]);
    front.start(1, done);
    front.wait(&machine, 0, 5);
    for slot in 0..5 {
        assert_eq!(machine.result(0, slot, 4096).0, 0, "{slot}");
    }
    assert_eq!(front.stop(0), 5);
    front.start(1, 5);
    for slot in 0..5u8 {
        let sector = u64::from(slot) * 8;
        let read = front.request(&machine, 0, (IN, sector), &[], 4096);
        // Of what was done before the kill only what was flushed is there.
        assert!(read == (0, vec![slot + 1; 4096]) || u16::from(slot) < done, "{slot}");
    }
}

fn stopped() {
    let within = made("stopped");
    let _daemon = lending(Whose::Ours, &within, ",writable=on");
    let machine = Machine::new();
    let mut front = Front::connect(&within.join("machine"));
    front.agree(&machine);
    front.start(1, 0);
    for round in 0..20u16 {
        for slot in 0..5 {
            machine.prepare(0, slot, OUT, u64::from(slot) * 8, &[round as u8; 4096], 0);
        }
        front.kick(0);
        let base = front.stop(0);
        assert_eq!(machine.used(0), base, "nothing is left in flight");
        front = {
            // Another machine goes on where the first one stopped.
            drop(front);
            let mut next = Front::connect(&within.join("machine"));
            next.agree(&machine);
            next.start(1, base);
            next
        };
        front.wait(&machine, 0, (round + 1) * 5);
        assert!((0..5).all(|slot| machine.result(0, slot, 4096).0 == 0));
    }
}

fn resized() {
    let within = made("resized");
    let daemon = lending(Whose::Ours, &within, ",writable=on");
    let mut front = Front::connect(&within.join("machine"));
    let offered = front.number(request::GET_PROTOCOL_FEATURES);
    let agreed = offered & (protocol::REPLY_ACK | protocol::CONFIG | protocol::BACKEND_REQ);
    front.send(request::SET_PROTOCOL_FEATURES, flag::VERSION, &longs(&[agreed]), &[]);
    front.say(request::SET_FEATURES, &longs(&[VERSION_1 | protocol::FEATURES]), &[]);
    let (ours, theirs) = UnixStream::pair().unwrap();
    front.say(request::SET_BACKEND_REQ_FD, &[], &[theirs.as_fd()]);
    daemon.client().call("block_resize", json!({"node-name": "disk", "size": 16 << 20}));
    let mut header = [0; 12];
    std::io::Read::read_exact(&mut { ours }, &mut header).unwrap();
    assert_eq!(header[..], words(&[2, 1, 0]));
    let (config, _) = front.ask(request::GET_CONFIG, &[words(&[0, 8, 0]), vec![0; 8]].concat());
    assert_eq!(config[12..], longs(&[(16 << 20) / 512]));
}

/// Each is sent away, and the next one is served.
fn violations() {
    let within = made("violations");
    let daemon = lending(Whose::Ours, &within, ",writable=on");
    let path = within.join("machine");
    type Wrong = (&'static str, u32, u32, Vec<u8>);
    let region =
        |guest, len, user, offset| [words(&[1, 0]), longs(&[guest, len, user, offset])].concat();
    let cases: Vec<Wrong> = vec![
        ("another version", request::GET_FEATURES, 2, vec![]),
        ("an unknown request", 200, 1, vec![]),
        ("a long message", request::SET_FEATURES, 1, vec![0; 5000]),
        ("a short message", request::SET_FEATURES, 1, vec![0; 4]),
        ("an unknown feature", request::SET_FEATURES, 1, longs(&[1 << 50])),
        ("an unknown protocol feature", request::SET_PROTOCOL_FEATURES, 1, longs(&[1 << 50])),
        ("no such queue", request::SET_VRING_NUM, 1, words(&[1, 16])),
        ("an odd size", request::SET_VRING_NUM, 1, words(&[0, 12])),
        ("a large size", request::SET_VRING_NUM, 1, words(&[0, 2048])),
        ("an index too large", request::SET_VRING_BASE, 1, words(&[0, 70000])),
        ("a kick without descriptor", request::SET_VRING_KICK, 1, longs(&[0])),
        (
            "rings without memory",
            request::SET_VRING_ADDR,
            1,
            [words(&[0, 0]), longs(&[0; 4])].concat(),
        ),
        (
            "a table without descriptors",
            request::SET_MEM_TABLE,
            1,
            region(GUEST, LEN, USER, OFFSET),
        ),
        ("enabled before features", request::SET_VRING_ENABLE, 1, words(&[0, 1])),
        ("no queues to account for", request::GET_INFLIGHT_FD, 1, vec![0; 24]),
        ("a log", 6, 1, vec![0; 16]),
    ];
    for (what, number, flags, payload) in cases {
        let mut front = Front::connect(&path);
        front.send(number, flags, &payload, &[]);
        assert!(front.receive().is_none(), "{what}");
    }
    let machine = Machine::new();
    let regions = [
        ("beyond the file", region(GUEST, LEN + 4096, USER, OFFSET)),
        ("around the end of the file", region(GUEST, LEN, USER, u64::MAX - 4096)),
        ("around the end of the guest", region(u64::MAX - 4096, LEN, USER, OFFSET)),
        ("nothing", region(GUEST, 0, USER, OFFSET)),
    ];
    for (what, table) in regions {
        let mut front = Front::connect(&path);
        front.send(request::SET_MEM_TABLE, flag::VERSION, &table, &[machine.file.as_fd()]);
        assert!(front.receive().is_none(), "{what}");
    }
    // Half a message, and another who leaves at once.
    drop(Front::connect(&path));
    let half = Front::connect(&path);
    half.send(request::SET_FEATURES, flag::VERSION, &[], &[]);
    drop(half);
    // A chain that leads out of memory.
    let mut front = Front::connect(&path);
    front.agree(&machine);
    front.start(1, 0);
    machine.prepare(0, 0, IN, 0, &[], 512);
    assert!(machine.ram.store_u64(OFFSET, 0x1234));
    front.kick(0);
    assert!(front.receive().is_none());
    // All that was without consequence.
    let machine = Machine::new();
    let mut front = Front::connect(&path);
    front.agree(&machine);
    front.start(1, 0);
    assert_eq!(front.request(&machine, 0, (OUT, 0), &[5; 512], 0).0, 0);
    daemon.client().call("quit", json!({}));
    assert!(daemon.ended().success());
}

fn torn() {
    let within = made("torn");
    let daemon = lending(Whose::Ours, &within, ",writable=on");
    let mut front = Front::connect(&within.join("machine"));
    let machine = Machine::new();
    front.agree(&machine);
    front.start(1, 0);
    machine.prepare(0, 0, IN, 0, &[], 512);
    ftruncate(&machine.file, 0).unwrap();
    front.kick(0);
    assert!(front.receive().is_none());
    // Nor does memory that cannot be mapped.
    let mut front = Front::connect(&within.join("machine"));
    let empty = memfd_create("empty", MemfdFlags::CLOEXEC).unwrap();
    let table = [words(&[1, 0]), longs(&[GUEST, LEN, USER, OFFSET])].concat();
    front.send(request::SET_MEM_TABLE, flag::VERSION, &table, &[empty.as_fd()]);
    assert!(front.receive().is_none());
    daemon.client().call("quit", json!({}));
    assert!(daemon.ended().success());
}

fn lives() {
    let within = made("lives");
    let daemon = lending(Whose::Ours, &within, "");
    let mut client = daemon.client();
    let path = within.join("machine");
    let shown = json!([{
        "id": "e", "type": "vhost-user-blk", "node-name": "disk", "shutting-down": false
    }]);
    assert_eq!(client.call("query-block-exports", json!({})), shown);
    // Somebody who uses it does not keep it.
    let mut front = Front::connect(&path);
    front.number(request::GET_FEATURES);
    client.call("block-export-del", json!({"id": "e"}));
    assert_eq!(client.event("BLOCK_EXPORT_DELETED"), json!({"id": "e"}));
    assert!(front.receive().is_none());
    assert!(is_gone(&path));
    assert_eq!(client.call("query-block-exports", json!({})), json!([]));
    // A file that is in the way is not removed.
    std::fs::write(&path, "mine").unwrap();
    let export = json!({
        "type": "vhost-user-blk", "id": "f", "node-name": "disk", "writable": true,
        "addr": {"type": "unix", "path": "machine"}
    });
    let text = client.fails("block-export-add", export.clone());
    assert_eq!(text, "Failed to bind socket to machine: Address already in use");
    std::fs::remove_file(&path).unwrap();
    client.call("block-export-add", export);
    let mut front = Front::connect(&path);
    assert_eq!(front.number(request::GET_FEATURES) & READ_ONLY, 0);
    client.call("block-export-del", json!({"id": "f", "mode": "hard"}));
    client.call("blockdev-del", json!({"node-name": "disk"}));
}

/// A socket that listens already, handed over by number.
fn inherited() {
    let within = made("inherited");
    let listener = UnixListener::bind(within.join("machine")).unwrap();
    let script = "exec -a qemu-storage-daemon \"$0\" \"$@\" 3<&0 0</dev/null";
    let node = "raw,node-name=disk,file.driver=file,file.filename=disk.qcow2";
    let export = |fd: u32| format!("vhost-user-blk,id=e,node-name=disk,addr.type=fd,addr.str={fd}");
    let with = |fd: u32, listener: &UnixListener| {
        let mut command = Command::new("bash");
        command.args(["-c", script]).arg(std::env::current_exe().unwrap());
        command.args(["--blockdev", node, "--export", &export(fd)]).current_dir(&within);
        command.stdin(OwnedFd::from(listener.try_clone().unwrap())).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let refused = with(4, &listener).wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.ends_with(": File descriptor '4' is not a socket\n"), "{text}");
    let mut daemon = with(3, &listener);
    let mut front = Front::connect(&within.join("machine"));
    assert_ne!(front.number(request::GET_FEATURES) & VERSION_1, 0);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}
