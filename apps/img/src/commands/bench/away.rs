//! Requests to a node at the other end of a connection: the next one leaves when an answer comes.

use super::{MAX_THREADS, Plan};
use graph::{Executor, Node, Plain, WriteFlags};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Carries the plan out, with as many requests in flight as it says.
///
/// # Errors
/// That of a request that fails.
pub(super) fn run(plan: Plan, node: &Arc<dyn Node>) -> io::Result<()> {
    let threads = plan.depth.min(MAX_THREADS) as usize;
    let load = Arc::new(Load {
        plan,
        size: node.size(),
        node: Arc::clone(node),
        // For those that have to wait for something else.
        executor: Executor::new("bench", threads),
        state: Mutex::default(),
        landed: Condvar::new(),
    });
    let depth = plan.depth.min(plan.count);
    load.state().flying = depth;
    for _ in 0..depth {
        load.clone().go_on(vec![plan.pattern; plan.buffer as usize]);
    }
    let mut state = load.state();
    while state.flying > 0 {
        state = load.landed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    state.failed.take().map_or(Ok(()), Err)
}

struct Load {
    plan: Plan,
    size: u64,
    node: Arc<dyn Node>,
    executor: Arc<Executor>,
    state: Mutex<State>,
    /// Nothing is in flight any more.
    landed: Condvar,
}

#[derive(Default)]
struct State {
    /// Requests that began.
    begun: u64,
    flying: u64,
    failed: Option<io::Error>,
}

impl Load {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the next request in the place of one that ended.
    fn go_on(self: Arc<Self>, buf: Vec<u8>) {
        let mut state = self.state();
        let number = state.begun;
        let offset = match self.plan.offset(number, self.size) {
            Ok(offset) if number < self.plan.count && state.failed.is_none() => offset,
            ended => {
                if let Err(failure) = ended {
                    state.failed = Some(failure);
                }
                state.flying -= 1;
                if state.flying == 0 {
                    self.landed.notify_all();
                }
                return;
            }
        };
        state.begun += 1;
        drop(state);
        let write = self.plan.write;
        let plain = Plain::find(&*self.node, offset, self.plan.buffer, write);
        match plain.filter(|plain| plain.interface().is_none()) {
            Some(plain) => {
                plain.send(write, buf, Box::new(move |result, buf| self.answered(result, buf)));
            }
            None => {
                let executor = Arc::clone(&self.executor);
                executor.spawn(move || self.block(offset, buf));
            }
        }
    }

    fn answered(self: Arc<Self>, result: io::Result<()>, buf: Vec<u8>) {
        if let Err(failure) = result {
            self.state().failed = Some(failure);
        }
        self.go_on(buf);
    }

    fn block(self: Arc<Self>, offset: u64, mut buf: Vec<u8>) {
        let result = match self.plan.write {
            true => self.node.write_at(offset, &buf, WriteFlags::default()),
            false => self.node.read_at(offset, &mut buf),
        };
        self.answered(result, buf);
    }
}
