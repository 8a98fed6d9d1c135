//! Operations on a graph: names, edges, permissions, replacing, draining, hooks, blockers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;

use graph::{
    Access, Change, ChangeKind, Child, DirtyHook, DiskOptions, Edge, Extent, Graph, Hook, Member,
    Memory, NewMember, Node, NodeInfo, NodeKind, OpenError, Operation, Permissions, Recipe, Role,
    User, WriteFlags, WriteThreshold, ZeroFlags,
};

const PLAIN: WriteFlags = WriteFlags { fua: false };
const SIZE: usize = 1 << 16;

/// Something done to a graph again and again.
type Act = Box<dyn Fn(&Arc<Graph>) + Send>;

/// A node that passes everything to its child.
struct Pass {
    file: Arc<Edge>,
    backing: Option<Arc<Edge>>,
}

impl Node for Pass {
    fn size(&self) -> u64 {
        self.file.size()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
        self.file.write_at(offset, buf, flags)
    }
    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        self.file.write_zeroes(offset, len, flags)
    }
    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.discard(offset, len)
    }
    fn flush(&self) -> io::Result<()> {
        self.file.flush()
    }
    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        self.file.block_status(offset, len)
    }
    fn truncate(&self, size: u64) -> io::Result<()> {
        self.file.truncate(size)
    }
    fn read_only(&self) -> bool {
        self.file.read_only()
    }
    fn children(&self) -> Vec<Child> {
        let file = Child { role: Role::File, node: Arc::clone(&self.file) as Arc<dyn Node> };
        let backing = self.backing.clone();
        let backing = backing.map(|node| Child { role: Role::Backing, node });
        std::iter::once(file).chain(backing).collect()
    }
    fn info(&self) -> NodeInfo {
        NodeInfo { driver: "pass", ..NodeInfo::default() }
    }
}

/// A node whose writes wait until they are allowed, or somebody wants them gone.
struct Slow {
    below: Memory,
    entered: mpsc::Sender<()>,
    gone: Mutex<bool>,
    changed: std::sync::Condvar,
}

impl Slow {
    fn new(entered: mpsc::Sender<()>) -> Self {
        let below = Memory::new(vec![0; SIZE], false);
        Self { below, entered, gone: Mutex::new(false), changed: std::sync::Condvar::new() }
    }
}

impl Node for Slow {
    fn size(&self) -> u64 {
        self.below.size()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.below.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
        self.entered.send(()).unwrap();
        let mut gone = self.gone.lock().unwrap();
        while !*gone {
            gone = self.changed.wait(gone).unwrap();
        }
        self.below.write_at(offset, buf, flags)
    }
    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        self.below.write_zeroes(offset, len, flags)
    }
    fn discard(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        self.below.block_status(offset, len)
    }
    fn read_only(&self) -> bool {
        false
    }
    fn info(&self) -> NodeInfo {
        NodeInfo::default()
    }
    fn hasten(&self, on: bool) {
        *self.gone.lock().unwrap() = on;
        self.changed.notify_all();
    }
}

fn add(graph: &Arc<Graph>, name: &str, node: Arc<dyn Node>) -> Arc<Member> {
    let name = graph.reserve(Some(name).filter(|name| !name.is_empty())).unwrap();
    let (kind, options) =
        (NodeKind::Protocol, DiskOptions { discard: true, ..DiskOptions::default() });
    graph.add(NewMember { name, node, kind, options, children: Vec::new() })
}

fn memory(graph: &Arc<Graph>, name: &str, byte: u8) -> Arc<Member> {
    add(graph, name, Arc::new(Memory::new(vec![byte; SIZE], false)))
}

fn above(
    graph: &Arc<Graph>,
    name: &str,
    kind: NodeKind,
    file: &Arc<Member>,
) -> Result<Arc<Member>, OpenError> {
    let name = graph.reserve(Some(name))?;
    let child = |role, target| graph.child(&name, kind, role, target, true);
    let edge = child(Role::File, Some(file))?;
    let backing = if kind == NodeKind::Format { Some(child(Role::Backing, None)?) } else { None };
    let children = std::iter::once(&edge).chain(&backing).map(Arc::clone).collect();
    let node = Arc::new(Pass { file: edge, backing });
    let options = DiskOptions { discard: true, ..DiskOptions::default() };
    Ok(graph.add(NewMember { name, node, kind, options, children }))
}

