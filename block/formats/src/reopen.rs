//! `blockdev-reopen`: nodes get other options, all of them or none.
//!
//! Checked with qemu-storage-daemon 10.0.2, option by option: the whole set is given again, and what is
//! left out returns to its default, but for `discard`. An image is opened anew, so that every option of its format may
//! change; of other drivers only what all have in common, and a few that [`How`] names.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use graph::{DiskOptions, Edge, Member, OpenError, Recipe, Reopening, Role};

use crate::keys::{Keys, Style};
use crate::manage::{Manager, refuse};
use crate::open::Inherited;
use crate::open_filters::{group_named, steps};
use crate::recipe::{How, ImageRecipe, Kept, NodeRecipe, role_of, without};

/// Drivers whose nodes stay as they are.
const NEVER: &[&str] = &[
    "blkverify",
    "compress",
    "copy-before-write",
    "copy-on-read",
    "parallels",
    "quorum",
    "snapshot-access",
    "vvfat",
];

/// Options of a driver that may change, by the part before a dot, and whether they may also be left out.
const CHANGEABLE: &[(&str, &[&str], bool)] = &[
    ("file", &["x-check-cache-dropped"], true),
    ("host_device", &["x-check-cache-dropped"], true),
    ("file", &["drop-cache"], false),
    ("host_device", &["drop-cache"], false),
    ("preallocate", &["prealloc-align", "prealloc-size"], false),
    (
        "qcow2",
        &[
            "cache-clean-interval",
            "cache-size",
            "discard-no-unref",
            "encrypt",
            "l2-cache-entry-size",
            "l2-cache-size",
            "lazy-refcounts",
            "overlap-check",
            "pass-discard-other",
            "pass-discard-request",
            "pass-discard-snapshot",
            "refcount-cache-size",
        ],
        true,
    ),
    ("raw", &["offset", "size"], true),
    ("throttle", &["throttle-group"], false),
];

/// Whether what is not mentioned returns to its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Returns,
    Stays,
}

