//! Filters by their options: the children they are opened on, and what they are to do there.

use std::sync::Arc;
use std::time::Duration;

use filters::blkdebug::{Pretended, Refusal, Rules};
use filters::{CbwOptions, OnCbwError, QuorumEvent, QuorumOp, QuorumOptions, ReadPattern, Steps};
use graph::throttle::Group;
use graph::{Edge, Graph, Member, Name, Node, NodeKind, Notice, OpenError, Role, Secrets, User};

use crate::keys::{Keys, Style};
use crate::open::{Inherited, Made, Opener, missing};
use crate::recipe::How;

/// Most children of a quorum.
const MOST_CHILDREN: u32 = 256;
/// Largest rules file of `blkdebug` in bytes.
const MOST_RULES: u64 = 1 << 20;

/// What a filter is opened from.
pub(crate) struct Wiring<'a> {
    pub common: &'a Inherited,
    pub name: &'a Name,
    edges: Vec<Arc<Edge>>,
    how: How,
}

type Open = fn(&mut Opener<'_>, &mut Keys, &mut Wiring<'_>) -> Result<Arc<dyn Node>, OpenError>;

/// Every filter: its name, whether complaints call it a protocol, and how it is opened.
const FILTERS: &[(&str, bool, Open)] = &[
    ("blkdebug", true, blkdebug),
    ("blkverify", true, blkverify),
    ("compress", false, compress),
    ("copy-before-write", false, copy_before_write),
    ("copy-on-read", false, copy_on_read),
    ("preallocate", false, preallocate),
    ("quorum", false, quorum),
    ("snapshot-access", false, snapshot_access),
    ("throttle", false, throttle),
];

/// Whether there is a filter of that name.
pub(crate) fn is_filter(driver: &str) -> bool {
    FILTERS.iter().any(|(name, ..)| *name == driver)
}

/// The options for the `file` child that a file name with a filter's prefix stands for; `None` for others.
pub(crate) fn pairs_of(filename: &str) -> Result<Option<Vec<(String, String)>>, OpenError> {
    let refuse = |text: &str| Err(OpenError::Option(text.to_owned()));
    let pair = |key: &str, value: &str| (format!("file.{key}"), value.to_owned());
    let image = |role: &str, name: &str| {
        let pairs = crate::remote::pairs_of(name)?;
        let below = pairs.into_iter().filter_map(|(key, value)| {
            Some((format!("file.{role}.{}", key.strip_prefix("file.")?), value))
        });
        Ok::<Vec<_>, OpenError>(below.collect())
    };
    if let Some(rest) = filename.strip_prefix("blkdebug:") {
        let Some((config, name)) = rest.split_once(':') else {
            return refuse("blkdebug requires both config file and image path");
        };
        let mut pairs = vec![pair("driver", "blkdebug")];
        if !config.is_empty() {
            pairs.push(pair("config", config));
        }
        pairs.extend(image("image", name)?);
        return Ok(Some(pairs));
    }
    if let Some(rest) = filename.strip_prefix("blkverify:") {
        let Some((raw, name)) = rest.split_once(':') else {
            return refuse("blkverify requires raw copy and original image path");
        };
        let mut pairs = vec![pair("driver", "blkverify"), pair("x-image", name)];
        pairs.extend(image("raw", raw)?);
        return Ok(Some(pairs));
    }
    Ok(None)
}

