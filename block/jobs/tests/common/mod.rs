//! What several tests need: layers in memory that can fail, a graph of them, a guest that writes.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;

use graph::{
    Child, DiskOptions, Edge, Extent, ExtentKind, Graph, Image, Member, NewMember, Node, NodeInfo,
    NodeKind, Overlay, Permissions, Preallocation, Role, User, WriteFlags, ZeroFlags,
};
use jobs::Jobs;
use jobs::job::{Event, JobInfo, Listener, Status};
use jobs::site::Site;
pub use seeded::Random;

pub const CLUSTER: u64 = 4096;
pub const MIB: u64 = 1 << 20;

/// Which requests fail.
#[derive(Default)]
pub struct Faults {
    /// Error number of failing requests.
    pub errno: AtomicI32,
    /// So many reads fail from now on, in a range.
    pub reads: AtomicU64,
    /// So many writes fail from now on.
    pub writes: AtomicU64,
    /// Requests that start before this offset do not fail.
    pub from: AtomicU64,
    /// Writes that were tried.
    pub written: AtomicU64,
}

impl Faults {
    pub fn fail_writes(&self, errno: i32, count: u64) {
        self.errno.store(errno, Ordering::SeqCst);
        self.writes.store(count, Ordering::SeqCst);
    }

    pub fn fail_reads(&self, errno: i32, count: u64) {
        self.errno.store(errno, Ordering::SeqCst);
        self.reads.store(count, Ordering::SeqCst);
    }

    fn meet(&self, left: &AtomicU64, offset: u64) -> io::Result<()> {
        if offset < self.from.load(Ordering::SeqCst) {
            return Ok(());
        }
        let less = |n: u64| n.checked_sub(1);
        match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) {
            Ok(_) => Err(io::Error::from_raw_os_error(self.errno.load(Ordering::SeqCst))),
            Err(_) => Ok(()),
        }
    }
}

/// A layer in memory: clusters of its own over a backing file.
pub struct Layer {
    size: AtomicU64,
    clusters: RwLock<BTreeMap<u64, Vec<u8>>>,
    backing: Option<Arc<Edge>>,
    pub faults: Faults,
    pub recorded: Mutex<Option<(String, String)>>,
}

impl Layer {
    pub fn new(size: u64, backing: Option<Arc<Edge>>) -> Arc<Self> {
        Arc::new(Self {
            size: AtomicU64::new(size),
            clusters: RwLock::default(),
            backing,
            faults: Faults::default(),
            recorded: Mutex::default(),
        })
    }

    fn below(&self, cluster: u64) -> io::Result<Vec<u8>> {
        let mut buf = vec![0; CLUSTER as usize];
        let start = cluster * CLUSTER;
        if let Some(backing) = &self.backing {
            let len = CLUSTER.min(backing.size().saturating_sub(start));
            if len != 0 {
                backing.read_at(start, &mut buf[..len as usize])?;
            }
        }
        Ok(buf)
    }

    pub fn allocated(&self) -> Vec<u64> {
        self.clusters.read().unwrap().keys().copied().collect()
    }
}

impl Node for Layer {
    fn size(&self) -> u64 {
        self.size.load(Ordering::SeqCst)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        graph::check_range(offset, buf.len() as u64, self.size())?;
        self.faults.meet(&self.faults.reads, offset)?;
        let clusters = self.clusters.read().unwrap();
        let mut at = offset;
        let end = offset + buf.len() as u64;
        while at < end {
            let cluster = at / CLUSTER;
            let from = (at % CLUSTER) as usize;
            let len = (CLUSTER as usize - from).min((end - at) as usize);
            let into = &mut buf[(at - offset) as usize..][..len];
            match clusters.get(&cluster) {
                Some(bytes) => into.copy_from_slice(&bytes[from..from + len]),
                None => into.copy_from_slice(&self.below(cluster)?[from..from + len]),
            }
            at += len as u64;
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, buf: &[u8], _flags: WriteFlags) -> io::Result<()> {
        graph::check_range(offset, buf.len() as u64, self.size())?;
        self.faults.written.fetch_add(1, Ordering::SeqCst);
        self.faults.meet(&self.faults.writes, offset)?;
        let mut clusters = self.clusters.write().unwrap();
        let mut at = offset;
        let end = offset + buf.len() as u64;
        while at < end {
            let cluster = at / CLUSTER;
            let from = (at % CLUSTER) as usize;
            let len = (CLUSTER as usize - from).min((end - at) as usize);
            let bytes = match clusters.entry(cluster) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(self.below(cluster)?),
            };
            bytes[from..from + len].copy_from_slice(&buf[(at - offset) as usize..][..len]);
            at += len as u64;
        }
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, len: u64, _flags: ZeroFlags) -> io::Result<()> {
        let mut at = offset;
        while at < offset + len {
            let n = (CLUSTER - at % CLUSTER).min(offset + len - at);
            self.write_at(at, &vec![0; n as usize], WriteFlags::default())?;
            at += n;
        }
        Ok(())
    }