impl Manager<'_> {
    /// `blockdev-reopen`: each element of `list` has all options of one node.
    ///
    /// # Errors
    /// `Option` with QEMU's words where scripts know them; the driver's and the host's. Nothing has
    /// changed then.
    pub fn reopen(&self, list: Vec<Vec<(String, String)>>) -> Result<(), OpenError> {
        let mut named = Vec::new();
        for pairs in list {
            let mut keys = Keys::new(pairs, Style::Blockdev);
            let Some(name) = keys.take("node-name") else {
                return refuse("node-name not specified");
            };
            let Some(member) = self.graph.named(&name) else {
                return refuse(format!("Failed to find node with node-name='{name}'"));
            };
            named.push((member, keys));
        }
        let mut plans = Vec::new();
        for (member, keys) in named {
            self.plan(&member, keys, None, Rest::Returns, &mut plans)?;
        }
        self.graph.reopen_all(plans)
    }

    /// Changes some options of a node and of the children that were opened with it; all others stay.
    ///
    /// # Errors
    /// As [`Manager::reopen`].
    pub fn change(
        &self,
        member: &Arc<Member>,
        changes: Vec<(String, String)>,
    ) -> Result<(), OpenError> {
        let style = recipe_of(member).map_or(Style::Blockdev, |recipe| recipe.style);
        let keys = Keys::new(completed(member, Keys::new(changes, style)), style);
        let mut plans = Vec::new();
        let inherited = recipe_of(member).map(|recipe| recipe.inherited.clone());
        self.plan(member, keys, inherited, Rest::Stays, &mut plans)?;
        self.graph.reopen_all(plans)
    }

    /// Plans what becomes of a child of which nothing was said: it has the same options, but for those
    /// that it takes over.
    fn plan_follower(
        &self,
        member: &Arc<Member>,
        inherited: Inherited,
        plans: &mut Vec<Reopening>,
    ) -> Result<(), OpenError> {
        let Some(old) = recipe_of(member) else { return Ok(()) };
        let mut keys = Keys::new(old.given.iter().cloned(), Style::Blockdev);
        let (explicit, mut common) = (keys.has("read-only"), inherited);
        let detect_zeroes = common.take_common(&mut keys)?;
        common.follow_above(&old.driver, explicit);
        let before = member.options();
        let options = DiskOptions { inactive: before.inactive, ..common.options(detect_zeroes) };
        if options == before {
            return Ok(());
        }
        for edge in member.children() {
            if let (Some(role), Some(child)) = (role_of(&edge), edge.target())
                && old.is_inline(role, &child)
            {
                self.plan_follower(&child, common.for_child(role), plans)?;
            }
        }
        let (recipe, turns, again) = (None, Vec::new(), !old.suits(&before, &options));
        if NEVER.contains(&&*old.driver) && again {
            return never(&old.driver, member);
        }
        plans.push(Reopening { member: Arc::clone(member), options, recipe, turns, again });
        Ok(())
    }

    /// Plans what becomes of a node, and of its children that were opened with it. `inherited` comes
    /// from the node above if that is opened again, too.
    fn plan(
        &self,
        member: &Arc<Member>,
        mut keys: Keys,
        inherited: Option<Inherited>,
        rest: Rest,
        plans: &mut Vec<Reopening>,
    ) -> Result<(), OpenError> {
        let Some(old) = recipe_of(member) else {
            return never(member.node().info().driver, member);
        };
        let backed = backing_edge(member).is_some_and(|edge| edge.target().is_some())
            || member.node().info().backing_filename.is_some();
        let driver = keys.take("driver").unwrap_or_else(|| old.driver.clone());
        let mut turns = Vec::new();
        let mut below = Vec::new();
        if rest == Rest::Returns
            && backed
            && !keys.has("backing")
            && !keys.names().any(|key| key.starts_with("backing."))
        {
            return refuse(format!("backing is missing for '{}'", member.name()));
        }
        if driver != old.driver {
            return cannot_change("driver");
        }
        if keys.take("node-name").is_some_and(|name| name != member.name()) {
            return cannot_change("node-name");
        }
        // Who is named takes nothing over; but discards are what they were.
        let discard = member.options().discard;
        let inherited = inherited.unwrap_or_else(|| Inherited { discard, ..old.inherited.alone() });
        let given = keys.pairs();
        let (explicit, mut common) = (keys.has("read-only"), inherited.clone());
        let detect_zeroes = common.take_common(&mut keys)?;
        common.follow_above(&driver, explicit);
        if NEVER.contains(&&*driver) {
            return never(&driver, member);
        }
        for edge in member.children() {
            let Some(role) = role_of(&edge) else { continue };
            match self.child(&mut keys, &old, &edge, role)? {
                Link::Stays => below.extend(edge.target().map(|child| (role, child, None))),
                Link::Has(keys) => {
                    below.extend(edge.target().map(|child| (role, child, Some(keys))));
                }
                Link::Turns(target) => turns.push((edge, target)),
            }
        }
        let own = keys.pairs();
        check_changes(&old, &own)?;
        // A node stays as active as it is.
        let inactive = member.options().inactive;
        let told = given.iter().find(|(key, _)| key == "active").map(|_| common.inactive);
        if told.is_some_and(|told| told != inactive) {
            return cannot_change("active");
        }
        let options = DiskOptions { inactive, ..common.options(detect_zeroes) };
        let how = self.how(&old, &own)?;
        // What is below as the backing file is the edge's business alone.
        let turned = turns.iter().any(|(edge, _)| role_of(edge) != Some(Role::Backing));
        let again = match how {
            How::Fixed => false,
            How::Image(_) => turned || own != old.own() || !old.suits(&member.options(), &options),
            How::Throttle(..) | How::Preallocate(..) => own != old.own(),
        };
        let inline = old.inline.clone();
        let roles: Vec<_> = member.children().iter().filter_map(|edge| role_of(edge)).collect();
        let (given, style) = (without(given, &roles), old.style);
        let recipe = NodeRecipe { driver, given, style, inherited, inline, how };
        plans.retain(|plan| !Arc::ptr_eq(&plan.member, member));
        let (member, recipe) = (Arc::clone(member), Some(Arc::new(recipe) as Arc<dyn Recipe>));
        plans.push(Reopening { member, options, recipe, turns, again });
        for (role, child, keys) in below {
            let state = common.for_child(role);
            match keys {
                Some(keys) => self.plan(&child, keys, Some(state), rest, plans)?,
                None if old.is_inline(role, &child) => self.plan_follower(&child, state, plans)?,
                None => {}
            }
        }
        Ok(())
    }

    /// What becomes of the edge to a child.
    fn child(
        &self,
        keys: &mut Keys,
        old: &NodeRecipe,
        edge: &Arc<Edge>,
        role: Role,
    ) -> Result<Link, OpenError> {
        let (key, now) = (role.name(), edge.target());
        if let Some(name) = keys.take(&key) {
            if role == Role::Backing && name.is_empty() {
                return Ok(if now.is_some() { Link::Turns(None) } else { Link::Stays });
            }
            let Some(target) = self.graph.named(&name) else {
                return refuse(format!("Cannot find device='' nor node-name='{name}'"));
            };
            return match now {
                Some(now) if Arc::ptr_eq(&now, &target) => Ok(Link::Stays),
                _ if matches!(role, Role::Backing | Role::File) => Ok(Link::Turns(Some(target))),
                _ => cannot_change(&key),
            };
        }
        match (keys.child(&key), now) {
            (Some(below), Some(now)) if old.is_inline(role, &now) => Ok(Link::Has(below)),
            (Some(below), _) => {
                let first = below.names().find(|key| *key == "driver").or(below.names().next());
                cannot_change(&below.full(first.unwrap_or_default()))
            }
            (None, _) => Ok(Link::Stays),
        }
    }

    /// How a node is opened from now on, with options of its own.
    fn how(&self, old: &NodeRecipe, own: &[(String, String)]) -> Result<How, OpenError> {
        let mut keys = Keys::new(own.iter().cloned(), Style::Blockdev);
        Ok(match &old.how {
            How::Fixed => How::Fixed,
            How::Throttle(edge, _) => {
                let name = keys.take("throttle-group").unwrap_or_default();
                How::Throttle(Arc::clone(edge), group_named(self.secrets, &name)?)
            }
            How::Preallocate(edge, _) => How::Preallocate(Arc::clone(edge), steps(&mut keys)?),
            How::Image(image) => How::Image(ImageRecipe {
                edges: image.edges.clone(),
                secrets: Kept::of(own, self.secrets),
                ..*image
            }),
        })
    }
}

