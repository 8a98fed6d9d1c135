//! Opening nodes again with other options (`blockdev-reopen`): all that are named, or none.
//!
//! Nodes close from the top down, so that what an image has left to write goes to a file that still
//! takes it; then edges turn and options change; then nodes open from the bottom up. If one of them
//! cannot, all of that is done once more with what there was before.

use std::any::Any;
use std::sync::Arc;

use crate::lost::Lost;
use crate::{DiskOptions, Edge, Graph, Member, Node, OpenError, Operation, Role, User};

/// How a node was opened.
pub trait Recipe: Any + Send + Sync {
    /// Opens the node with the children it has. Its old self is closed.
    ///
    /// # Errors
    /// As when it was opened first.
    fn open(&self, options: &DiskOptions) -> Result<Arc<dyn Node>, OpenError>;

    /// Whether the open node can have other options without being opened again.
    fn suits(&self, before: &DiskOptions, after: &DiskOptions) -> bool;
}

/// What becomes of one node.
pub struct Reopening {
    /// The node.
    pub member: Arc<Member>,
    /// Its options from then on.
    pub options: DiskOptions,
    /// How it is opened from then on; as before without.
    pub recipe: Option<Arc<dyn Recipe>>,
    /// Its edges that lead elsewhere from then on.
    pub turns: Vec<(Arc<Edge>, Option<Arc<Member>>)>,
    /// Whether its node is closed and opened, or only hears of its options.
    pub again: bool,
}

/// A node as it was or is to be.
struct State {
    options: DiskOptions,
    recipe: Arc<dyn Recipe>,
    turns: Vec<(Arc<Edge>, Option<Arc<Member>>)>,
}

/// A node that is opened again.
struct Step {
    member: Arc<Member>,
    again: bool,
    before: State,
    after: State,
}

impl Step {
    fn new(item: Reopening) -> Result<Self, OpenError> {
        let Reopening { member, options, recipe, turns, again } = item;
        let Some(old) = member.recipe() else {
            let path = format!("node '{}'", member.name());
            let what = "opening a node of this driver again".to_owned();
            return Err(OpenError::NotSupported { path, what });
        };
        let led = turns.iter().map(|(edge, _)| (Arc::clone(edge), edge.target())).collect();
        let recipe = recipe.unwrap_or_else(|| Arc::clone(&old));
        let before = State { options: member.options(), recipe: old, turns: led };
        Ok(Self { again, before, after: State { options, recipe, turns }, member })
    }

    /// Closes the node, if it is one that is opened again.
    fn close(&self) -> Result<(), OpenError> {
        if !self.again {
            return Ok(());
        }
        let lost = Arc::new(Lost::of(&*self.member.node()));
        let node = self.member.exchange(lost);
        if Arc::strong_count(&node) > 1 {
            self.member.put_back(node);
            let text = format!("Node '{}' is busy: somebody works with it", self.member.name());
            return Err(OpenError::Option(text));
        }
        Ok(())
    }
}

impl Graph {
    /// Opens a node again with other options. If that fails, it is what it was.
    ///
    /// # Errors
    /// As [`Graph::reopen_all`].
    pub fn reopen(
        self: &Arc<Self>,
        member: &Arc<Member>,
        options: DiskOptions,
    ) -> Result<(), OpenError> {
        let before = member.options();
        let again = member.recipe().is_none_or(|recipe| !recipe.suits(&before, &options));
        let member = Arc::clone(member);
        let item = Reopening { member, options, recipe: None, turns: Vec::new(), again };
        self.reopen_all(vec![item])
    }

    /// Makes a node writable or read-only; files below that may change follow.
    ///
    /// # Errors
    /// As [`Graph::reopen_all`].
    pub fn set_read_only(
        self: &Arc<Self>,
        member: &Arc<Member>,
        on: bool,
    ) -> Result<(), OpenError> {
        let options = member.options();
        if options.read_only == on {
            return Ok(());
        }
        self.reopen(member, DiskOptions { read_only: on, ..options })
    }

