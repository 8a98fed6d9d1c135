//! Times in which nothing is in flight in a part of the graph.
//!
//! Requests are held back where they begin, at the edges of devices, exports and jobs, and nowhere
//! else: one that is inside the graph always gets to its end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::{Edge, Graph, Member};

/// All drains of a graph that have not ended.
#[derive(Default)]
pub(crate) struct Drains {
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    next: u64,
    running: Vec<Running>,
}

struct Running {
    id: u64,
    members: Vec<Weak<Member>>,
    /// The edges that were closed for it.
    closed: Vec<Weak<Edge>>,
    /// The nodes that were told to let requests go.
    hastened: Vec<Weak<Member>>,
}

/// Proof that nothing is in flight in some nodes and above them. Ends when dropped.
pub struct Drained {
    graph: Arc<Graph>,
    id: u64,
}

impl Drop for Drained {
    fn drop(&mut self) {
        self.graph.drains.end(self.id);
    }
}

impl Drains {
    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes every edge from which requests reach one of `members`, and waits for those in flight.
    /// The caller holds the graph's lock for changes.
    pub fn begin(&self, graph: &Arc<Graph>, members: &[&Arc<Member>]) -> Drained {
        let mut list = self.list();
        let id = list.next;
        list.next += 1;
        let members = members.iter().map(|member| Arc::downgrade(member)).collect();
        list.running.push(Running { id, members, closed: Vec::new(), hastened: Vec::new() });
        drop(list);
        self.extend();
        Drained { graph: Arc::clone(graph), id }
    }

    /// Closes for each drain the edges that lead to its nodes by now. The caller holds the graph's
    /// lock for changes.
    pub fn extend(&self) {
        let mut fresh = Vec::new();
        for running in &mut self.list().running {
            let members = running.members.iter().filter_map(Weak::upgrade).collect();
            let roots = roots_above(members);
            for edge in roots {
                if running.closed.iter().any(|one| std::ptr::eq(one.as_ptr(), Arc::as_ptr(&edge))) {
                    continue;
                }
                edge.close();
                running.closed.push(Arc::downgrade(&edge));
                for member in edge.target().map(below).unwrap_or_default() {
                    member.node().hasten(true);
                    running.hastened.push(Arc::downgrade(&member));
                }
                fresh.push(edge);
            }
        }
        // Without the list's lock: a drain that ends meanwhile only opens edges.
        fresh.iter().for_each(|edge| edge.settle());
    }

    fn end(&self, id: u64) {
        let mut list = self.list();
        let Some(at) = list.running.iter().position(|running| running.id == id) else { return };
        let running = list.running.swap_remove(at);
        drop(list);
        for member in running.hastened.iter().filter_map(Weak::upgrade) {
            member.node().hasten(false);
        }
        running.closed.iter().filter_map(Weak::upgrade).for_each(|edge| edge.open());
    }
}

/// The edges of devices, exports and jobs from which requests reach one of `members`.
fn roots_above(members: Vec<Arc<Member>>) -> Vec<Arc<Edge>> {
    let (mut waiting, mut seen, mut roots) = (members, Vec::new(), Vec::new());
    while let Some(member) = waiting.pop() {
        if seen.iter().any(|one| Arc::ptr_eq(one, &member)) {
            continue;
        }
        for edge in member.parents() {
            match edge.parent() {
                Some(parent) => waiting.push(parent),
                None if edge.is_root() => roots.push(edge),
                // A node that is being opened has no requests yet.
                None => {}
            }
        }
        seen.push(member);
    }
    roots
}

/// A node and all that it uses.
fn below(top: Arc<Member>) -> Vec<Arc<Member>> {
    let (mut waiting, mut seen) = (vec![top], Vec::<Arc<Member>>::new());
    while let Some(member) = waiting.pop() {
        if seen.iter().any(|one| Arc::ptr_eq(one, &member)) {
            continue;
        }
        waiting.extend(member.children().iter().filter_map(|edge| edge.target()));
        let hooks = member.hooks.now();
        let used = hooks.iter().flat_map(|hook| hook.edges());
        waiting.extend(used.filter_map(|edge| edge.target()));
        seen.push(member);
    }
    seen
}
