//! The graph: nodes by name, their edges, and the operations that change either.
//!
//! Decision 13 has the order of locks. In short: one change at a time; who changes something first
//! drains all that leads there; requests never wait inside the graph and never take its lock.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use crate::drain::{Drained, Drains};
use crate::member::Block;
use crate::reopen::cycle;
use crate::{
    Access, Disk, DiskOptions, Edge, Hook, Member, Node, NodeKind, Notice, OpenError, Operation,
    Permissions, Preallocation, Role, User, WriteThreshold,
};

/// Named nodes and their edges. One per machine or daemon, shared.
#[derive(Default)]
pub struct Graph {
    /// Held by who changes the graph, also while it waits for requests to end.
    changing: Mutex<()>,
    /// Leaf lock: nothing is waited for and nothing else is locked under it.
    names: Mutex<Names>,
    pub(crate) drains: Drains,
    pub(crate) notices: OnceLock<Hearer>,
}

/// Who hears what nodes have to tell.
type Hearer = Box<dyn Fn(Notice) + Send + Sync>;

#[derive(Default)]
struct Names {
    /// Every node in the order of its coming.
    members: Vec<Weak<Member>>,
    /// Nodes that a monitor or the command line added and that live until they are removed.
    kept: BTreeMap<String, Arc<Member>>,
    /// Names of nodes that are being opened.
    reserved: Vec<String>,
    next: u64,
}

/// A node that is to be added.
pub struct NewMember {
    /// The name that [`Graph::reserve`] gave.
    pub name: Name,
    /// The node.
    pub node: Arc<dyn Node>,
    /// What it is to its children.
    pub kind: NodeKind,
    /// The policy it is opened with.
    pub options: DiskOptions,
    /// The edges that the node uses, from [`Graph::child`].
    pub children: Vec<Arc<Edge>>,
}

/// A name that nobody else can take as long as this exists.
pub struct Name {
    graph: Arc<Graph>,
    text: String,
}

impl Name {
    /// The name.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        self.graph.names().reserved.retain(|name| *name != self.text);
    }
}

/// Keeps operations on a node from being started, until dropped.
pub struct Blocker {
    member: Arc<Member>,
    id: u64,
}

impl Drop for Blocker {
    fn drop(&mut self) {
        self.member.links().blocks.retain(|block| block.id != self.id);
    }
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every node, in the order of their coming.
    pub fn members(&self) -> Vec<Arc<Member>> {
        let mut names = self.names();
        let there: Vec<_> = names.members.iter().filter_map(Weak::upgrade).collect();
        names.members.retain(|member| member.strong_count() > 0);
        there
    }

    /// The node called `name`, if there is one.
    pub fn named(&self, name: &str) -> Option<Arc<Member>> {
        // The newest: an older one of that name is about to go.
        self.members().into_iter().rev().find(|member| member.name() == name)
    }

    /// The node called `name`.
    ///
    /// # Errors
    /// `Option` with QEMU's text.
    pub fn get(&self, name: &str) -> Result<Arc<Member>, OpenError> {
        let missing =
            || OpenError::Option(format!("Cannot find device='{name}' nor node-name='{name}'"));
        self.named(name).ok_or_else(missing)
    }

    /// Takes a name for a node that is about to be opened, or makes one.
    ///
    /// # Errors
    /// `Option` with QEMU's text for a name that is malformed or taken.
    pub fn reserve(self: &Arc<Self>, name: Option<&str>) -> Result<Name, OpenError> {
        // A node that its last user has left goes as soon as nobody looks at it; its name is free.
        let present = self.members();
        let present = present.iter().filter(|m| !m.is_left() || self.is_kept(m));
        let taken: Vec<_> = present.map(|m| m.name().to_owned()).collect();
        let mut names = self.names();
        let text = match name {
            Some(name) if !valid_node_name(name) => {
                return Err(OpenError::Option(format!("Invalid node-name: '{name}'")));
            }
            Some(name) if names.reserved.iter().chain(&taken).any(|n| n == name) => {
                let text = format!("Duplicate nodes with node-name='{name}'");
                return Err(OpenError::Option(text));
            }
            Some(name) => name.to_owned(),
            None => {
                let number = names.next;
                names.next += 1;
                format!("#block{number:03}")
            }
        };
        names.reserved.push(text.clone());
        Ok(Name { graph: Arc::clone(self), text })
    }

