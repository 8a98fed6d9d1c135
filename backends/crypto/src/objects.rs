//! The objects of one process or machine by their identifiers.

use std::collections::BTreeMap;
use std::sync::Arc;

use options::{Grammar, List};
use zeroize::Zeroizing;

use crate::{Credentials, Endpoint, secret};

/// Types that are known and wait.
const WAITING: &[&str] = &[
    "tls-creds-anon",
    "tls-creds-psk",
    "tls-cipher-suites",
    "authz-list",
    "authz-list-file",
    "authz-pam",
    "authz-simple",
    "secret_keyring",
    "throttle-group",
    "iothread",
    "main-loop",
];

/// What an identifier stands for.
#[derive(Clone)]
pub enum Object {
    /// `secret`
    Secret(Arc<Zeroizing<Vec<u8>>>),
    /// `tls-creds-x509`
    Tls(Arc<Credentials>),
}

/// Objects by their identifiers.
#[derive(Clone, Default)]
pub struct Objects(BTreeMap<String, Object>);

impl Objects {
    /// Makes what the text of an `--object` describes.
    ///
    /// # Errors
    /// With QEMU's words where scripts know them.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        let list = List::parse(text, Grammar::strict("qom-type")).map_err(|e| e.to_string())?;
        self.add_list(list)
    }

    /// The same from keys and values.
    ///
    /// # Errors
    /// As [`Objects::add`].
    pub fn add_list(&mut self, mut list: List) -> Result<(), String> {
        let mut needed = |key: &str| {
            let item = list.take(key).ok_or_else(|| format!("Parameter '{key}' is missing"))?;
            Ok::<_, String>(item.value)
        };
        let (kind, id) = (needed("qom-type")?, needed("id")?);
        if self.0.contains_key(&id) {
            return Err(format!(
                "attempt to add duplicate property '{id}' to object (type 'container')"
            ));
        }
        let object = match kind.as_str() {
            "secret" => Object::Secret(Arc::new(secret::parse(&mut list, self)?)),
            "tls-creds-x509" => Object::Tls(Arc::new(Credentials::parse(&mut list)?)),
            waiting if WAITING.contains(&waiting) => {
                return Err(format!("not supported yet: --object of type '{waiting}'"));
            }
            unknown => {
                return Err(format!("Parameter 'qom-type' does not accept value '{unknown}'"));
            }
        };
        if let Some(item) = list.items.first() {
            return Err(format!("Parameter '{}' is unexpected", item.key));
        }
        self.0.insert(id, object);
        Ok(())
    }

    /// Forgets an object; who uses it keeps it alive.
    pub fn remove(&mut self, id: &str) -> Option<Object> {
        self.0.remove(id)
    }

    /// The object called `id`.
    pub fn get(&self, id: &str) -> Option<&Object> {
        self.0.get(id)
    }

    /// The bytes of a secret.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn secret(&self, id: &str) -> Result<Vec<u8>, String> {
        match self.0.get(id) {
            Some(Object::Secret(bytes)) => Ok(bytes.to_vec()),
            Some(_) => Err(format!("Object with id '{id}' is not a secret")),
            None => Err(format!("No secret with id '{id}'")),
        }
    }

    /// The credentials called `id`, if they are for this end of a connection.
    ///
    /// # Errors
    /// There are none, or for the other end.
    pub fn tls(&self, id: &str, endpoint: Endpoint) -> Result<Arc<Credentials>, String> {
        match self.0.get(id) {
            Some(Object::Tls(credentials)) => {
                credentials.check_endpoint(endpoint).map(|()| Arc::clone(credentials))
            }
            Some(_) => Err(format!("Object with id '{id}' is not TLS credentials")),
            None => Err(format!("No TLS credentials with id '{id}'")),
        }
    }
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_those_scripts_know() {
        let mut objects = Objects::default();
        objects.add("secret,id=a,data=x,,y").expect("it is one");
        assert_eq!(objects.secret("a").ok(), Some(b"x,y".to_vec()));
        for (text, complaint) in [
            (
                "secret,id=a,data=1",
                "attempt to add duplicate property 'a' to object (type 'container')",
            ),
            ("secret,data=1", "Parameter 'id' is missing"),
            ("id=b", "Parameter 'qom-type' is missing"),
            ("foo,id=b", "Parameter 'qom-type' does not accept value 'foo'"),
            ("secret,id=b,data=1,foo=2", "Parameter 'foo' is unexpected"),
            ("tls-creds-x509,id=b", "Missing 'dir' property value"),
            (
                "tls-creds-x509,id=b,dir=/x,endpoint=foo",
                "Parameter 'endpoint' does not accept value 'foo'",
            ),
            (
                "tls-creds-x509,id=b,dir=/nowhere",
                "Unable to access credentials /nowhere/ca-cert.pem: No such file or directory",
            ),
            ("tls-creds-psk,id=b", "not supported yet: --object of type 'tls-creds-psk'"),
        ] {
            assert_eq!(objects.add(text).err().as_deref(), Some(complaint), "{text}");
        }
        let wrong = |id| objects.tls(id, Endpoint::Client).err().unwrap_or_default();
        assert_eq!(wrong("a"), "Object with id 'a' is not TLS credentials");
        assert_eq!(wrong("b"), "No TLS credentials with id 'b'");
    }
}