fn device(graph: &Arc<Graph>, member: &Arc<Member>) -> Arc<Edge> {
    graph.attach(member, User::Device("d".to_owned()), Permissions::WRITER).unwrap()
}

fn byte_at(node: &dyn Node, offset: u64) -> u8 {
    let mut byte = [0];
    node.read_at(offset, &mut byte).unwrap();
    byte[0]
}

fn refusal<T>(result: Result<T, OpenError>) -> String {
    result.err().map(|e| e.to_string()).expect("it should have been refused")
}

#[test]
fn names_are_unique_well_formed_or_made() {
    let graph = Graph::new();
    let a = memory(&graph, "a", 0);
    assert_eq!(refusal(graph.reserve(Some("a"))), "Duplicate nodes with node-name='a'");
    for bad in ["", "1a", "a b", "#a", &"x".repeat(32)] {
        assert_eq!(refusal(graph.reserve(Some(bad))), format!("Invalid node-name: '{bad}'"));
    }
    let waiting = graph.reserve(Some("b")).unwrap();
    assert_eq!(refusal(graph.reserve(Some("b"))), "Duplicate nodes with node-name='b'");
    drop(waiting);
    drop(graph.reserve(Some("b")).unwrap());
    let (one, two) = (memory(&graph, "", 0), memory(&graph, "", 0));
    assert!(one.name().starts_with("#block") && one.name() != two.name());
    drop(a);
    assert!(graph.named("a").is_none(), "nobody uses it");
    assert_eq!(refusal(graph.get("a")), "Cannot find device='a' nor node-name='a'");
    memory(&graph, "a", 0);
}

#[test]
fn what_is_in_use_stays() {
    let graph = Graph::new();
    let file = memory(&graph, "f", 0);
    graph.keep(&file);
    let top = above(&graph, "t", NodeKind::Format, &file).unwrap();
    graph.keep(&top);
    let disk = device(&graph, &top);
    assert_eq!(refusal(graph.remove("x")), "Failed to find node with node-name='x'");
    assert_eq!(refusal(graph.remove("f")), "Block device f is in use");
    assert_eq!(refusal(graph.remove("t")), "Node t is in use");
    let base = memory(&graph, "b", 0);
    graph.set_backing(&top, Some(&base)).unwrap();
    let text = "Node 'b' is busy: node is used as backing hd of 't'";
    assert_eq!(refusal(graph.remove("b")), text);
    graph.set_backing(&top, None).unwrap();
    assert_eq!(refusal(graph.remove("b")), "Node b is not owned by the monitor");
    drop((disk, top));
    graph.remove("t").unwrap();
    assert!(graph.named("t").is_none());
    drop(file);
    graph.remove("f").unwrap();
    assert!(graph.named("f").is_none());
}

#[test]
fn users_that_exclude_each_other_are_refused() {
    let graph = Graph::new();
    let file = memory(&graph, "f", 0);
    let export = Permissions::WRITER.sharing_writes();
    let first = graph.attach(&file, User::Device(String::new()), export).unwrap();
    let second = graph.attach(&file, User::Device(String::new()), export).unwrap();
    let text = refusal(above(&graph, "o", NodeKind::Format, &file));
    let wanted = "Permission conflict on node 'f': permissions 'write' are both required by an \
                  unnamed block device (uses node 'f' as 'root' child) and unshared by node 'o' \
                  (uses node 'f' as 'file' child).";
    assert_eq!(text, wanted);
    drop((first, second));
    let image = above(&graph, "o", NodeKind::Format, &file).unwrap();
    let raw = above(&graph, "r", NodeKind::Filter, &image).unwrap();
    let text = refusal(graph.attach(&file, User::Job("j".to_owned()), Permissions::WRITER));
    assert!(
        text.contains("both required by block job 'j'") && text.contains("unshared by node 'o'"),
        "{text}"
    );
    // What a filter needs is what its users need, and no more once they are gone.
    let disk = device(&graph, &raw);
    let text = refusal(graph.attach(&image, User::Device("e".to_owned()), export));
    assert!(text.contains("unshared by node 'r' (uses node 'o' as 'file' child)"), "{text}");
    graph.require(&disk, Permissions::READER.sharing_writes()).unwrap();
    drop(graph.attach(&image, User::Device("e".to_owned()), export).unwrap());
    graph.require(&disk, Permissions::WRITER).unwrap();
    drop(disk);
    drop(graph.attach(&image, User::Device("e".to_owned()), export).unwrap());
    assert_eq!(raw.children()[0].permissions().taken, Access::NONE);
}