    /// An edge for a node that is about to be opened under `name`.
    ///
    /// # Errors
    /// `Option` with QEMU's text when a user of `target` does not allow it.
    pub fn child(
        &self,
        name: &Name,
        kind: NodeKind,
        role: Role,
        target: Option<&Arc<Member>>,
        writable: bool,
    ) -> Result<Arc<Edge>, OpenError> {
        let _change = self.change();
        self.new_child(name, role, target, kind.needs(role, Permissions::UNUSED, writable))
    }

    /// An edge for an inactive node that is about to be opened under `name`: others may do what they like.
    ///
    /// # Errors
    /// As [`Graph::child`].
    pub fn idle_child(
        &self,
        name: &Name,
        role: Role,
        target: Option<&Arc<Member>>,
    ) -> Result<Arc<Edge>, OpenError> {
        let _change = self.change();
        self.new_child(name, role, target, IDLE)
    }

    fn new_child(
        &self,
        name: &Name,
        role: Role,
        target: Option<&Arc<Member>>,
        needs: Permissions,
    ) -> Result<Arc<Edge>, OpenError> {
        let edge = Edge::new(User::Node(role), target, needs);
        match target {
            Some(target) => self.check(target, Some(&edge), name.text()).map(|()| edge),
            None => Ok(edge),
        }
    }

    /// An edge for a device, an export or a job.
    ///
    /// # Errors
    /// As [`Graph::child`].
    pub fn attach(
        &self,
        target: &Arc<Member>,
        user: User,
        permissions: Permissions,
    ) -> Result<Arc<Edge>, OpenError> {
        let _change = self.change();
        let edge = Edge::new(user, Some(target), permissions);
        self.check(target, None, "")?;
        self.drains.extend();
        Ok(edge)
    }

    /// Changes what the user of an edge does and allows.
    ///
    /// # Errors
    /// As [`Graph::child`]; the edge then keeps what it had.
    pub fn require(&self, edge: &Arc<Edge>, permissions: Permissions) -> Result<(), OpenError> {
        let _change = self.change();
        let before = edge.permissions();
        edge.set_permissions(permissions);
        match edge.target() {
            Some(target) => {
                self.check(&target, None, "").inspect_err(|_| edge.set_permissions(before))
            }
            None => Ok(()),
        }
    }

    /// Adds a node that has been opened.
    pub fn add(&self, new: NewMember) -> Arc<Member> {
        let NewMember { name, node, kind, options, children } = new;
        let _change = self.change();
        let member = Member::new(name.text().to_owned(), node, kind, options);
        for edge in &children {
            edge.set_parent(&member);
        }
        member.links().children = children.iter().map(Arc::downgrade).collect();
        self.names().members.push(Arc::downgrade(&member));
        self.drains.extend();
        member
    }

    /// Keeps a node until it is removed, whether it has users or not.
    pub fn keep(&self, member: &Arc<Member>) {
        self.names().kept.insert(member.name().to_owned(), Arc::clone(member));
    }

    /// Whether the node was added by a monitor or the command line.
    pub fn is_kept(&self, member: &Member) -> bool {
        self.names().kept.contains_key(member.name())
    }

    /// Removes a node that was added by a monitor or the command line (`blockdev-del`).
    ///
    /// # Errors
    /// `Option` with QEMU's text when there is none or it is in use.
    pub fn remove(&self, name: &str) -> Result<(), OpenError> {
        let refuse = |text: String| Err(OpenError::Option(text));
        let _change = self.change();
        let Some(member) = self.named(name) else {
            return refuse(format!("Failed to find node with node-name='{name}'"));
        };
        let users = member.parents();
        let in_use = || refuse(format!("Node {name} is in use"));
        if users.iter().any(|edge| matches!(edge.user(), User::Device(_))) {
            return in_use();
        }
        self.check_blocked(&member, Operation::Remove)?;
        if users.iter().any(|edge| edge.is_root()) {
            return in_use();
        }
        if !self.is_kept(&member) {
            return refuse(format!("Node {name} is not owned by the monitor"));
        }
        if !users.is_empty() {
            return refuse(format!("Block device {name} is in use"));
        }
        // What is left to write is written by the node when it goes.
        let kept = self.names().kept.remove(name);
        drop(kept);
        Ok(())
    }

