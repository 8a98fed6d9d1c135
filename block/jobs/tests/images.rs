//! Block jobs on chains of qcow2 images while a guest writes; what is left is looked at by the
//! installed image tool as well.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::*;
use formats::{HostFiles, add_blockdev};
use jobs::job::Status;
use jobs::site::{
    BackupOptions, BackupSync, BitmapName, CommitOptions, Common, MirrorOptions, NewBitmap,
    StreamOptions,
};

/// A folder that is removed with the value. One at a time: a process that another test starts has for a
/// moment the locks of this one.
struct Folder(PathBuf, #[expect(dead_code, reason = "held, not used")] MutexGuard<'static, ()>);

static ALONE: Mutex<()> = Mutex::new(());

impl Folder {
    fn new(name: &str) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let path = std::env::temp_dir().join(format!("jobs-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path, alone)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(format!("{name}.qcow2")).display().to_string()
    }

    /// Makes an image with the installed tool.
    fn create(&self, name: &str, backing: Option<&str>, options: &str) {
        let below = backing.map(|name| format!("{name}.qcow2")).unwrap_or_default();
        let mut args = vec!["create", "-q", "-f", "qcow2", "-o", options];
        if backing.is_some() {
            args.extend(["-b", &below, "-F", "qcow2"]);
        }
        let path = self.path(name);
        args.push(&path);
        if backing.is_none() {
            args.push("16M");
        }
        tool("qemu-img", &args);
    }

    /// The installed tool finds nothing wrong, not even a leak.
    fn check(&self, name: &str) {
        tool("qemu-img", &["check", "-q", "-f", "qcow2", &self.path(name)]);
    }

    /// The installed tool reads this content.
    fn holds(&self, name: &str, content: &[u8]) {
        let raw = self.0.join("raw");
        std::fs::write(&raw, content).unwrap();
        let raw = raw.display().to_string();
        tool("qemu-img", &["compare", "-f", "qcow2", "-F", "raw", &self.path(name), &raw]);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a tool of the package qemu-utils, which has to succeed.
fn tool(name: &str, args: &[&str]) -> String {
    let run = Command::new(name).args(args).output();
    let out = run.unwrap_or_else(|e| panic!("{name}: {e}; install the package qemu-utils"));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{name} {args:?}: {text}{errors}");
    text
}

/// Opens an image as a node of its own name, with what it names below it or a node instead.
fn open(world: &World, folder: &Folder, name: &str, backing: Option<&str>) {
    let mut keys = vec![
        ("driver".to_owned(), "qcow2".to_owned()),
        ("node-name".to_owned(), name.to_owned()),
        ("discard".to_owned(), "unmap".to_owned()),
        ("file.driver".to_owned(), "file".to_owned()),
        ("file.filename".to_owned(), folder.path(name)),
    ];
    keys.extend(backing.map(|node| ("backing".to_owned(), node.to_owned())));
    add_blockdev(keys, &HostFiles, &world.site.graph, &graph::NoSecrets).unwrap();
}

fn by_hand(id: &str) -> Common {
    Common { id: Some(id.to_owned()), auto_dismiss: false, ..Common::default() }
}

/// Removes nodes, which closes their images.
fn close(world: &World, names: &[&str]) {
    for name in names {
        world.site.graph.remove(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn a_mirror_to_another_image_pivots() {
    for options in ["cluster_size=64k", "cluster_size=4k,extended_l2=off", "compat=0.10"] {
        let folder = Folder::new("mirror");
        folder.create("base", None, "cluster_size=64k");
        folder.create("source", Some("base"), options);
        folder.create("target", None, options);
        tool("qemu-io", &["-c", "write -P 5 1M 6M", &folder.path("base")]);
        let world = World::new();
        open(&world, &folder, "source", None);
        open(&world, &folder, "target", None);
        let disk = world.device("source");
        let guest = Guest::start(&disk, 71);
        let (device, target) = ("source".to_owned(), "target".to_owned());
        let options = MirrorOptions { device, target, ..MirrorOptions::default() };
        world.site.mirror(&options, &by_hand("m")).unwrap();
        world.until("m", Status::Ready);
        guest.more(50);
        world.site.jobs.complete("m").unwrap();
        assert_eq!(world.end("m"), None);
        guest.more(50);
        let model = guest.stop();
        assert!(read_all(&*disk) == model);
        drop(disk);
        close(&world, &["source", "target"]);
        folder.check("source");
        folder.check("target");
        folder.holds("target", &model);
    }
}

#[test]
fn layers_are_committed_and_streamed() {
    let folder = Folder::new("chain");
    folder.create("zero", None, "cluster_size=64k");
    for (name, below) in [("one", "zero"), ("two", "one"), ("three", "two"), ("four", "three")] {
        folder.create(name, Some(below), "cluster_size=64k");
    }
    for (name, write) in
        [("zero", "write -P 1 0 12M"), ("one", "write -P 2 1M 3M"), ("two", "write -P 3 3M 3M")]
    {
        tool("qemu-io", &["-c", write, &folder.path(name)]);
    }
    tool("qemu-io", &["-c", "write -z 2M 2M", &folder.path("three")]);
    let world = World::new();
    open(&world, &folder, "zero", None);
    for (name, below) in [("one", "zero"), ("two", "one"), ("three", "two"), ("four", "three")] {
        open(&world, &folder, name, Some(below));
    }
    let disk = world.device("four");
    let guest = Guest::start(&disk, 72);
    let node = |name: &str| Some(name.to_owned());
    let commit = CommitOptions {
        device: "four".to_owned(),
        top_node: node("two"),
        base_node: node("one"),
        ..CommitOptions::default()
    };
    world.site.commit(&commit, &by_hand("c")).unwrap();
    assert_eq!(world.end("c"), None);
    close(&world, &["two"]);
    let stream = StreamOptions {
        device: "four".to_owned(),
        base_node: node("one"),
        ..StreamOptions::default()
    };
    world.site.stream(&stream, &by_hand("s")).unwrap();
    assert_eq!(world.end("s"), None);
    close(&world, &["three"]);
    guest.more(50);
    let active = CommitOptions { device: "four".to_owned(), ..CommitOptions::default() };
    let one = CommitOptions { base_node: node("one"), ..active };
    world.site.commit(&one, &by_hand("a")).unwrap();
    world.until("a", Status::Ready);
    guest.more(50);
    world.site.jobs.complete("a").unwrap();
    assert_eq!(world.end("a"), None);
    guest.more(50);
    let model = guest.stop();
    assert!(read_all(&*disk) == model);
    assert_eq!(disk.target().unwrap().name(), "one");
    drop(disk);
    close(&world, &["four", "one", "zero"]);
    for name in ["zero", "one", "four"] {
        folder.check(name);
    }
    folder.holds("one", &model);
    // `four` names `one` as what it lies on since the stream.
    let info = tool("qemu-img", &["info", "--output=json", &folder.path("four")]);
    assert!(info.contains(&format!("\"backing-filename\": \"{}\"", folder.path("one"))), "{info}");
}

#[test]
fn a_commit_writes_read_only_layers_for_its_time() {
    let folder = Folder::new("read-only");
    folder.create("zero", None, "cluster_size=64k");
    for (name, below) in [("one", "zero"), ("two", "one"), ("three", "two")] {
        folder.create(name, Some(below), "cluster_size=64k");
    }
    for (name, write) in
        [("zero", "write -P 1 0 12M"), ("one", "write -P 2 1M 3M"), ("two", "write -P 3 3M 3M")]
    {
        tool("qemu-io", &["-c", write, &folder.path(name)]);
    }
    let world = World::new();
    let graph = &world.site.graph;
    // The images below are opened as the first one names them: read-only. The first is, too.
    let keys = [
        ("driver", "qcow2"),
        ("node-name", "three"),
        ("read-only", "on"),
        ("file.driver", "file"),
        ("file.filename", &folder.path("three")),
    ];
    let keys = keys.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let three = add_blockdev(keys, &HostFiles, graph, &graph::NoSecrets).unwrap();
    let below =
        |name: &str| graph.named(&graph.facts(&graph.get(name).unwrap()).backing.unwrap().0);
    let two = below("three").unwrap();
    let one = below(two.name()).unwrap();
    let zero = below(one.name()).unwrap();
    assert!([&one, &two, &three].iter().all(|member| member.node().read_only()));
    let user = graph::User::Device("guest".to_owned());
    let disk = graph.attach(&three, user, graph::Permissions::READER).unwrap();
    let before = read_all(&*disk);
    let commit = CommitOptions {
        device: "three".to_owned(),
        top_node: Some(two.name().to_owned()),
        base_node: Some(one.name().to_owned()),
        ..CommitOptions::default()
    };
    world.site.commit(&commit, &by_hand("c")).unwrap();
    assert_eq!(world.end("c"), None);
    assert!([&zero, &one, &three].iter().all(|member| member.node().read_only()));
    assert_eq!(graph.facts(&three).backing.unwrap().0, one.name());
    assert!(read_all(&*disk) == before);
    drop((disk, zero, one, two, three));
    close(&world, &["three"]);
    ["zero", "one", "three"].iter().for_each(|name| folder.check(name));
    folder.holds("one", &before);
    folder.holds("three", &before);
    let info = tool("qemu-img", &["info", "--output=json", &folder.path("three")]);
    assert!(info.contains("one.qcow2\""), "{info}");
}

#[test]
fn a_chain_of_incremental_backups_holds_each_moment() {
    let folder = Folder::new("backup");
    folder.create("source", None, "cluster_size=64k");
    tool("qemu-io", &["-c", "write -P 7 0 5M", &folder.path("source")]);
    let world = World::new();
    open(&world, &folder, "source", None);
    let bitmap = NewBitmap {
        node: "source".to_owned(),
        name: "dirty".to_owned(),
        persistent: true,
        ..NewBitmap::default()
    };
    world.site.bitmaps.add(&bitmap).unwrap();
    let disk = world.device("source");
    let guest = Guest::start(&disk, 73);
    let mut moments = Vec::new();
    for (round, name) in ["full", "inc1", "inc2"].into_iter().enumerate() {
        let below = round.checked_sub(1).map(|n| ["full", "inc1"][n]);
        folder.create(name, below, "cluster_size=64k");
        open(&world, &folder, name, None);
        let options = BackupOptions {
            device: "source".to_owned(),
            target: name.to_owned(),
            sync: if round == 0 { BackupSync::Full } else { BackupSync::Incremental },
            bitmap: Some("dirty".to_owned()).filter(|_| round > 0),
            compress: round == 2,
            ..BackupOptions::default()
        };
        let (started, model) = guest.still(|| {
            if round == 0 {
                world.site.bitmaps.clear("source", "dirty").map(drop)?;
            }
            world.site.backup(&options, &by_hand("b"))
        });
        started.unwrap();
        guest.more(10);
        assert_eq!(world.end("b"), None);
        close(&world, &[name]);
        moments.push((name, model));
        guest.more(20);
    }
    guest.stop();
    let dirty = world.site.bitmaps.list(&world.member("source")).remove(0);
    assert!(dirty.persistent && dirty.recording && !dirty.busy && dirty.count > 0);
    drop(disk);
    close(&world, &["source"]);
    for (name, model) in moments {
        folder.check(name);
        folder.holds(name, &model);
    }
    folder.check("source");
    let world = World::new();
    open(&world, &folder, "source", None);
    assert_eq!(world.site.bitmaps.list(&world.member("source")), [dirty], "stored and loaded");
}

#[test]
fn bitmaps_are_managed_as_the_peer_does() {
    let folder = Folder::new("bitmaps");
    folder.create("a", None, "cluster_size=64k");
    folder.create("b", None, "cluster_size=64k");
    let world = World::new();
    open(&world, &folder, "a", None);
    open(&world, &folder, "b", None);
    world.layer("raw", MIB, None);
    let bitmaps = &world.site.bitmaps;
    let add = |node: &str, name: &str, granularity, persistent, disabled| {
        let (node, name) = (node.to_owned(), name.to_owned());
        bitmaps.add(&NewBitmap { node, name, granularity, persistent, disabled })
    };
    let text = |result: Result<(), jobs::job::Refusal>| result.unwrap_err().text;
    assert_eq!(text(add("a", "", None, false, false)), "Bitmap name cannot be empty");
    let granularity = "Granularity must be power of 2 and at least 512";
    for wrong in [0, 100, 256, 513] {
        assert_eq!(text(add("a", "x", Some(wrong), false, false)), granularity);
    }
    let nowhere = "Can't store persistent bitmaps to raw: Operation not supported";
    assert_eq!(text(add("raw", "x", None, true, false)), nowhere);
    add("a", "stored", Some(4096), true, false).unwrap();
    add("a", "kept", None, false, false).unwrap();
    add("a", "off", None, false, true).unwrap();
    add("b", "other", None, false, false).unwrap();
    add("raw", "short", None, false, false).unwrap();
    assert_eq!(text(add("a", "kept", None, true, false)), "Bitmap already exists: kept");
    let disk = world.device("a");
    fill(&*disk, MIB, 100, 1);
    let other = world.device("b");
    fill(&*other, 3 * MIB, 100, 1);
    let counts = || {
        let list = bitmaps.list(&world.member("a"));
        list.into_iter().map(|b| (b.name, b.count, b.recording)).collect::<Vec<_>>()
    };
    let row = |name: &str, count, recording| (name.to_owned(), count, recording);
    let (off, kept, stored) =
        (row("off", 0, false), row("kept", 65536, true), row("stored", 4096, true));
    assert_eq!(counts(), [off, kept, stored]);
    let name = |node: Option<&str>, name: &str| BitmapName {
        node: node.map(str::to_owned),
        name: name.to_owned(),
    };
    let from = [name(None, "kept"), name(Some("b"), "other")];
    bitmaps.merge("a", "stored", &from).unwrap();
    assert_eq!(counts()[2], row("stored", 2 * 65536, true));
    let saved = bitmaps.clear("a", "stored").unwrap();
    assert_eq!(counts()[2], row("stored", 0, true));
    bitmaps.restore(&saved);
    drop(saved);
    assert_eq!(counts()[2], row("stored", 2 * 65536, true));
    let sizes = "Bitmaps are of different sizes (destination size is 16777216, source size is \
                 1048576) and can't be merged";
    let merged = bitmaps.merge("a", "stored", &[name(Some("raw"), "short")]);
    assert_eq!(text(merged.map(drop)), sizes);
    let missing = "Dirty bitmap 'no' not found";
    assert_eq!(text(bitmaps.merge("a", "stored", &[name(None, "no")]).map(drop)), missing);
    assert_eq!(text(bitmaps.remove("a", "no")), missing);
    assert_eq!(text(bitmaps.remove("no", "no")), "Node 'no' not found");
    let loan = bitmaps.borrow(&world.member("a"), "kept").unwrap().unwrap();
    let busy = "Bitmap 'kept' is currently in use by another operation and cannot be used";
    assert_eq!(text(bitmaps.remove("a", "kept")), busy);
    assert_eq!(text(bitmaps.clear("a", "kept").map(drop)), busy);
    assert_eq!(text(bitmaps.merge("a", "off", &[name(None, "kept")]).map(drop)), busy);
    drop(loan);
    bitmaps.remove("a", "kept").unwrap();
    bitmaps.enable("a", "off", true).unwrap();
    fill(&*disk, 5 * MIB, 100, 1);
    assert_eq!(counts()[0], row("off", 65536, true));
    drop((disk, other));
    close(&world, &["a", "b"]);
    folder.check("a");
    let info = tool("qemu-img", &["info", &folder.path("a")]);
    assert!(info.contains("name: stored") && !info.contains("off"), "{info}");
    // What nobody stored properly can only be removed.
    let world = World::new();
    open(&world, &folder, "a", None);
    let copy = folder.path("copy");
    std::fs::copy(folder.path("a"), &copy).unwrap();
    open(&world, &folder, "copy", None);
    let bitmaps = &world.site.bitmaps;
    assert!(bitmaps.list(&world.member("copy"))[0].inconsistent);
    let useless = "Bitmap 'stored' is inconsistent and cannot be used";
    assert_eq!(text(bitmaps.clear("copy", "stored").map(drop)), useless);
    bitmaps.remove("copy", "stored").unwrap();
}