#[test]
fn a_replaced_node_is_replaced_for_all_its_users_but_the_filter_on_it() {
    let graph = Graph::new();
    let (old, new) = (memory(&graph, "old", 1), memory(&graph, "new", 2));
    let top = above(&graph, "top", NodeKind::Filter, &old).unwrap();
    let disk = device(&graph, &top);
    let filter = above(&graph, "filter", NodeKind::Filter, &old).unwrap();
    graph.insert(&filter, &old).unwrap();
    let chain = |edge: &Arc<Edge>| {
        let mut names = Vec::new();
        let mut at = edge.target();
        while let Some(member) = at {
            names.push(member.name().to_owned());
            at = member.children().first().and_then(|edge| edge.target());
        }
        names.join(" ")
    };
    assert_eq!(chain(&disk), "top filter old");
    graph.replace(&old, &new).unwrap();
    assert_eq!(chain(&disk), "top filter new");
    assert_eq!(byte_at(&*disk, 9), 2);
    // Taking the filter away again.
    graph.replace(&filter, &new).unwrap();
    assert_eq!(chain(&disk), "top new");
    // A node below cannot have one above for its own.
    graph.replace(&top, &filter).unwrap();
    assert_eq!(chain(&disk), "filter new");
}

#[test]
fn a_refused_replacement_changes_nothing() {
    let graph = Graph::new();
    let (old, new) = (memory(&graph, "old", 1), memory(&graph, "new", 2));
    let image = above(&graph, "image", NodeKind::Format, &new).unwrap();
    let disk = device(&graph, &old);
    let text = refusal(graph.replace(&old, &new));
    assert!(text.starts_with("Permission conflict on node 'new'"), "{text}");
    assert_eq!(byte_at(&*disk, 0), 1);
    let text = refusal(graph.set_backing(&image, Some(&image)));
    assert_eq!(text, "Making 'image' a backing child of 'image' would create a cycle");
    assert!(refusal(graph.set_backing(&old, None)).contains("does not support backing files"));
}

#[test]
fn an_edge_to_nothing_is_an_empty_disk() {
    let edge = Edge::new(User::Device(String::new()), None, Permissions::UNUSED);
    assert!(!edge.present() && edge.read_only());
    assert_eq!((edge.size(), edge.children().len()), (0, 0));
    edge.read_at(0, &mut []).unwrap();
    edge.flush().unwrap();
    assert!(edge.read_at(0, &mut [0]).is_err());
    assert!(edge.write_at(0, &[0], PLAIN).is_err());
    assert!(!edge.read_cached(0, &mut [0]));
}