    /// A disk for a device on top of the node called `name`, with the node's policy. It takes no
    /// permissions until [`Graph::require`] gives its edge some.
    ///
    /// # Errors
    /// As [`Graph::get`].
    pub fn disk(&self, name: &str) -> Result<Disk, OpenError> {
        let member = self.get(name)?;
        let edge = self.attach(&member, User::Device(String::new()), Permissions::UNUSED)?;
        Ok(Disk::on(edge, &member.options()))
    }

    /// Waits until nothing is in flight in the node and above it, and holds back what comes, until
    /// the result is dropped. The caller has no request in flight itself and begins none through an
    /// edge; the node itself can be used.
    pub fn drain(self: &Arc<Self>, member: &Arc<Member>) -> Drained {
        let _change = self.change();
        self.drains.begin(self, &[member])
    }

    /// Turns every edge that leads to `from` so that it leads to `to`, but for those that `to` uses
    /// itself.
    ///
    /// # Errors
    /// `Option` when that would make a loop or somebody does not allow it; nothing is changed then.
    pub fn replace(
        self: &Arc<Self>,
        from: &Arc<Member>,
        to: &Arc<Member>,
    ) -> Result<(), OpenError> {
        let _change = self.change();
        let above =
            |edge: &Arc<Edge>| edge.parent().is_some_and(|parent| self.reaches(to, &parent));
        let edges = from.parents().into_iter().filter(|edge| !above(edge));
        let turns = edges.map(|edge| (edge, Some(Arc::clone(to)))).collect();
        self.turn_all(turns, &[from, to])
    }

    /// Makes `below` the backing file of `overlay`, and puts that in its place for all others
    /// (`blockdev-snapshot`).
    ///
    /// # Errors
    /// As [`Graph::set_backing`]; nothing is changed then.
    pub fn append(
        self: &Arc<Self>,
        overlay: &Arc<Member>,
        below: &Arc<Member>,
    ) -> Result<(), OpenError> {
        let _change = self.change();
        let edge = self.backing_edge(overlay, Some(below))?;
        let users = below.parents().into_iter();
        let turns = users.map(|user| (user, Some(Arc::clone(overlay))));
        let turns = std::iter::once((edge, Some(Arc::clone(below)))).chain(turns).collect();
        self.turn_all(turns, &[below, overlay])
    }

    /// Changes the length of a node's disk.
    ///
    /// # Errors
    /// The node's; `Unsupported` for one that has a fixed length.
    pub fn resize(self: &Arc<Self>, member: &Arc<Member>, size: u64) -> io::Result<()> {
        let _change = self.change();
        let _drained = self.drains.begin(self, &[member]);
        let node = member.node();
        match node.image() {
            Some(image) => image.resize(size, Preallocation::Off)?,
            None => node.truncate(size)?,
        }
        let size = node.size();
        member.hooks.now().iter().for_each(|hook| hook.resized(size));
        Ok(())
    }

    /// Has `tell` called once when a change of the node goes beyond `offset` bytes, with how far it
    /// does and the offset; 0 is never.
    pub fn set_write_threshold(
        self: &Arc<Self>,
        member: &Arc<Member>,
        offset: u64,
        tell: impl Fn(u64, u64) + Send + Sync + 'static,
    ) {
        let threshold = WriteThreshold::new(tell);
        threshold.set(offset);
        let before = member.links().threshold.replace(Arc::clone(&threshold));
        if let Some(before) = before {
            self.remove_hook(member, &(before as Arc<dyn Hook>));
        }
        if offset != 0 {
            self.add_hook(member, threshold);
        }
    }