impl Opener<'_> {
    /// Opens a filter; `None` for a driver that is none.
    pub fn filter(
        &mut self,
        driver: &str,
        keys: &mut Keys,
        common: &Inherited,
        name: &Name,
    ) -> Result<Option<Made>, OpenError> {
        let Some((driver, protocol, open)) = FILTERS.iter().find(|(n, ..)| *n == driver) else {
            return Ok(None);
        };
        let mut wiring = Wiring { common, name, edges: Vec::new(), how: How::Fixed };
        let node = open(self, keys, &mut wiring)?;
        keys.check_finished(driver, if *protocol { "protocol" } else { "format" })?;
        let Wiring { edges, how, .. } = wiring;
        Ok(Some(Made { node, kind: NodeKind::Filter, edges, how }))
    }

    fn wire(
        &self,
        wiring: &mut Wiring<'_>,
        role: Role,
        member: &Arc<Member>,
    ) -> Result<Arc<dyn Node>, OpenError> {
        if wiring.common.inactive {
            let edge = self.graph.idle_child(wiring.name, role, Some(member))?;
            wiring.edges.push(Arc::clone(&edge));
            return Ok(edge);
        }
        Graph::check_active(member, &role.name(), wiring.name.text())?;
        let writable = !wiring.common.read_only;
        let edge = self.graph.child(wiring.name, NodeKind::Filter, role, Some(member), writable)?;
        wiring.edges.push(Arc::clone(&edge));
        Ok(edge)
    }

    /// The child of a role, which must be given.
    fn below(
        &mut self,
        keys: &mut Keys,
        wiring: &mut Wiring<'_>,
        role: Role,
    ) -> Result<Arc<dyn Node>, OpenError> {
        let member = self.child(keys, &role.name(), wiring.common)?;
        self.wire(wiring, role, &member)
    }

    /// A child of which only the name of a node or its driver tells what it is.
    fn described(
        &mut self,
        keys: &mut Keys,
        wiring: &mut Wiring<'_>,
        role: Role,
    ) -> Result<Option<Arc<dyn Node>>, OpenError> {
        let key = role.name();
        let member = match (keys.take(&key), keys.child(&key)) {
            (Some(name), _) => self.graph.get(&name)?,
            (None, Some(below)) if !below.has("driver") => {
                return Err(OpenError::Option("Must specify either driver or file".to_owned()));
            }
            (None, Some(below)) => self.node(below, &wiring.common.below())?,
            (None, None) => return Ok(None),
        };
        self.wire(wiring, role, &member).map(Some)
    }
}

fn throttle(
    opener: &mut Opener<'_>,
    keys: &mut Keys,
    wiring: &mut Wiring<'_>,
) -> Result<Arc<dyn Node>, OpenError> {
    let named = keys.take("throttle-group");
    if named.is_none() && keys.style() == Style::Blockdev {
        return Err(missing(keys, "throttle-group"));
    }
    let below = opener.below(keys, wiring, Role::File)?;
    let Some(name) = named else {
        return Err(OpenError::Option("Please specify a throttle group".to_owned()));
    };
    let group = group_named(opener.secrets, &name)?;
    let node = filters::throttle(below, &group);
    if let Some(edge) = wiring.edges.last() {
        wiring.how = How::Throttle(Arc::clone(edge), group);
    }
    Ok(node)
}

/// The throttle group of that name.
pub(crate) fn group_named(secrets: &dyn Secrets, name: &str) -> Result<Arc<Group>, OpenError> {
    let none = || OpenError::Option(format!("Throttle group '{name}' does not exist"));
    secrets.throttle_group(name).ok_or_else(none)
}

fn copy_on_read(
    opener: &mut Opener<'_>,
    keys: &mut Keys,
    wiring: &mut Wiring<'_>,
) -> Result<Arc<dyn Node>, OpenError> {
    let below = opener.below(keys, wiring, Role::File)?;
    if wiring.common.read_only {
        return Err(OpenError::Option("Block node is read-only".to_owned()));
    }
    let Some(name) = keys.take("bottom") else { return filters::copy_on_read(below, None) };
    let none = || OpenError::Option(format!("Bottom node '{name}' not found"));
    let bottom = opener.graph.named(&name).ok_or_else(none)?;
    let below_it = |layer: &Arc<Member>| {
        let backing = |edge: &Arc<Edge>| *edge.user() == User::Node(Role::Backing);
        layer.children().into_iter().find(backing)?.target()
    };
    let top = wiring.edges.first().and_then(|edge| edge.target());
    let depth = std::iter::successors(top, below_it).position(|layer| Arc::ptr_eq(&layer, &bottom));
    let text = || OpenError::Option(format!("'{name}' is not in the backing chain of the node"));
    filters::copy_on_read(below, Some(depth.ok_or_else(text)? as u32))
}

fn compress(
    opener: &mut Opener<'_>,
    keys: &mut Keys,
    wiring: &mut Wiring<'_>,
) -> Result<Arc<dyn Node>, OpenError> {
    filters::compress(opener.below(keys, wiring, Role::File)?)
}

fn preallocate(
    opener: &mut Opener<'_>,
    keys: &mut Keys,
    wiring: &mut Wiring<'_>,
) -> Result<Arc<dyn Node>, OpenError> {
    let steps = steps(keys)?;
    let node = filters::preallocate(opener.below(keys, wiring, Role::File)?, steps)?;
    if let Some(edge) = wiring.edges.last() {
        wiring.how = How::Preallocate(Arc::clone(edge), steps);
    }
    Ok(node)
}

/// How a file is to grow.
pub(crate) fn steps(keys: &mut Keys) -> Result<Steps, OpenError> {
    let default = Steps::default();
    Ok(Steps {
        align: keys.take_size("prealloc-align")?.unwrap_or(default.align),
        size: keys.take_size("prealloc-size")?.unwrap_or(default.size),
    })
}

