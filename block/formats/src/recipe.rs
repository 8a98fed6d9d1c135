//! How an image was opened, so that it can be opened again.

use std::collections::BTreeMap;
use std::sync::Arc;

use graph::{Child, DiskOptions, Edge, Node, OpenError, Recipe, Role, Secrets, User};
use zeroize::Zeroizing;

use crate::Raw;
use crate::format::{Format, OpenRequest, Purpose};
use crate::keys::{Keys, Style};

/// An image with its children and options.
pub(crate) struct ImageRecipe {
    pub format: &'static dyn Format,
    pub path: String,
    pub purpose: Purpose,
    pub edges: Vec<Arc<Edge>>,
    pub pairs: Vec<(String, String)>,
    pub secrets: Kept,
    /// The format was found out from the content.
    pub guessed: bool,
}

impl Recipe for ImageRecipe {
    fn keys(&self) -> Vec<(String, String)> {
        self.pairs.clone()
    }

    fn open(
        &self,
        options: &DiskOptions,
        keys: &[(String, String)],
    ) -> Result<Arc<dyn Node>, OpenError> {
        let role = |edge: &Arc<Edge>| match edge.user() {
            User::Node(role) => Some(*role),
            _ => None,
        };
        let child = |edge: &Arc<Edge>| {
            let role = role(edge)?;
            Some(Child { role, node: Arc::clone(edge) as Arc<dyn Node> })
        };
        let mut children: Vec<_> = self.edges.iter().filter_map(child).collect();
        let at = children.iter().position(|child| child.role == Role::File);
        let file = at.map(|at| children.remove(at).node);
        let missing = || OpenError::Option("the image has no file".to_owned());
        let mut keys = Keys::new(keys.iter().cloned(), Style::Blockdev);
        let node = self.format.open(OpenRequest {
            file: file.ok_or_else(missing)?,
            path: &self.path,
            read_only: options.read_only,
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
