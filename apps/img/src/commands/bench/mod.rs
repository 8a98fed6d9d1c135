//! `bench`: how long a number of requests takes.

mod away;
mod flights;

use crate::args::{Args, NO_SHORT, flag, takes};
use crate::image::{self, ImageArgs};
use crate::{Command, Failure, Invocation, text};
use graph::{Aio, Node, WriteFlags};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

pub(crate) const COMMAND: Command = Command {
    name: "bench",
    summary: "Run simple image benchmark",
    usage: &[
        "[-f FMT | --image-opts] [-t CACHE] [-c COUNT] [-d DEPTH]",
        "[-o OFFSET] [-s BUFFER_SIZE] [-S STEP_SIZE] [-i AIO] [-n]",
        "[-w [--pattern PATTERN] [--flush-interval INTERVAL [--no-drain]]] FILENAME",
    ],
    options: &[
        flag('h', "help", image::HELP),
        flag('q', "quiet", image::QUIET),
        takes('f', "format", "FMT", image::FORMAT),
        flag(NO_SHORT, "image-opts", image::IMAGE_OPTS),
        takes('t', "cache", "CACHE", image::CACHE),
        takes('c', "count", "COUNT", "number of requests (75000)"),
        takes('s', "buffer-size", "BUFFER_SIZE", "bytes of each request (4k)"),
        takes('d', "depth", "DEPTH", "requests at a time (64)"),
        takes('o', "offset", "OFFSET", "where the first request begins (0)"),
        takes(
            'S',
            "step-size",
            "STEP_SIZE",
            "from the beginning of one request to that of the next (BUFFER_SIZE)",
        ),
        takes('i', "aio", "AIO", "way of asynchronous I/O (threads)"),
        flag('n', "native", "the host's own asynchronous I/O where possible"),
        flag('w', "write", "write, instead of reading"),
        takes(NO_SHORT, "pattern", "PATTERN", "byte to write (0)"),
        takes(NO_SHORT, "flush-interval", "INTERVAL", "flush after so many requests"),
        flag(NO_SHORT, "no-drain", "do not wait for requests in flight before a flush"),
        flag('U', "force-share", image::FORCE_SHARE),
    ],
    operands: &[("FILENAME", image::FILENAME)],
    run,
};

/// Most threads, whatever the depth.
const MAX_THREADS: u64 = 64;

#[derive(Clone, Copy)]
struct Plan {
    count: u64,
    depth: u64,
    offset: u64,
    buffer: u64,
    step: u64,
    write: bool,
    pattern: u8,
    flush_interval: u64,
    drain: bool,
    aio: Aio,
}

fn run(called: &Invocation, args: &Args) -> Result<u8, Failure> {
    let image_args = image_args(args)?;
    let plan = plan(args)?;
    let aio = if args.has("native") { Aio::Native } else { plan.aio };
    let filename = called.one_operand(args, "Expecting one image file name")?;
    let node = image_args.open(filename, |o| (o.writable, o.aio) = (plan.write, aio))?;
    // The peer knows the option and prints all the same.
    let quiet = args.has("quiet") && called.is_own();
    if !quiet {
        announce(&plan);
    }
    let begun = Instant::now();
    carry_out(plan, &node).map_err(|e| Failure::io("Failed request", &e))?;
    if !quiet {
        println!("Run completed in {:.3} seconds.", begun.elapsed().as_secs_f64());
    }
    Ok(0)
}

fn image_args(args: &Args) -> Result<ImageArgs, Failure> {
    let mut image_args = ImageArgs::with_format(args, args.value("format"))?;
    let cache = image_args.set_cache("", args.value("cache"));
    cache.map_err(|_| Failure::new("Invalid cache mode"))?;
    Ok(image_args)
}