#[test]
fn a_drain_waits_for_what_is_in_flight_and_holds_back_the_rest() {
    let graph = Graph::new();
    let (entered, wait) = mpsc::channel();
    let slow = add(&graph, "slow", Arc::new(Slow::new(entered)));
    let top = above(&graph, "top", NodeKind::Filter, &slow).unwrap();
    let disk = device(&graph, &top);
    let finished = Arc::new(AtomicU64::new(0));
    let write = |byte: u8| {
        let (disk, finished) = (Arc::clone(&disk), Arc::clone(&finished));
        thread::spawn(move || {
            disk.write_at(0, &[byte], PLAIN).unwrap();
            finished.fetch_add(1, Ordering::SeqCst);
        })
    };
    let first = write(1);
    wait.recv().unwrap();
    // The node lets the request go only because it is told to.
    let drained = graph.drain(&slow);
    assert_eq!(byte_at(&*slow.node(), 0), 1);
    first.join().unwrap();
    let second = write(2);
    assert!(!disk.read_cached(0, &mut [0]), "not even what takes no time");
    assert_eq!((disk.size(), disk.read_only()), (SIZE as u64, false), "properties can be asked");
    // A drain within a drain, of a node above, and a user that comes meanwhile.
    let again = graph.drain(&top);
    let late = graph.attach(&slow, User::Job("j".to_owned()), Permissions::UNUSED).unwrap();
    let late = thread::spawn(move || byte_at(&*late, 0));
    drop(drained);
    assert!(!second.is_finished());
    assert_eq!(late.join().unwrap(), 1, "nothing holds it back any more");
    drop(again);
    wait.recv().unwrap();
    drop(graph.drain(&top));
    second.join().unwrap();
    assert_eq!(finished.load(Ordering::SeqCst), 2);
    assert_eq!(byte_at(&*disk, 0), 2);
}

#[test]
fn hooks_see_every_change_of_the_node_whoever_makes_it() {
    let graph = Graph::new();
    let node = memory(&graph, "n", 7);
    let (one, export) = (Permissions::WRITER.sharing_writes(), User::Device(String::new()));
    let edges = [(); 2].map(|()| graph.attach(&node, export.clone(), one).unwrap());
    let bits = DirtyHook::new(9);
    let hook: Arc<dyn Hook> = bits.clone();
    graph.add_hook(&node, Arc::clone(&hook));
    edges[0].write_at(100, &[1], PLAIN).unwrap();
    edges[1].write_zeroes(5000, 1000, ZeroFlags::default()).unwrap();
    edges[1].discard(20_000, 512).unwrap();
    let runs = |bits: &DirtyHook| {
        let bits = bits.bits();
        let mut runs = Vec::new();
        while let Some((at, len)) = bits.next_run(runs.last().map_or(0, |(at, len)| at + len)) {
            runs.push((at, len));
        }
        runs
    };
    assert_eq!(runs(&bits), [(0, 512), (4608, 1536), (19_968, 1024)]);
    edges[0].truncate(10_000).unwrap();
    assert_eq!(runs(&bits), [(0, 512), (4608, 1536)]);
    bits.enable(false);
    edges[0].write_at(9000, &[1], PLAIN).unwrap();
    graph.remove_hook(&node, &hook);
    bits.enable(true);
    edges[0].write_at(9000, &[1], PLAIN).unwrap();
    assert_eq!(runs(&bits).len(), 2);
}

/// Copies what is about to be overwritten, as a backup does, and refuses one place.
struct Before {
    to: Arc<Edge>,
}

