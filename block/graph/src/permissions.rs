//! What the users of a node do with it, and what they let others do.
//!
//! Observed with QEMU 10.0 (`x-debug-query-block-graph`): a filter asks of its child what its users
//! ask of it; a format asks for its file whatever it needs itself, and of its backing file only to
//! read, and that only while somebody reads the format.

use crate::Role;

/// A set of permissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access(u8);

impl Access {
    /// No permission.
    pub const NONE: Self = Self(0);
    /// What is read is what was written last.
    pub const READ: Self = Self(1);
    /// To change what the node holds.
    pub const WRITE: Self = Self(2);
    /// To write what is there already, as copying up from a backing file does.
    pub const WRITE_UNCHANGED: Self = Self(4);
    /// To change the length.
    pub const RESIZE: Self = Self(8);
    /// Every permission.
    pub const ALL: Self = Self(15);

    /// Names as lists have them, in their order.
    const NAMES: [(Self, &'static str); 4] = [
        (Self::RESIZE, "resize"),
        (Self::WRITE_UNCHANGED, "write-unchanged"),
        (Self::WRITE, "write"),
        (Self::READ, "consistent-read"),
    ];

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other` is in the set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What is in the set, as messages say it.
    pub(crate) fn words(self) -> Vec<&'static str> {
        let all = [
            (Self::READ, "consistent read"),
            (Self::WRITE, "write"),
            (Self::WRITE_UNCHANGED, "write unchanged"),
            (Self::RESIZE, "resize"),
        ];
        all.iter().filter(|(one, _)| self.has(*one)).map(|(_, word)| *word).collect()
    }

    /// The set as bits; bit n is permission n of the locks of image files.
    pub const fn bits(self) -> u32 {
        self.0 as u32
    }

    /// The names of what is in the set.
    pub fn names(self) -> Vec<&'static str> {
        Self::NAMES.iter().filter(|(one, _)| self.has(*one)).map(|(_, name)| *name).collect()
    }
}

/// What one user takes and what it lets others have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// What the user does.
    pub taken: Access,
    /// What others may do at the same time.
    pub shared: Access,
}

impl Permissions {
    /// A user that does nothing yet and minds nothing.
    pub const UNUSED: Self = Self { taken: Access::NONE, shared: Access::ALL };
    /// A device or tool that only reads.
    pub const READER: Self = Self {
        taken: Access::READ,
        shared: Access(Access::READ.0 | Access::WRITE_UNCHANGED.0 | Access::RESIZE.0),
    };
    /// A device or tool that reads and writes.
    pub const WRITER: Self = Self {
        taken: Access(Access::READ.0 | Access::WRITE.0),
        shared: Access(Access::READ.0 | Access::WRITE_UNCHANGED.0 | Access::RESIZE.0),
    };

    /// The same, and others may write too (`share-rw=on`, exports).
    #[must_use]
    pub const fn sharing_writes(self) -> Self {
        Self { taken: self.taken, shared: self.shared.with(Access::WRITE) }
    }

    /// The same, and others may do anything (`force-share=on`).
    #[must_use]
    pub const fn sharing_all(self) -> Self {
        Self { taken: self.taken, shared: Access::ALL }
    }

    /// What several users of one node do and allow together.
    #[must_use]
    pub const fn joined(self, other: Self) -> Self {
        Self { taken: self.taken.with(other.taken), shared: self.shared.and(other.shared) }
    }
}

/// What a node is to its children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// It has no children: a file of the host, a connection.
    Protocol,
    /// It passes on what it is asked.
    Filter,
    /// It passes on what it is asked, to a part of its file.
    Part,
    /// It has metadata of its own in its `file`.
    Format,
}

impl NodeKind {
    /// What such a node does with its child of that role, while its own users do `users` together.
    pub fn needs(self, role: Role, users: Permissions, writable: bool) -> Permissions {
        let unchanged = Access::READ.with(Access::WRITE_UNCHANGED);
        match (self, role) {
            (Self::Format, Role::Backing) => {
                let changes = Access::WRITE.with(Access::RESIZE);
                let below = if users.shared.has(Access::WRITE) { changes } else { Access::NONE };
                Permissions { taken: users.taken.and(Access::READ), shared: unchanged.with(below) }
            }
            (Self::Format, _) => {
                let changes = Access::WRITE.with(Access::RESIZE);
                let own = if writable { changes } else { Access::NONE };
                let taken = users.taken.and(Access::WRITE_UNCHANGED).with(Access::READ).with(own);
                Permissions { taken, shared: unchanged }
            }
            (Self::Part, _) => {
                let Permissions { taken, shared } = Self::Filter.needs(role, users, writable);
                Permissions { taken, shared: shared.without(Access::RESIZE) }
            }
            _ if writable => users,
            _ => Permissions {
                taken: users.taken.without(Access::WRITE.with(Access::RESIZE)),
                shared: users.shared,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_are_those_that_the_peer_shows() {
        let none = Permissions::UNUSED;
        let format = |role, users, writable| NodeKind::Format.needs(role, users, writable);
        let file = format(Role::File, none, true);
        assert_eq!(file.taken.names(), ["resize", "write", "consistent-read"]);
        assert_eq!(file.shared.names(), ["write-unchanged", "consistent-read"]);
        assert_eq!(format(Role::File, none, false).taken.names(), ["consistent-read"]);
        let backing = format(Role::Backing, none, true);
        assert_eq!((backing.taken, backing.shared), (Access::NONE, Access::ALL));
        let export = Permissions {
            taken: Access::READ.with(Access::WRITE),
            shared: Access::ALL.without(Access::RESIZE),
        };
        let backing = format(Role::Backing, export, true);
        assert_eq!((backing.taken, backing.shared), (Access::READ, Access::ALL));
        assert_eq!(NodeKind::Filter.needs(Role::File, export, true), export);
        let part = NodeKind::Part.needs(Role::File, none, true);
        assert_eq!(part.shared, Access::ALL.without(Access::RESIZE));
    }
}