fn plan(args: &Args) -> Result<Plan, Failure> {
    let int = i64::from(i32::MAX) as u64;
    let number = |option, what: &str, bounds: std::ops::RangeInclusive<u64>, default| {
        let Some(value) = args.value(option) else { return Ok(default) };
        let parsed: u64 = value
            .parse()
            .map_err(|_| Failure::new(format!("Invalid {what} specified: '{value}'.")))?;
        Some(parsed).filter(|n| bounds.contains(n)).ok_or_else(|| {
            let (low, high) = (bounds.start(), bounds.end());
            Failure::new(format!("Invalid {what} specified. Must be between {low} and {high}."))
        })
    };
    let bytes = |option, what, default| {
        args.value(option).map_or(Ok(default), |value| text::parse_bytes(what, value))
    };
    let aio = args.value("aio").unwrap_or("threads");
    let aio = Aio::named(aio).ok_or_else(|| Failure::new(format!("Invalid aio option: {aio}")))?;
    let write = args.has("write");
    let buffer = bytes("buffer-size", "buffer size", 4096)?;
    if buffer == 0 || buffer > int {
        return Err(Failure::new(
            "Invalid buffer size specified. Must be between 1 and 2147483647.",
        ));
    }
    let step = match bytes("step-size", "step size", 0)? {
        0 => buffer,
        step => step,
    };
    let plan = Plan {
        count: number("count", "request count", 1..=int, 75_000)?,
        depth: number("depth", "queue depth", 1..=int, 64)?,
        offset: bytes("offset", "offset", 0)?,
        buffer,
        step,
        write,
        // Below 256.
        pattern: number("pattern", "pattern byte", 0..=255, 0)? as u8,
        flush_interval: number("flush-interval", "flush interval", 0..=int, 0)?,
        drain: !args.has("no-drain"),
        aio,
    };
    if !write && plan.flush_interval != 0 {
        return Err(Failure::new("--flush-interval is only available in write tests"));
    }
    if plan.flush_interval != 0 && plan.flush_interval < plan.depth {
        return Err(Failure::new("Flush interval can't be smaller than depth"));
    }
    Ok(plan)
}

fn announce(plan: &Plan) {
    println!(
        "Sending {} {} requests, {} bytes each, {} in parallel (starting at offset {}, step size {})",
        plan.count,
        if plan.write { "write" } else { "read" },
        plan.buffer,
        plan.depth,
        plan.offset,
        plan.step
    );
    if plan.flush_interval != 0 {
        println!("Sending flush every {} requests", plan.flush_interval);
    }
}

/// Carries the plan out in the way that the node has.
fn carry_out(plan: Plan, node: &Arc<dyn Node>) -> io::Result<()> {
    let load = Load { plan: &plan, node: &**node, size: node.size() };
    match node.aio() {
        // A flush in between waits for some requests and not for others: callers do that best.
        Aio::Remote if plan.depth > 1 && plan.flush_interval == 0 => away::run(plan, node),
        aio => match aio.interface() {
            Some(interface) => flights::run(&load, interface),
            None => load.run(),
        },
    }
}

struct Load<'a> {
    plan: &'a Plan,
    node: &'a dyn Node,
    size: u64,
}

impl Load<'_> {
    /// By threads, each with one request at a time.
    fn run(&self) -> io::Result<()> {
        let next = AtomicU64::new(0);
        let stop = AtomicBool::new(false);
        let failed = Mutex::new(None);
        // Held for reading by requests in flight, for writing by a flush that waits for them.
        let gate = RwLock::new(());
        std::thread::scope(|scope| {
            for _ in 0..self.plan.depth.min(self.plan.count).min(MAX_THREADS) {
                scope.spawn(|| {
                    if let Err(error) = self.work(&next, &stop, &gate) {
                        stop.store(true, Ordering::Relaxed);
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    }
                });
            }
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn work(&self, next: &AtomicU64, stop: &AtomicBool, gate: &RwLock<()>) -> io::Result<()> {
        let mut buf = vec![self.plan.pattern; self.plan.buffer as usize];
        while !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= self.plan.count {
                return Ok(());
            }
            {
                let _in_flight = gate.read().unwrap_or_else(PoisonError::into_inner);
                self.request(number, &mut buf)?;
            }
            let interval = self.plan.flush_interval;
            if interval != 0 && (number + 1).is_multiple_of(interval) {
                let _waited =
                    self.plan.drain.then(|| gate.write().unwrap_or_else(PoisonError::into_inner));
                self.node.flush()?;
            }
        }
        Ok(())
    }

    fn request(&self, number: u64, buf: &mut [u8]) -> io::Result<()> {
        let offset = self.plan.offset(number, self.size)?;
        if self.plan.write {
            self.node.write_at(offset, buf, WriteFlags::default())
        } else {
            self.node.read_at(offset, buf)
        }
    }
}

impl Plan {
    /// Requests go round: what would begin behind the end of `size` bytes begins at the front again.
    fn offset(&self, number: u64, size: u64) -> io::Result<u64> {
        if self.offset.saturating_add(self.buffer) > size {
            return Err(io::Error::other("Input/output error"));
        }
        let room = size - self.buffer + 1;
        let offset = (u128::from(self.offset) + u128::from(number) * u128::from(self.step))
            % u128::from(room);
        // Below the disk's length.
        Ok(offset as u64)
    }
}
