//! What the machine lends to its devices: disks, character back ends, networks, entropy.

use crate::system::disks::{self, Disks};
use chardev::Chardevs;
use formats::OBJECT_KINDS;
use graph::Executor;
use netdev::NetBackend;
use plan::Plan;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use virtio::Backends;
use virtio::rng::{BuiltinRng, RngBackend};

/// Last part of the address of the first network card that has none of its own.
const FIRST_MAC: u8 = 0x56;

/// All that devices may ask for by id.
pub struct Lent<'a> {
    disks: &'a Disks,
    chardevs: &'a Chardevs,
    plan: &'a Plan,
    rngs: HashMap<String, Arc<dyn RngBackend>>,
    iothreads: HashMap<String, Arc<Executor>>,
    next_mac: AtomicU8,
}

/// Makes ready what the plan's objects and networks ask for.
///
/// # Errors
/// One is not supported yet, or the host does not have it.
pub fn lend<'a>(
    program: &str,
    plan: &'a Plan,
    disks: &'a Disks,
    chardevs: &'a Chardevs,
) -> Result<Lent<'a>, String> {
    let mut rngs: HashMap<String, Arc<dyn RngBackend>> = HashMap::new();
    let mut iothreads = HashMap::new();
    for object in &plan.objects {
        if object.kind == "iothread" {
            iothreads.insert(object.id.clone(), Executor::new(&object.id, disks::WORKERS));
            continue;
        }
        let source: Arc<dyn RngBackend> = match object.kind.as_str() {
            "rng-builtin" => Arc::new(BuiltinRng),
            "rng-random" => {
                let named = object.properties.iter().rev().find(|p| p.name == "filename");
                let path = named.map_or("/dev/urandom", |p| p.value.as_str());
                let file = File::open(path).map_err(|e| {
                    let why = super::show::plain(&e);
                    format!("{}: Could not open '{path}': {why}", object.origin)
                })?;
                Arc::new(RandomFile(Mutex::new(file)))
            }
            // Those belong to images (see `disks::objects`).
            kind if OBJECT_KINDS.contains(&kind) => continue,
            kind => {
                let origin = &object.origin;
                return Err(format!("{origin}: not supported yet: objects of type '{kind}'"));
            }
        };
        rngs.insert(object.id.clone(), source);
    }
    for net in plan.netdevs.iter().filter(|net| net.kind != "hubport") {
        let note = "not supported yet: it discards all that is sent";
        eprintln!("{program}: warning: {}: {note}", net.origin);
    }
    Ok(Lent { disks, chardevs, plan, rngs, iothreads, next_mac: AtomicU8::new(FIRST_MAC) })
}

impl Backends for Lent<'_> {
    fn drive(&self, id: &str) -> Option<virtio::Drive> {
        self.disks.drive(id)
    }
    fn rng(&self, id: &str) -> Option<Arc<dyn RngBackend>> {
        self.rngs.get(id).cloned()
    }
    fn iothread(&self, id: &str) -> Option<Arc<Executor>> {
        self.iothreads.get(id).cloned()
    }
    fn chardev(&self, id: &str) -> Option<chardev::Port> {
        self.chardevs.port(id)
    }
    fn netdev(&self, id: &str) -> Option<Box<dyn NetBackend>> {
        let known = self.plan.netdevs.iter().any(|net| net.id == id);
        known.then(|| Box::new(netdev::Discard) as Box<dyn NetBackend>)
    }
    fn mac(&self) -> [u8; 6] {
        [0x52, 0x54, 0x00, 0x12, 0x34, self.next_mac.fetch_add(1, Ordering::Relaxed)]
    }
    fn cpus(&self) -> u16 {
        self.disks.cpus()
    }
}

/// `rng-random`: a file that never ends.
struct RandomFile(Mutex<File>);

impl RngBackend for RandomFile {
    fn fill(&self, buffer: &mut [u8]) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read_exact(buffer)
    }
}