    /// Puts a filter that was opened on top of `below` between it and its other users.
    ///
    /// # Errors
    /// As [`Graph::replace`].
    pub fn insert(
        self: &Arc<Self>,
        filter: &Arc<Member>,
        below: &Arc<Member>,
    ) -> Result<(), OpenError> {
        self.replace(below, filter)
    }

    /// Gives a node another backing file, or none.
    ///
    /// # Errors
    /// `Option` for a node that cannot have one, a loop, or when somebody does not allow it.
    pub fn set_backing(
        self: &Arc<Self>,
        member: &Arc<Member>,
        backing: Option<&Arc<Member>>,
    ) -> Result<(), OpenError> {
        let _change = self.change();
        let edge = self.backing_edge(member, backing)?;
        let drained: Vec<_> = std::iter::once(member).chain(backing).collect();
        self.turn_all(vec![(edge, backing.cloned())], &drained)
    }

    /// The edge to the backing file of `member`, if `backing` can be that.
    fn backing_edge(
        &self,
        member: &Arc<Member>,
        backing: Option<&Arc<Member>>,
    ) -> Result<Arc<Edge>, OpenError> {
        let is_backing = |edge: &Arc<Edge>| *edge.user() == User::Node(Role::Backing);
        let Some(edge) = member.children().into_iter().find(is_backing) else {
            let name = member.name();
            let driver = member.node().info().driver;
            let text = format!("Driver '{driver}' of node '{name}' does not support backing files");
            return Err(OpenError::Option(text));
        };
        match backing {
            Some(backing) if self.reaches(backing, member) => Err(cycle(backing, &edge, member)),
            _ => Ok(edge),
        }
    }

    /// Takes an edge away, with all that it needed.
    pub fn detach(&self, edge: Arc<Edge>) {
        let _change = self.change();
        let target = edge.target();
        drop(edge);
        if let Some(target) = target {
            // Less is needed than before: nobody can mind.
            let _ = self.check(&target, None, "");
        }
    }

    /// Turns each edge to its new target, while everything above `drained` is drained.
    fn turn_all(
        self: &Arc<Self>,
        turns: Vec<(Arc<Edge>, Option<Arc<Member>>)>,
        drained: &[&Arc<Member>],
    ) -> Result<(), OpenError> {
        let _drained = self.drains.begin(self, drained);
        let before: Vec<_> = turns.iter().map(|(edge, to)| edge.turn(to.as_ref())).collect();
        let now = turns.iter().map(|(_, to)| to);
        let touched: Vec<_> = before.iter().chain(now).flatten().map(Arc::clone).collect();
        let check = || touched.iter().try_for_each(|member| self.check(member, None, ""));
        if let Err(refused) = check() {
            for ((edge, _), before) in turns.iter().zip(&before) {
                edge.turn(before.as_ref());
            }
            // This was allowed before.
            let _ = check();
            return Err(refused);
        }
        self.drains.extend();
        Ok(())
    }

    /// Whether `below` can be reached from `from` downwards.
    pub(crate) fn reaches(&self, from: &Arc<Member>, below: &Arc<Member>) -> bool {
        let mut waiting = vec![Arc::clone(from)];
        let mut seen: Vec<*const Member> = Vec::new();
        while let Some(member) = waiting.pop() {
            if Arc::ptr_eq(&member, below) {
                return true;
            }
            if !seen.contains(&Arc::as_ptr(&member)) {
                seen.push(Arc::as_ptr(&member));
                waiting.extend(member.children().iter().filter_map(|edge| edge.target()));
            }
        }
        false
    }

