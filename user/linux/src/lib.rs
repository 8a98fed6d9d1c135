//! Programs of other architectures on the host's Linux: `qemu-<isa> program`.
//!
//! The program's instructions are translated; its system calls are the host's, with other numbers and
//! layouts; its memory lies in ours, its threads are threads of the host, its signals those of the
//! host. What differs between architectures is in [`abi`], one file for each.
//!
//! Not here yet: big-endian programs.

pub mod abi;
pub mod binfmt;
mod calls;
mod core_file;
mod debug;
mod errno;
mod layout;
mod load;
mod log;
mod map;
pub mod options;
mod proc_files;
mod process;
mod ptrace;
pub mod seccomp;
mod signal;
mod space;
mod stack;
mod start;
mod strace;
mod sys;
mod thread;
mod vdso;

pub use start::run;
