//! What clients are told without asking.

use crate::schema::{Role, Schema};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often an event that is limited is sent.
const INTERVAL: Duration = Duration::from_secs(1);

/// Who hears of events.
pub(crate) trait Listener: Send + Sync {
    /// Something happened: the message for clients.
    fn hear(&self, message: &Value);
    /// [`Events::due`] changed.
    fn look_again(&self);
}

/// Where everything reports what happens. Shared by all who report.
pub struct Events {
    schema: Arc<Schema>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    listener: Option<Weak<dyn Listener>>,
    /// Limited events that were sent a short while ago.
    recent: HashMap<(String, String), Recent>,
}

struct Recent {
    /// When the next one may be sent.
    next: Instant,
    /// The last one that was held back.
    held: Option<Value>,
}

impl Events {
    /// Nobody listens yet.
    pub fn new(schema: Arc<Schema>) -> Self {
        Self { schema, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn listen(&self, listener: &Arc<dyn Listener>) {
        self.state().listener = Some(Arc::downgrade(listener));
    }

    /// Tells all clients that `name` happened. Callable from anywhere, but not with a lock held
    /// that a command takes.
    pub fn emit(&self, name: &str, data: Map<String, Value>) {
        let key = match self.schema.entry(name).map(|entry| &entry.role) {
            Some(Role::Event { limited: None }) => None,
            Some(Role::Event { limited: Some(by) }) => {
                let value = by.as_ref().and_then(|member| data.get(member));
                Some(value.map(Value::to_string).unwrap_or_default())
            }
            _ => {
                debug_assert!(false, "'{name}' is no event");
                return;
            }
        };
        let message = message(name, data);
        let now = Instant::now();
        let mut state = self.state();
        let Some(listener) = state.listener.as_ref().and_then(Weak::upgrade) else { return };
        if let Some(key) = key {
            let key = (name.to_owned(), key);
            if let Some(recent) = state.recent.get_mut(&key) {
                recent.held = Some(message);
                drop(state);
                return listener.look_again();
            }
            state.recent.insert(key, Recent { next: now + INTERVAL, held: None });
            drop(state);
            listener.hear(&message);
            return listener.look_again();
        }
        drop(state);
        listener.hear(&message);
    }

    /// When [`flush`](Self::flush) has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.state().recent.values().map(|recent| recent.next).min()
    }

    /// Sends what was held back long enough.
    pub(crate) fn flush(&self, now: Instant) {
        let mut state = self.state();
        let mut send = Vec::new();
        state.recent.retain(|_, recent| {
            if recent.next > now {
                return true;
            }
            recent.next = now + INTERVAL;
            let held = recent.held.take();
            let waits = held.is_some();
            send.extend(held);
            waits
        });
        let listener = state.listener.as_ref().and_then(Weak::upgrade);
        drop(state);
        if let Some(listener) = listener {
            send.iter().for_each(|message| listener.hear(message));
        }
    }
}

fn message(name: &str, data: Map<String, Value>) -> Value {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let stamp = json!({"seconds": since.as_secs(), "microseconds": since.subsec_micros()});
    let mut message = Map::new();
    message.insert("timestamp".into(), stamp);
    message.insert("event".into(), name.into());
    if !data.is_empty() {
        message.insert("data".into(), Value::Object(data));
    }
    Value::Object(message)
}