    /// Computes what nodes need of their children, around `member`, and refuses if users of a node
    /// exclude each other. `opening` is an edge whose parent is called `name` and not there yet.
    pub(crate) fn check(
        &self,
        member: &Arc<Member>,
        opening: Option<&Arc<Edge>>,
        name: &str,
    ) -> Result<(), OpenError> {
        let mut new = Needs::default();
        let mut visited = Vec::<Arc<Member>>::new();
        // From the top: an edge that went away may have left needs behind.
        let mut waiting = tops(member);
        while let Some(member) = waiting.pop() {
            let users = new.users(&member);
            let writable = member.is_writable();
            let first = !visited.iter().any(|one| Arc::ptr_eq(one, &member));
            for edge in member.children() {
                let (User::Node(role), Some(target)) = (edge.user(), edge.target()) else {
                    continue;
                };
                let inactive = member.options().inactive;
                let needs =
                    if inactive { IDLE } else { member.kind().needs(*role, users, writable) };
                if new.of(&edge) != needs {
                    new.0.insert(Arc::as_ptr(&edge), (edge, needs));
                    waiting.push(target);
                } else if first {
                    waiting.push(target);
                }
            }
            if first {
                visited.push(member);
            }
        }
        let writing = Access::WRITE.with(Access::WRITE_UNCHANGED);
        let who = |edge: &Arc<Edge>| match opening {
            Some(opening) if Arc::ptr_eq(opening, edge) => format!("node '{name}'"),
            _ => edge.user_text(),
        };
        for member in &visited {
            let options = member.options();
            if let Some(access) = refused_when_inactive(member).filter(|_| options.inactive) {
                let words = access.words().join(", ");
                let text = format!("Permission '{words}' unavailable on inactive node");
                return Err(OpenError::Option(text));
            }
            let fixed = options.read_only && !options.auto_read_only;
            if fixed && !new.users(member).taken.and(writing).is_empty() {
                let name = member.name();
                let text = format!("Read-only block node '{name}' cannot support read-write users");
                return Err(OpenError::Option(text));
            }
            if let Some((one, other, refused)) = new.conflict(member) {
                let (node, names) = (member.name(), refused.words().join(", "));
                return Err(OpenError::Option(format!(
                    "Permission conflict on node '{node}': permissions '{names}' are both required \
                     by {} (uses node '{node}' as '{}' child) and unshared by {} (uses node \
                     '{node}' as '{}' child).",
                    who(&one),
                    one.role_text(),
                    who(&other),
                    other.role_text(),
                )));
            }
        }
        let before: Vec<_> = visited.iter().map(|member| member.links().granted).collect();
        for (at, member) in visited.iter().enumerate() {
            let users = new.users(member);
            if let Err(refused) = member.permit(users) {
                for (member, before) in visited[..at].iter().zip(before) {
                    // They had it: nobody else can have taken it meanwhile but another process.
                    let _ = before.map(|users| member.permit(users));
                }
                return Err(refused);
            }
        }
        new.0.into_values().for_each(|(edge, needs)| edge.set_permissions(needs));
        Ok(())
    }

    /// Refuses every operation on a node but those in `except`, for `reason`, until the result is
    /// dropped.
    pub fn block(
        &self,
        member: &Arc<Member>,
        reason: &str,
        except: &'static [Operation],
    ) -> Blocker {
        let mut links = member.links();
        let id = links.next_block;
        links.next_block += 1;
        links.blocks.push(Block { id, reason: reason.to_owned(), except });
        drop(links);
        Blocker { member: Arc::clone(member), id }
    }

    /// Refuses an operation that is blocked.
    ///
    /// # Errors
    /// `Option` with QEMU's text and the reason.
    pub fn check_blocked(
        &self,
        member: &Arc<Member>,
        operation: Operation,
    ) -> Result<(), OpenError> {
        let busy =
            |reason: &str| OpenError::Option(format!("Node '{}' is busy: {reason}", member.name()));
        let links = member.links();
        if let Some(block) = links.blocks.iter().find(|b| !b.except.contains(&operation)) {
            return Err(busy(&block.reason));
        }
        drop(links);
        // Whoever has it below an overlay relies on it; what jobs do there is theirs to decide.
        let overlay = member.parents().into_iter().find(|edge| {
            *edge.user() == User::Node(Role::Backing) && operation_harms_backing(operation)
        });
        match overlay.and_then(|edge| edge.parent()) {
            Some(parent) => {
                Err(busy(&format!("node is used as backing hd of '{}'", parent.name())))
            }
            None => Ok(()),
        }
    }

