//! Why an image could not be opened or created; texts follow QEMU's where scripts know them.

use std::fmt;
use std::io;

/// Why an image could not be opened or created.
#[derive(Debug)]
pub enum OpenError {
    /// The host refused.
    Host {
        /// What was tried, as in `Could not open 'x'`.
        operation: String,
        /// What the host said.
        source: io::Error,
    },
    /// The file is not an image of the wanted format.
    NotThisFormat {
        /// Format that was asked for.
        format: &'static str,
    },
    /// A field of the image holds what the format forbids or we refuse.
    Field {
        /// Image file.
        path: String,
        /// Format of the image.
        format: &'static str,
        /// Field as the format description names it.
        field: &'static str,
        /// Value found.
        value: u64,
        /// What would be acceptable.
        why: &'static str,
    },
    /// A property of the image as a whole forbids to use it as asked.
    Image {
        /// Image file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// Something valid that this version lacks.
    NotSupported {
        /// Image file or option.
        path: String,
        /// What is missing.
        what: String,
    },
    /// Another process has the image open in a way that excludes ours.
    Locked {
        /// Image file.
        path: String,
        /// Permission that could not be had: `write`, `consistent read`, …
        permission: &'static str,
        /// Whether the conflict is about sharing the permission rather than holding it.
        shared: bool,
        /// Who holds the lock, where the host tells.
        holder: Option<String>,
    },
    /// An option is missing, unknown or has a bad value; the text is complete.
    Option(String),
}

impl OpenError {
    /// An error of the host while opening `path`.
    pub fn host(path: &str, source: io::Error) -> Self {
        Self::Host { operation: format!("Could not open '{path}'"), source }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { operation, source } => {
                write!(f, "{operation}: {}", host_text(source))
            }
            Self::NotThisFormat { format } => write!(f, "Image is not in {format} format"),
            Self::Field { path, format, field, value, why } => {
                write!(f, "{path}: {format} header field {field} is {value:#x}: {why}")
            }
            Self::Image { path, why } => write!(f, "{path}: {why}"),
            Self::NotSupported { path, what } => write!(f, "{path}: not supported yet: {what}"),
            Self::Locked { path, permission, shared, holder } => {
                let shared = if *shared { "shared " } else { "" };
                writeln!(f, "Failed to get {shared}\"{permission}\" lock")?;
                write!(f, "Is another process using the image [{path}]?")?;
                match holder {
                    Some(holder) => write!(f, " It is held by {holder}."),
                    None => Ok(()),
                }
            }
            Self::Option(text) => f.write_str(text),
        }
    }
}

/// How `strerror` words errors that have no number.
const KINDS: &[(io::ErrorKind, &str)] = &[
    (io::ErrorKind::FileTooLarge, "File too large"),
    (io::ErrorKind::InvalidInput, "Invalid argument"),
    (io::ErrorKind::IsADirectory, "Is a directory"),
    (io::ErrorKind::NotConnected, "Cannot send after transport endpoint shutdown"),
    (io::ErrorKind::NotFound, "No such file or directory"),
    (io::ErrorKind::OutOfMemory, "Cannot allocate memory"),
    (io::ErrorKind::PermissionDenied, "Operation not permitted"),
    (io::ErrorKind::ReadOnlyFilesystem, "Read-only file system"),
    (io::ErrorKind::StorageFull, "No space left on device"),
    (io::ErrorKind::UnexpectedEof, "Input/output error"),
    (io::ErrorKind::Unsupported, "Operation not supported"),
];

/// An I/O error as `strerror` words it, without Rust's `(os error N)`.
pub fn host_text(error: &io::Error) -> String {
    if error.get_ref().is_none()
        && error.raw_os_error().is_none()
        && let Some((_, text)) = KINDS.iter().find(|(kind, _)| *kind == error.kind())
    {
        return (*text).to_owned();
    }
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

impl std::error::Error for OpenError {}
