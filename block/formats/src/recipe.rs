//! How nodes were opened, so that they can be opened again.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use filters::Steps;
use graph::throttle::Group;
use graph::{Child, DiskOptions, Edge, Member, Node, OpenError, Recipe, Role, Secrets, User};
use zeroize::Zeroizing;

use crate::Raw;
use crate::format::{Format, OpenRequest, Purpose};
use crate::keys::{Keys, Style};
use crate::open::Inherited;

/// Options that every driver has, and whose changes need no word from it.
const COMMON: &[&str] = &[
    "active",
    "auto-read-only",
    "cache.direct",
    "cache.no-flush",
    "detect-zeroes",
    "discard",
    "read-only",
];

/// A node by its driver and options, below the one that it was opened for.
pub(crate) struct NodeRecipe {
    pub driver: String,
    /// Its options as they were given, without those of children.
    pub given: Vec<(String, String)>,
    /// Who gave them.
    pub style: Style,
    /// What it took over from the node above.
    pub inherited: Inherited,
    /// Children that were opened with it, and not by somebody else before.
    pub inline: Vec<(Role, Weak<Member>)>,
    pub how: How,
}

/// How a driver opens its nodes again.
pub(crate) enum How {
    /// Not at all: the open node takes what there is to change.
    Fixed,
    Image(ImageRecipe),
    Throttle(Arc<Edge>, Arc<Group>),
    Preallocate(Arc<Edge>, Steps),
}

impl NodeRecipe {
    /// A node that was opened with `given`, with options of its children among them.
    pub fn new(
        driver: &str,
        given: Vec<(String, String)>,
        style: Style,
        inherited: Inherited,
        edges: &[Arc<Edge>],
        how: How,
    ) -> Self {
        let by_name = |role: Role| given.iter().any(|(key, _)| *key == role.name());
        let inline = edges.iter().filter_map(|edge| {
            let role = role_of(edge).filter(|role| !by_name(*role))?;
            Some((role, Arc::downgrade(&edge.target()?)))
        });
        let inline = inline.collect();
        let roles: Vec<_> = edges.iter().filter_map(|edge| role_of(edge)).collect();
        let given = without(given, &roles);
        Self { driver: driver.to_owned(), given, style, inherited, inline, how }
    }

    /// Its options that not every driver has.
    pub fn own(&self) -> Vec<(String, String)> {
        let own = self.given.iter().filter(|(key, _)| !COMMON.contains(&&**key));
        own.cloned().collect()
    }

    /// Whether `child` was opened with the node, for that role.
    pub fn is_inline(&self, role: Role, child: &Arc<Member>) -> bool {
        let is_it = |weak: &Weak<Member>| std::ptr::eq(weak.as_ptr(), Arc::as_ptr(child));
        self.inline.iter().any(|(one, weak)| *one == role && is_it(weak))
    }
}

/// Options without those of children.
pub(crate) fn without(given: Vec<(String, String)>, roles: &[Role]) -> Vec<(String, String)> {
    let of_child = |key: &str| {
        roles.iter().any(|role| {
            let rest = key.strip_prefix(&role.name());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    };
    given.into_iter().filter(|(key, _)| !of_child(key)).collect()
}

/// What an edge leads to, for the node that has it.
pub(crate) fn role_of(edge: &Edge) -> Option<Role> {
    match edge.user() {
        User::Node(role) => Some(*role),
        _ => None,
    }
}

impl Recipe for NodeRecipe {
    fn open(&self, options: &DiskOptions) -> Result<Arc<dyn Node>, OpenError> {
        let node = |edge: &Arc<Edge>| Arc::clone(edge) as Arc<dyn Node>;
        match &self.how {
            How::Image(image) => image.open(Keys::new(self.own(), self.style), options),
            How::Throttle(below, group) => Ok(filters::throttle(node(below), group)),
            How::Preallocate(below, steps) => filters::preallocate(node(below), *steps),
            How::Fixed => Err(OpenError::NotSupported {
                path: self.driver.clone(),
                what: "opening a node of this driver again".to_owned(),
            }),
        }
    }

    fn suits(&self, before: &DiskOptions, after: &DiskOptions) -> bool {
        let seen = |options: &DiskOptions| (options.read_only, options.discard, options.inactive);
        !matches!(self.how, How::Image(_)) || seen(before) == seen(after)
    }
}

/// An image with its children.
pub(crate) struct ImageRecipe {
    pub format: &'static dyn Format,
    pub purpose: Purpose,
    pub edges: Vec<Arc<Edge>>,
    pub secrets: Kept,
    /// The format was found out from the content.
    pub guessed: bool,
}

impl ImageRecipe {
    fn open(&self, mut keys: Keys, options: &DiskOptions) -> Result<Arc<dyn Node>, OpenError> {
        let child = |edge: &Arc<Edge>| {
            Some(Child { role: role_of(edge)?, node: Arc::clone(edge) as Arc<dyn Node> })
        };
        let mut children: Vec<_> = self.edges.iter().filter_map(child).collect();
        let at = children.iter().position(|child| child.role == Role::File);
        let file = at.map(|at| children.remove(at).node);
        let file = file.ok_or_else(|| OpenError::Option("the image has no file".to_owned()))?;
        let path = file.info().filename;
        // Its file knows.
        keys.take("force-share");
        let node = self.format.open(OpenRequest {
            file,
            path: &path,
            read_only: options.read_only || options.inactive,
            purpose: self.purpose,
            children,
            discard: options.discard,
            options: &mut keys,
            secrets: &self.secrets,
        })?;
        keys.finish(self.format.name())?;
        Ok(if self.guessed { Arc::new(Raw::guessed(node)) } else { node })
    }
}

/// The secrets that one image needs.
#[derive(Default)]
pub(crate) struct Kept(BTreeMap<String, Zeroizing<Vec<u8>>>);

impl Kept {
    /// Those that options name.
    pub fn of(pairs: &[(String, String)], secrets: &dyn Secrets) -> Self {
        let named = pairs.iter().filter(|(key, _)| key.ends_with("key-secret"));
        // One that is missing is missed when the image is opened.
        let kept = named.filter_map(|(_, id)| {
            secrets.secret(id).ok().map(|bytes| (id.clone(), Zeroizing::new(bytes)))
        });
        Self(kept.collect())
    }
}

impl Secrets for Kept {
    fn secret(&self, id: &str) -> Result<Vec<u8>, OpenError> {
        let missing = || OpenError::Option(format!("No secret with id '{id}'"));
        self.0.get(id).map(|bytes| bytes.to_vec()).ok_or_else(missing)
    }
}