impl Hook for Before {
    fn before(&self, change: &Change, node: &dyn Node) -> io::Result<()> {
        if change.offset == 4096 && change.kind == ChangeKind::Write {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut old = vec![0; change.len as usize];
        node.read_at(change.offset, &mut old)?;
        self.to.write_at(change.offset, &old, PLAIN)
    }
    fn edges(&self) -> Vec<Arc<Edge>> {
        vec![Arc::clone(&self.to)]
    }
}

#[test]
fn a_hook_may_copy_what_was_there_and_refuse() {
    let graph = Graph::new();
    let (source, target) = (memory(&graph, "s", 7), memory(&graph, "t", 0));
    let disk = device(&graph, &source);
    let to = graph.attach(&target, User::Job("b".to_owned()), Permissions::WRITER).unwrap();
    graph.add_hook(&source, Arc::new(Before { to }));
    disk.write_at(10, &[1; 20], PLAIN).unwrap();
    assert_eq!((byte_at(&*target.node(), 10), byte_at(&*target.node(), 30)), (7, 0));
    let error = disk.write_at(4096, &[1], PLAIN).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(byte_at(&*disk, 4096), 7);
    // Draining the target holds back the source's users, too.
    let drained = graph.drain(&target);
    let writer = thread::spawn(move || disk.write_at(50, &[1], PLAIN).unwrap());
    assert_eq!(byte_at(&*source.node(), 50), 7);
    drop(drained);
    writer.join().unwrap();
    assert_eq!(byte_at(&*target.node(), 50), 7);
}

#[test]
fn a_threshold_tells_once() {
    let graph = Graph::new();
    let node = memory(&graph, "n", 0);
    let disk = device(&graph, &node);
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let threshold = WriteThreshold::new(move |beyond, of| tell.lock().unwrap().push((beyond, of)));
    graph.add_hook(&node, Arc::clone(&threshold) as Arc<dyn Hook>);
    threshold.set(1000);
    disk.write_at(900, &[0; 100], PLAIN).unwrap();
    assert_eq!(threshold.get(), 1000);
    disk.write_at(900, &[0; 124], PLAIN).unwrap();
    disk.write_at(2000, &[0; 100], PLAIN).unwrap();
    assert_eq!((&*told.lock().unwrap(), threshold.get()), (&vec![(24, 1000)], 0));
}

#[test]
fn blocked_operations_say_why() {
    let graph = Graph::new();
    let node = memory(&graph, "n", 0);
    graph.check_blocked(&node, Operation::Resize).unwrap();
    let blocker =
        graph.block(&node, "block device is in use by block job: commit", &[Operation::Stream]);
    let text = "Node 'n' is busy: block device is in use by block job: commit";
    assert_eq!(refusal(graph.check_blocked(&node, Operation::Resize)), text);
    graph.check_blocked(&node, Operation::Stream).unwrap();
    drop(blocker);
    graph.check_blocked(&node, Operation::Resize).unwrap();
}

/// Threads write their own blocks and read them back, through nodes that are replaced, drained and
/// put below filters all the time. Every write that returned is there in the end.
#[test]
fn data_survives_any_order_of_requests_and_changes() {
    const WRITERS: u64 = 3;
    let graph = Graph::new();
    let store = Arc::new(Memory::new(vec![0; SIZE], false));
    let file = add(&graph, "file", Arc::clone(&store) as Arc<dyn Node>);
    let image = above(&graph, "image", NodeKind::Format, &file).unwrap();
    let disk = device(&graph, &image);
    let stop = Arc::new(AtomicBool::new(false));
    let start = Arc::new(Barrier::new(WRITERS as usize + 3));
    let writers: Vec<_> = (0..WRITERS)
        .map(|n| {
            let (disk, start, stop) = (Arc::clone(&disk), Arc::clone(&start), Arc::clone(&stop));
            thread::spawn(move || {
                start.wait();
                let (mut model, mut back) = (vec![0; 16384], vec![0; 16384]);
                let mut round = 0u64;
                while !stop.load(Ordering::SeqCst) || round < 1000 {
                    let at = (round * 37 % 31 * 512) as usize;
                    let data = [(round % 255) as u8 + 1; 512];
                    model[at..at + 512].copy_from_slice(&data);
                    disk.write_at(n * 16384 + at as u64, &data, PLAIN).unwrap();
                    disk.read_at(n * 16384, &mut back).unwrap();
                    assert!(back == model, "writer {n}, round {round}");
                    round += 1;
                }
                model
            })
        })
        .collect();
    let repeat = |act: Act| {
        let (graph, stop, start) = (Arc::clone(&graph), Arc::clone(&stop), Arc::clone(&start));
        thread::spawn(move || {
            start.wait();
            while !stop.load(Ordering::SeqCst) {
                act(&graph);
                thread::yield_now();
            }
        })
    };
    let replacing = {
        let (store, image) = (Arc::clone(&store), Arc::clone(&image));
        repeat(Box::new(move |graph| {
            // The file's node is another one each time, with the same bytes below.
            let now = image.children()[0].target().unwrap();
            let fresh = add(graph, "", Arc::clone(&store) as Arc<dyn Node>);
            graph.replace(&now, &fresh).unwrap();
        }))
    };
    let draining = {
        let (image, store) = (Arc::clone(&image), Arc::clone(&store));
        repeat(Box::new(move |graph| {
            let drained = graph.drain(&image);
            let (before, inner) = (store.snapshot(), graph.drain(&image));
            drop(inner);
            assert!(store.snapshot() == before, "something was in flight");
            drop(drained);
        }))
    };
    start.wait();
    for round in 0..2000 {
        let filter = above(&graph, "filter", NodeKind::Filter, &image).unwrap();
        graph.insert(&filter, &image).unwrap();
        let hook: Arc<dyn Hook> = DirtyHook::new(12);
        graph.add_hook(&filter, Arc::clone(&hook));
        graph.remove_hook(&filter, &hook);
        graph.replace(&filter, &image).unwrap();
        assert!(Arc::ptr_eq(&disk.target().unwrap(), &image), "round {round}");
    }
    stop.store(true, Ordering::SeqCst);
    replacing.join().unwrap();
    draining.join().unwrap();
    for (n, writer) in writers.into_iter().enumerate() {
        let model = writer.join().unwrap();
        assert!(store.snapshot()[n * 16384..][..16384] == model, "writer {n}");
    }
}

/// Opens nines, if it is there.
struct OnlyIf(AtomicBool);

impl Recipe for OnlyIf {
    fn open(&self, _: &DiskOptions) -> Result<Arc<dyn Node>, OpenError> {
        match self.0.load(Ordering::SeqCst) {
            true => Ok(Arc::new(Memory::new(vec![9; SIZE], false))),
            false => Err(OpenError::Option("there is no node".to_owned())),
        }
    }