    fn discard(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        let clusters = self.clusters.read().unwrap();
        let has = |at: u64| clusters.contains_key(&(at / CLUSTER));
        let first = has(offset);
        let mut end = offset;
        while end < offset + len && has(end) == first {
            end = (end / CLUSTER + 1) * CLUSTER;
        }
        let kind = if first { ExtentKind::Data } else { ExtentKind::Unallocated };
        Ok(Extent { kind, len: end.min(offset + len) - offset, host_offset: None })
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.size.store(size, Ordering::SeqCst);
        Ok(())
    }

    fn read_only(&self) -> bool {
        false
    }

    fn children(&self) -> Vec<Child> {
        let node = |edge: Arc<Edge>| Child { role: Role::Backing, node: edge };
        self.backing.clone().map(node).into_iter().collect()
    }

    fn info(&self) -> NodeInfo {
        NodeInfo { driver: "layer", filename: "layer.img".to_owned(), ..NodeInfo::default() }
    }

    fn image(&self) -> Option<&dyn Image> {
        Some(self)
    }
}

impl Image for Layer {
    fn resize(&self, size: u64, _preallocation: Preallocation) -> io::Result<()> {
        self.truncate(size)
    }
    fn overlay(&self) -> Option<&dyn Overlay> {
        Some(self)
    }
}

impl Overlay for Layer {
    fn record_backing(&self, name: Option<&str>, format: Option<&str>) -> io::Result<()> {
        let both = name.map(|name| (name.to_owned(), format.unwrap_or_default().to_owned()));
        *self.recorded.lock().unwrap() = both;
        Ok(())
    }
    fn make_empty(&self) -> io::Result<()> {
        self.clusters.write().unwrap().clear();
        Ok(())
    }
}

/// A graph of layers, its jobs, and what was heard of them.
pub struct World {
    pub site: Arc<Site>,
    pub heard: Arc<Heard>,
}

#[derive(Default)]
pub struct Heard(Mutex<Vec<Event>>);