/// What becomes of an edge to a child.
enum Link {
    /// It leads to the same node, of which nothing is said.
    Stays,
    /// It leads to the same node, which has these options from now on.
    Has(Keys),
    /// It leads to another one, or to nothing.
    Turns(Option<Arc<Member>>),
}

/// All options of a node and of those children about which something is said.
fn completed(member: &Arc<Member>, mut changes: Keys) -> Vec<(String, String)> {
    let Some(recipe) = recipe_of(member) else { return changes.into_pairs() };
    let mut all: BTreeMap<String, String> = recipe.given.iter().cloned().collect();
    for edge in member.children() {
        let (Some(role), Some(child)) = (role_of(&edge), edge.target()) else { continue };
        if !recipe.is_inline(role, &child) {
            continue;
        }
        if let Some(below) = changes.child(&role.name()) {
            let below = completed(&child, below).into_iter();
            all.extend(below.map(|(key, value)| (format!("{}.{key}", role.name()), value)));
        }
    }
    all.extend(changes.into_pairs());
    all.into_iter().collect()
}

fn recipe_of(member: &Member) -> Option<Arc<NodeRecipe>> {
    let recipe: Arc<dyn Any + Send + Sync> = member.recipe()?;
    recipe.downcast().ok()
}

fn backing_edge(member: &Member) -> Option<Arc<Edge>> {
    member.children().into_iter().find(|edge| role_of(edge) == Some(Role::Backing))
}

fn never<T>(driver: &str, member: &Member) -> Result<T, OpenError> {
    let name = member.name();
    refuse(format!(
        "Block format '{driver}' used by node '{name}' does not support reopening files"
    ))
}

fn cannot_change<T>(key: &str) -> Result<T, OpenError> {
    refuse(format!("Cannot change the option '{key}'"))
}

/// Refuses changes of options that cannot change.
fn check_changes(old: &NodeRecipe, own: &[(String, String)]) -> Result<(), OpenError> {
    let can = |key: &str, left_out: bool| {
        let name = key.split('.').next().unwrap_or(key);
        let fits = |(driver, known, reset): &(&str, &[&str], bool)| {
            *driver == old.driver && known.contains(&name) && (*reset || !left_out)
        };
        CHANGEABLE.iter().any(fits)
    };
    let before = old.own();
    // Not even to what holds anyway.
    if let Some((key, _)) = own.iter().find(|pair| !before.contains(pair) && !can(&pair.0, false)) {
        return cannot_change(key);
    }
    let left_out = |(key, _): &&(String, String)| own.iter().all(|(known, _)| known != key);
    match before.iter().filter(left_out).find(|(key, _)| !can(key, true)) {
        Some((key, _)) => refuse(format!("Option '{key}' cannot be reset to its default value")),
        None => Ok(()),
    }
}