    /// Opens nodes again, all of them or none. A node that is neither what it is to be nor what it was,
    /// because the host allows neither, refuses every request until it is opened again.
    ///
    /// # Errors
    /// `Option` for a node that cannot be opened again, is in use by somebody who forbids it, or would
    /// be below itself; of the flush before; the driver's and the host's.
    pub fn reopen_all(self: &Arc<Self>, list: Vec<Reopening>) -> Result<(), OpenError> {
        for item in &list {
            self.check_blocked(&item.member, Operation::Reopen)?;
        }
        let steps = list.into_iter().map(Step::new).collect::<Result<Vec<_>, _>>()?;
        let _change = self.change();
        let members: Vec<_> = steps.iter().map(|step| &step.member).collect();
        let _drained = self.drains.begin(self, &members);
        for member in members {
            let failed =
                |source| OpenError::Host { operation: "Error flushing drive".to_owned(), source };
            if !member.node().read_only() {
                member.node().flush().map_err(failed)?;
            }
        }
        let mut closed = Vec::new();
        for step in self.top_down(&steps) {
            if let Err(refused) = step.close() {
                for step in closed.into_iter().rev() {
                    // As it was a moment ago.
                    let _ = open(step, &step.before);
                }
                return Err(refused);
            }
            closed.push(step);
        }
        if let Err(refused) = self.become_other(&steps, |step| &step.after, false) {
            for step in self.top_down(&steps) {
                // Nobody has it but its member.
                let _ = step.close();
            }
            // It was like this before; what the host refuses now is refused from now on.
            let _ = self.become_other(&steps, |step| &step.before, true);
            return Err(refused);
        }
        for step in steps {
            step.member.set_recipe(step.after.recipe);
        }
        Ok(())
    }

    /// Gives closed nodes a state. With `all` the rest is done even if something fails.
    fn become_other<'a>(
        self: &Arc<Self>,
        steps: &'a [Step],
        state: impl Fn(&'a Step) -> &'a State,
        all: bool,
    ) -> Result<(), OpenError> {
        let mut result = Ok(());
        let mut done = |done: Result<(), OpenError>| match (done, all) {
            (Err(error), false) => Err(error),
            (Err(error), true) => {
                result = Err(error);
                Ok(())
            }
            (Ok(()), _) => Ok(()),
        };
        let mut touched: Vec<Arc<Member>> = Vec::new();
        for step in steps {
            step.member.policy.set(state(step).options.clone());
            for (edge, target) in &state(step).turns {
                touched.extend(edge.target());
                if let Some(target) = target.as_ref().filter(|t| self.reaches(t, &step.member)) {
                    done(Err(cycle(target, edge, &step.member)))?;
                    continue;
                }
                edge.turn(target.as_ref());
            }
        }
        touched.extend(steps.iter().map(|step| Arc::clone(&step.member)));
        for step in steps.iter().filter(|step| !step.again) {
            done(step.member.node().adjust(&state(step).options))?;
        }
        steps.iter().for_each(|step| step.member.forget_permissions());
        // What is needed of children, before anybody needs it.
        let check = || touched.iter().try_for_each(|member| self.check(member, None, ""));
        done(check())?;
        for step in self.top_down(steps).into_iter().rev() {
            done(open(step, state(step)))?;
        }
        done(check())?;
        self.drains.extend();
        result
    }

    /// Steps in an order in which no node comes before one that uses it.
    fn top_down<'a>(&self, steps: &'a [Step]) -> Vec<&'a Step> {
        let mut waiting: Vec<&Step> = steps.iter().collect();
        let mut sorted = Vec::new();
        while !waiting.is_empty() {
            let is_above = |step: &&Step| {
                let above = |other: &&Step| {
                    !Arc::ptr_eq(&other.member, &step.member)
                        && self.reaches(&other.member, &step.member)
                };
                !waiting.iter().any(above)
            };
            let at = waiting.iter().position(is_above).unwrap_or(0);
            sorted.push(waiting.remove(at));
        }
        sorted
    }
}

fn open(step: &Step, state: &State) -> Result<(), OpenError> {
    if step.again {
        step.member.exchange(state.recipe.open(&state.options)?);
    }
    Ok(())
}

/// What is said of an edge that would lead up again.
pub(crate) fn cycle(target: &Member, edge: &Edge, member: &Member) -> OpenError {
    let role = match edge.user() {
        User::Node(role) => role.name(),
        _ => Role::Backing.name(),
    };
    OpenError::Option(format!(
        "Making '{}' a {role} child of '{}' would create a cycle",
        target.name(),
        member.name()
    ))
}