fn snapshot_access(
    opener: &mut Opener<'_>,
    keys: &mut Keys,
    wiring: &mut Wiring<'_>,
) -> Result<Arc<dyn Node>, OpenError> {
    Ok(filters::snapshot_access(opener.below(keys, wiring, Role::File)?))
}

fn copy_before_write(
    opener: &mut Opener<'_>,
    keys: &mut Keys,
    wiring: &mut Wiring<'_>,
) -> Result<Arc<dyn Node>, OpenError> {
    let lacking = |key: &str| OpenError::Option(format!("Parameter '{key}' is missing"));
    let on_error = keys.take_name("on-cbw-error", OnCbwError::TABLE)?.unwrap_or_default();
    let integer = |keys: &mut Keys, key: &str| {
        let text = || OpenError::Option(format!("Parameter '{key}' expects integer"));
        keys.take_size(key).map_err(|_| text())
    };
    let timeout =
        Duration::from_secs(integer(keys, "cbw-timeout")?.unwrap_or(0).min(u64::from(u32::MAX)));
    let min_cluster = integer(keys, "min-cluster-size")?.unwrap_or(0);
    let only = match keys.child("bitmap") {
        None => None,
        Some(mut bitmap) => {
            let name = bitmap.take("name").ok_or_else(|| lacking("bitmap.name"))?;
            let node = bitmap.take("node").ok_or_else(|| lacking("bitmap.node"))?;
            bitmap.check_finished("copy-before-write", "format")?;
            Some(dirty_ranges(opener, &node, &name)?)
        }
    };
    let source = opener.described(keys, wiring, Role::File)?.ok_or_else(|| lacking("file"))?;
    let target = opener.described(keys, wiring, Role::Named("target"))?;
    let target = target.ok_or_else(|| lacking("target"))?;
    if wiring.common.read_only {
        return Err(OpenError::Option("Block node is read-only".to_owned()));
    }
    filters::copy_before_write(source, target, &CbwOptions { on_error, timeout, min_cluster, only })
}

/// The ranges that a bitmap of a node marks.
fn dirty_ranges(opener: &Opener<'_>, node: &str, name: &str) -> Result<Vec<(u64, u64)>, OpenError> {
    let none = || OpenError::Option(format!("Node '{node}' not found"));
    let member = opener.graph.named(node).ok_or_else(none)?;
    let (mut runs, mut at) = (Vec::new(), 0);
    if let Some(bitmap) = member.bitmap(name) {
        let bits = bitmap.bits();
        while let Some((start, len)) = bits.next_run(at) {
            runs.push((start, len));
            at = start.saturating_add(len);
        }
        return Ok(runs);
    }
    let none = || OpenError::Option(format!("Dirty bitmap '{name}' not found"));
    let holder = member.node();
    let image = holder.image().and_then(|image| image.bitmaps()).ok_or_else(none)?;
    let failed = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => none(),
        _ => OpenError::Option(graph::host_text(&e)),
    };
    while let Some((start, len)) = image.next_dirty(name, at).map_err(failed)? {
        runs.push((start, len));
        at = start.saturating_add(len);
    }
    Ok(runs)
}

fn blkdebug(
    opener: &mut Opener<'_>,
    keys: &mut Keys,
    wiring: &mut Wiring<'_>,
) -> Result<Arc<dyn Node>, OpenError> {
    let config = keys.take("config").unwrap_or_default();
    let mut rules = if config.is_empty() { Rules::default() } else { rules_of(&config)? };
    for group in Rules::GROUPS {
        let Some(mut list) = keys.child(group) else { continue };
        let mut number = 0;
        while let Some(rule) = list.child(&number.to_string()) {
            let unknown =
                |key: &str| format!("[{group}] section doesn't support the option '{key}'");
            rules.add(group, rule.into_pairs()).map_err(|refusal| match refusal {
                Refusal::Key(key) => OpenError::Option(unknown(&key)),
                Refusal::Text(text) => OpenError::Option(text),
            })?;
            number += 1;
        }
        if let Some((key, _)) = list.into_pairs().first() {
            return Err(OpenError::Option(format!("Unused option '{key}' for [{group}]")));
        }
    }
    let mut limit = |key: &str| keys.take_size(key).map(Option::unwrap_or_default);
    let pretended = Pretended {
        align: limit("align")?,
        max_transfer: limit("max-transfer")?,
        opt_write_zero: limit("opt-write-zero")?,
        max_write_zero: limit("max-write-zero")?,
        opt_discard: limit("opt-discard")?,
        max_discard: limit("max-discard")?,
    };
    let below = opener.below(keys, wiring, Role::Named("image"))?;
    filters::blkdebug(below, &config, rules, pretended)
}

