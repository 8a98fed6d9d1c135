//! What `-object` gives to images: passphrases, keys, credentials and throttle groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use crypto::Credentials;
use graph::throttle::Group;
use graph::{OpenError, Secrets};
use options::{Grammar, List};

/// Types of objects that are made here.
pub const OBJECT_KINDS: &[&str] = &["secret", "throttle-group", "tls-creds-x509"];

/// Objects by their identifiers, as images and their tools need them.
#[derive(Clone, Default)]
pub struct Objects {
    keys: crypto::Objects,
    groups: BTreeMap<String, Arc<Group>>,
}

impl Objects {
    /// Reads the text of every `--object`.
    ///
    /// # Errors
    /// `Option` with QEMU's words where scripts know them.
    pub fn parse<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Self, OpenError> {
        let mut objects = Self::default();
        for text in texts {
            let list = List::parse(text, Grammar::strict("qom-type"))
                .map_err(|e| OpenError::Option(e.to_string()))?;
            objects.add(list)?;
        }
        Ok(objects)
    }

    /// Makes one object.
    ///
    /// # Errors
    /// As [`Objects::parse`].
    pub fn add(&mut self, list: List) -> Result<(), OpenError> {
        match list.get("qom-type") {
            Some("throttle-group") => self.add_group(list),
            _ => self.keys.add_list(list).map_err(OpenError::Option),
        }
    }

    fn add_group(&mut self, mut list: List) -> Result<(), OpenError> {
        let refuse = |text: String| OpenError::Option(text);
        list.take("qom-type");
        let missing = || refuse("Parameter 'id' is missing".to_owned());
        let id = list.take("id").ok_or_else(missing)?.value;
        if self.groups.contains_key(&id) {
            return Err(refuse(format!(
                "attempt to add duplicate property '{id}' to object (type 'container')"
            )));
        }
        let group = Group::parse(&id, list.items.into_iter().map(|item| (item.key, item.value)))?;
        self.groups.insert(id, group);
        Ok(())
    }

    /// Forgets an object; whether there was one. Who uses it keeps it alive.
    pub fn remove(&mut self, id: &str) -> bool {
        self.groups.remove(id).is_some() || self.keys.remove(id).is_some()
    }

    /// Whether images use a throttle group, so that it has to stay.
    pub fn is_group_in_use(&self, id: &str) -> bool {
        self.groups.get(id).is_some_and(|group| Arc::strong_count(group) > 1)
    }

    /// Those that hold keys and credentials.
    pub fn keys(&self) -> &crypto::Objects {
        &self.keys
    }
}

impl Secrets for Objects {
    fn secret(&self, id: &str) -> Result<Vec<u8>, OpenError> {
        Secrets::secret(&self.keys, id)
    }

    fn client_credentials(&self, id: &str) -> Result<Arc<Credentials>, OpenError> {
        self.keys.client_credentials(id)
    }

    fn throttle_group(&self, id: &str) -> Option<Arc<Group>> {
        self.groups.get(id).cloned()
    }
}