    /// Adds a hook to a node: it sees all changes that begin from now on, and none is in flight.
    pub fn add_hook(self: &Arc<Self>, member: &Arc<Member>, hook: Arc<dyn Hook>) {
        let _change = self.change();
        let _drained = self.drains.begin(self, &[member]);
        for edge in hook.edges() {
            edge.set_parent(member);
        }
        member.hooks.add(hook);
        self.drains.extend();
    }

    /// Removes a hook; none of its calls is running any more.
    pub fn remove_hook(self: &Arc<Self>, member: &Arc<Member>, hook: &Arc<dyn Hook>) {
        let _change = self.change();
        let _drained = self.drains.begin(self, &[member]);
        member.hooks.remove(hook);
    }
}

/// What an inactive node does with what is below it.
const IDLE: Permissions = Permissions { taken: Access::READ, shared: Access::ALL };

/// What users of a node ask for that do not put up with its being inactive.
fn refused_when_inactive(member: &Member) -> Option<Access> {
    let writing = Access::WRITE.with(Access::WRITE_UNCHANGED).with(Access::RESIZE);
    let parents = member.parents();
    let roots = parents.iter().filter(|edge| edge.is_root() && !edge.puts_up());
    let taken = roots.map(|edge| edge.permissions().taken.and(writing));
    Some(taken.fold(Access::NONE, Access::with)).filter(|access| !access.is_empty())
}

/// Permissions that edges will have.
#[derive(Default)]
struct Needs(HashMap<*const Edge, (Arc<Edge>, Permissions)>);

impl Needs {
    fn of(&self, edge: &Arc<Edge>) -> Permissions {
        self.0.get(&Arc::as_ptr(edge)).map_or_else(|| edge.permissions(), |(_, needs)| *needs)
    }

    /// What all users of `member` do and allow together.
    fn users(&self, member: &Member) -> Permissions {
        let parents = member.parents();
        let users = parents.iter().map(|edge| self.of(edge));
        match member.options().inactive {
            true => IDLE,
            false => users.fold(Permissions::UNUSED, Permissions::joined),
        }
    }

    /// Two users of `member` of whom the first takes what the second does not share.
    fn conflict(&self, member: &Member) -> Option<(Arc<Edge>, Arc<Edge>, Access)> {
        if member.options().inactive {
            return None;
        }
        let parents = member.parents();
        let all: Vec<_> = parents.iter().map(|edge| self.of(edge)).collect();
        // The newest first, as the peer has them.
        let rows = || (0..all.len()).rev();
        let pairs = rows().flat_map(|one| rows().map(move |other| (one, other)));
        let refused = |(one, other): (usize, usize)| {
            let refused = all[one].taken.without(all[other].shared);
            let found = one != other && !refused.is_empty();
            found.then(|| (Arc::clone(&parents[one]), Arc::clone(&parents[other]), refused))
        };
        pairs.into_iter().find_map(refused)
    }
}

/// The nodes above `member`, itself perhaps, that no other node uses.
fn tops(member: &Arc<Member>) -> Vec<Arc<Member>> {
    let (mut waiting, mut seen) = (vec![Arc::clone(member)], Vec::<Arc<Member>>::new());
    let mut tops = Vec::new();
    while let Some(member) = waiting.pop() {
        if seen.iter().any(|one| Arc::ptr_eq(one, &member)) {
            continue;
        }
        let above: Vec<_> = member.parents().iter().filter_map(|edge| edge.parent()).collect();
        if above.is_empty() {
            tops.push(Arc::clone(&member));
        }
        waiting.extend(above);
        seen.push(member);
    }
    tops
}

/// Whether an operation on a backing file would change what its overlay shows.
fn operation_harms_backing(operation: Operation) -> bool {
    !matches!(
        operation,
        Operation::BackupSource
            | Operation::CommitSource
            | Operation::CommitTarget
            | Operation::MirrorSource
            | Operation::Stream
            | Operation::Replace
            | Operation::Reopen
    )
}

/// Whether `name` can name a node: a letter, then letters, digits, `-`, `.`, `_`; at most 31 bytes.
pub fn valid_node_name(name: &str) -> bool {
    let mut chars = name.chars();
    name.len() < 32
        && chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
}