fn rules_of(config: &str) -> Result<Rules, OpenError> {
    let failed = |source| OpenError::Host {
        operation: "Could not read blkdebug config file".to_owned(),
        source,
    };
    if std::fs::metadata(config).map_err(failed)?.len() > MOST_RULES {
        return Err(failed(std::io::ErrorKind::FileTooLarge.into()));
    }
    Rules::parse(&std::fs::read_to_string(config).map_err(failed)?)
}

fn blkverify(
    opener: &mut Opener<'_>,
    keys: &mut Keys,
    wiring: &mut Wiring<'_>,
) -> Result<Arc<dyn Node>, OpenError> {
    let raw = opener.below(keys, wiring, Role::Named("raw"))?;
    let test = match keys.take("x-image") {
        None => {
            let test = opener.described(keys, wiring, Role::Named("test"))?;
            test.ok_or_else(|| needs_device("test", keys))?
        }
        Some(filename) => {
            let format = opener.guess(&filename, wiring.common.cache)?;
            let mut pairs = crate::remote::pairs_of(&filename)?;
            pairs.push(("driver".to_owned(), format.to_owned()));
            let member = opener.node(Keys::new(pairs, keys.style()), &wiring.common.below())?;
            opener.wire(wiring, Role::Named("test"), &member)?
        }
    };
    Ok(filters::blkverify(raw, test))
}

fn needs_device(role: &str, keys: &Keys) -> OpenError {
    OpenError::Option(match keys.style() {
        Style::Drive => format!("A block device must be specified for \"{role}\""),
        Style::Blockdev => format!("Parameter '{role}' is missing"),
    })
}

fn quorum(
    opener: &mut Opener<'_>,
    keys: &mut Keys,
    wiring: &mut Wiring<'_>,
) -> Result<Arc<dyn Node>, OpenError> {
    let refuse = |text: &str| Err(OpenError::Option(text.to_owned()));
    let threshold = keys.take_size("vote-threshold")?;
    let mut children = Vec::new();
    if !keys.names().any(|key| key.starts_with("children.")) {
        return refuse("Number of provided children must be 1 or more");
    }
    let pattern = match keys.take("read-pattern") {
        None => ReadPattern::default(),
        Some(text) => match ReadPattern::TABLE.iter().find(|(name, _)| *name == text) {
            Some((_, pattern)) => *pattern,
            None => return refuse("Please set read-pattern as fifo or quorum"),
        },
    };
    let options = QuorumOptions {
        threshold: threshold.unwrap_or(0),
        blkverify: keys.take_bool("blkverify")?.unwrap_or(false),
        rewrite_corrupted: keys.take_bool("rewrite-corrupted")?.unwrap_or(false),
        pattern,
    };
    if options.threshold < 1 {
        return refuse("Parameter 'vote-threshold' expects a value >= 1");
    }
    for number in 0..MOST_CHILDREN {
        match opener.described(keys, wiring, Role::Member(number))? {
            Some(child) => children.push(child),
            None => break,
        }
    }
    let (graph, name) = (Arc::downgrade(opener.graph), wiring.name.text().to_owned());
    let tell = move |event: &QuorumEvent| {
        if let Some(graph) = graph.upgrade() {
            graph.tell(notice(&graph, &name, event));
        }
    };
    filters::quorum(children, options, Some(Arc::new(tell)))
}

/// What is told of a quorum.
fn notice(graph: &Graph, name: &str, event: &QuorumEvent) -> Notice {
    match event {
        QuorumEvent::Failure { offset, len } => {
            Notice::Disagreement { node: name.to_owned(), offset: *offset, len: *len }
        }
        QuorumEvent::Bad { child, op, offset, len, error } => {
            let is_it = |edge: &Arc<Edge>| *edge.user() == User::Node(Role::Member(*child));
            let edges = graph.named(name).map(|member| member.children()).unwrap_or_default();
            let target = edges.into_iter().find(is_it).and_then(|edge| edge.target());
            let operation = match op {
                QuorumOp::Read => "read",
                QuorumOp::Write => "write",
                QuorumOp::Flush => "flush",
            };
            let child = target.map(|member| member.name().to_owned()).unwrap_or_default();
            Notice::BadChild { child, operation, offset: *offset, len: *len, error: error.clone() }
        }
    }
}
