//! Requests that the kernel has in flight, for `-i native` and `-i io_uring`.

use super::Load;
use graph::{ALIGN, Plain, WriteFlags, aligned_start};
use host::aio::{Interface, Ring};
use std::io;

/// Carries the load out on this thread, with as many requests in flight as the plan says.
///
/// # Errors
/// That of the first request that fails.
pub(super) fn run(load: &Load<'_>, interface: Interface) -> io::Result<()> {
    let plan = load.plan;
    let mut flights = Flights {
        load,
        ring: Ring::new(interface)?,
        flying: Vec::new(),
        free: Vec::new(),
        done: Vec::new(),
    };
    for number in 0..plan.count {
        flights.wait_below(plan.depth as usize)?;
        flights.start(number)?;
        if plan.flush_interval != 0 && (number + 1).is_multiple_of(plan.flush_interval) {
            if plan.drain {
                flights.wait_below(1)?;
            }
            load.node.flush()?;
        }
    }
    flights.wait_below(1)
}

struct Flights<'a> {
    load: &'a Load<'a>,
    ring: Ring,
    flying: Vec<Option<Plain>>,
    /// Places in `flying`, with their buffers.
    free: Vec<(usize, Vec<u8>)>,
    done: Vec<host::aio::Done>,
}

impl Flights<'_> {
    fn start(&mut self, number: u64) -> io::Result<()> {
        let (plan, node) = (self.load.plan, self.load.node);
        let offset = plan.offset(number, self.load.size)?;
        let (slot, mut buf) = self.free.pop().unwrap_or_else(|| {
            self.flying.push(None);
            (self.flying.len() - 1, vec![plan.pattern; plan.buffer as usize + ALIGN])
        });
        let at = aligned_start(&buf);
        let plain = Plain::find(node, offset, plan.buffer, plan.write);
        if let Some(plain) = plain.filter(|plain| plain.interface().is_some()) {
            self.ring.push(plain.request(slot as u64, plan.write, buf, at));
            self.flying[slot] = Some(plain);
            return Ok(());
        }
        let bytes = &mut buf[at..at + plan.buffer as usize];
        let result = match plan.write {
            true => node.write_at(offset, bytes, WriteFlags::default()),
            false => node.read_at(offset, bytes),
        };
        self.free.push((slot, buf));
        result
    }

    /// Waits until fewer than `most` requests are in flight.
    fn wait_below(&mut self, most: usize) -> io::Result<()> {
        while self.ring.in_flight() >= most {
            self.ring.wait(&mut self.done)?;
            for done in self.done.drain(..) {
                let slot = done.tag as usize;
                if let Some(plain) = self.flying.get_mut(slot).and_then(Option::take)
                    && self.load.plan.write
                {
                    plain.written();
                }
                self.free.push((slot, done.buf));
                done.result?;
            }
        }
        Ok(())
    }
}