    fn suits(&self, _: &DiskOptions, _: &DiskOptions) -> bool {
        false
    }
}

#[test]
fn a_node_that_cannot_be_opened_again_refuses_every_request() {
    let usual = || DiskOptions { discard: true, ..DiskOptions::default() };
    let graph = Graph::new();
    let member = graph.add(NewMember {
        name: graph.reserve(Some("disk")).unwrap(),
        node: Arc::new(Memory::new(vec![7; SIZE], false)),
        kind: NodeKind::Protocol,
        options: usual(),
        children: Vec::new(),
    });
    let device = User::Device("guest".to_owned());
    let edge = graph.attach(&member, device, Permissions::WRITER).unwrap();
    let kept = Arc::new(OnlyIf(AtomicBool::new(false)));
    member.set_recipe(Arc::clone(&kept) as _);
    let refused = graph.set_read_only(&member, true).unwrap_err().to_string();
    assert_eq!(refused, "Read-only block node 'disk' cannot support read-write users");
    let direct = DiskOptions { direct: true, ..usual() };
    let refused = graph.reopen(&member, direct).unwrap_err().to_string();
    assert_eq!(refused, "there is no node");
    assert_eq!(member.options(), usual());

    let size = SIZE as u64;
    assert_eq!(edge.size(), size);
    let mut buf = [0; 512];
    edge.read_at(0, &mut buf).unwrap_err();
    edge.read_at(size - 512, &mut buf).unwrap_err();
    assert!(!edge.read_cached(0, &mut buf));
    edge.write_at(0, &buf, PLAIN).unwrap_err();
    edge.write_zeroes(0, 512, ZeroFlags::default()).unwrap_err();
    edge.discard(0, 512).unwrap_err();
    edge.flush().unwrap_err();
    edge.block_status(0, 512).unwrap_err();
    edge.truncate(2 * size).unwrap_err();
    assert_eq!(edge.size(), size);

    kept.0.store(true, Ordering::SeqCst);
    graph.reopen(&member, usual()).unwrap();
    edge.read_at(0, &mut buf).unwrap();
    assert_eq!(buf, [9; 512]);
    edge.write_at(0, &[1; 512], PLAIN).unwrap();
}