impl Listener for Heard {
    fn hear(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl World {
    pub fn new() -> Self {
        let heard = Arc::new(Heard::default());
        let clock = Arc::new(jobs::job::HostClock::default());
        let jobs = Jobs::new(Arc::clone(&heard) as Arc<dyn Listener>, clock);
        Self { site: Arc::new(Site::new(Graph::new(), jobs)), heard }
    }

    /// Adds a layer over another one.
    pub fn layer(&self, name: &str, size: u64, backing: Option<&Arc<Member>>) -> Arc<Layer> {
        let graph = &self.site.graph;
        let name = graph.reserve(Some(name)).unwrap();
        let kind = NodeKind::Format;
        let edge = graph.child(&name, kind, Role::Backing, backing, true).unwrap();
        let layer = Layer::new(size, Some(Arc::clone(&edge)));
        let node = Arc::clone(&layer) as Arc<dyn Node>;
        let options = DiskOptions::default();
        let member = graph.add(NewMember { name, node, kind, options, children: vec![edge] });
        graph.keep(&member);
        layer
    }

    pub fn member(&self, name: &str) -> Arc<Member> {
        self.site.graph.named(name).unwrap()
    }

    /// What a device holds.
    pub fn device(&self, name: &str) -> Arc<Edge> {
        let user = User::Device("disk".to_owned());
        let needs = Permissions::WRITER.sharing_writes();
        self.site.graph.attach(&self.member(name), user, needs).unwrap()
    }

    pub fn until(&self, id: &str, status: Status) {
        let is_so = |list: &[JobInfo]| list.iter().any(|job| job.id == id && job.status == status);
        self.site.jobs.wait(is_so);
    }

    /// Waits for the end of a job that is not dismissed; its error.
    pub fn end(&self, id: &str) -> Option<String> {
        self.until(id, Status::Concluded);
        let error = self.site.jobs.info(id).unwrap().error;
        self.site.jobs.dismiss(id).unwrap();
        error
    }

    /// The names of the events so far, but for changes of state.
    pub fn heard(&self) -> Vec<&'static str> {
        let events = std::mem::take(&mut *self.heard.0.lock().unwrap());
        let names = events.iter().map(Event::name);
        names.filter(|name| *name != "JOB_STATUS_CHANGE").collect()
    }
}

pub fn read_all(node: &dyn Node) -> Vec<u8> {
    let mut bytes = vec![0; node.size() as usize];
    for (i, part) in bytes.chunks_mut(1 << 20).enumerate() {
        node.read_at((i as u64) << 20, part).unwrap();
    }
    bytes
}

/// Fills a range with bytes that tell where they belong.
pub fn fill(node: &dyn Node, offset: u64, len: u64, seed: u8) {
    let data: Vec<u8> =
        (offset..offset + len).map(|at| (at >> 9) as u8 ^ (at as u8) ^ seed).collect();
    node.write_at(offset, &data, WriteFlags::default()).unwrap();
}

/// A guest that goes on writing, and knows what its disk holds.
pub struct Guest {
    model: Arc<Mutex<Vec<u8>>>,
    stop: Arc<AtomicBool>,
    writes: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Guest {
    /// Starts to write to a disk whose content it reads first.
    pub fn start(disk: &Arc<Edge>, seed: u64) -> Self {
        let model = Arc::new(Mutex::new(read_all(&**disk)));
        let stop = Arc::new(AtomicBool::new(false));
        let writes = Arc::new(AtomicU64::new(0));
        let worker = |number: u64| {
            let (disk, model) = (Arc::clone(disk), Arc::clone(&model));
            let (stop, writes) = (Arc::clone(&stop), Arc::clone(&writes));
            std::thread::spawn(move || {
                let mut random = Random(seed + number);
                while !stop.load(Ordering::SeqCst) {
                    write_one(&disk, &model, &mut random);
                    writes.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let threads = (0..2).map(worker).collect();
        Self { model, stop, writes, threads }
    }

    /// Waits until it has written so many times more.
    pub fn more(&self, count: u64) {
        let until = self.writes.load(Ordering::SeqCst) + count;
        while self.writes.load(Ordering::SeqCst) < until {
            std::thread::yield_now();
        }
    }

    /// Does something while no write is on its way, and tells what the disk holds then.
    pub fn still<T>(&self, act: impl FnOnce() -> T) -> (T, Vec<u8>) {
        let model = self.model.lock().unwrap();
        let result = act();
        (result, model.clone())
    }

    /// Stops writing; what the disk holds.
    pub fn stop(self) -> Vec<u8> {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().unwrap();
        }
        Arc::try_unwrap(self.model).ok().unwrap().into_inner().unwrap()
    }
}

fn write_one(disk: &Arc<Edge>, model: &Mutex<Vec<u8>>, random: &mut Random) {
    let len = (random.below(24) + 1) * 512;
    let offset = random.below((disk.size() - len) / 512) * 512;
    let range = offset as usize..(offset + len) as usize;
    let byte = random.next() as u8 | 1;
    let data = vec![byte; len as usize];
    // One write at a time, so that the model is exact; the other thread waits to be next.
    let mut model = model.lock().unwrap();
    if random.below(8) == 0 {
        disk.write_zeroes(offset, len, ZeroFlags { unmap: true, fua: false }).unwrap();
        model[range].fill(0);
    } else {
        disk.write_at(offset, &data, WriteFlags::default()).unwrap();
        model[range].copy_from_slice(&data);
    }
}
