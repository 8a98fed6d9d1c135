//! Requests from devices to the machine. They are messages: the machine acts on them after the
//! handler that made them has returned.

/// Why a machine resets or stops; the names are those of QMP's `ShutdownCause`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The guest asked to be switched off.
    GuestShutdown,
    /// The guest asked to be reset.
    GuestReset,
    /// The guest reported a failure of its own.
    GuestPanic,
    /// A subsystem of the machine was reset by another (no event is due).
    SubsystemReset,
    /// `quit` on a monitor.
    HostQmpQuit,
    /// `system_reset` on a monitor.
    HostQmpSystemReset,
    /// A signal to the process.
    HostSignal,
    /// The user closed the window.
    HostUi,
    /// The host failed.
    HostError,
}

impl Cause {
    /// Name in QMP events.
    pub fn name(self) -> &'static str {
        match self {
            Self::GuestShutdown => "guest-shutdown",
            Self::GuestReset => "guest-reset",
            Self::GuestPanic => "guest-panic",
            Self::SubsystemReset => "subsystem-reset",
            Self::HostQmpQuit => "host-qmp-quit",
            Self::HostQmpSystemReset => "host-qmp-system-reset",
            Self::HostSignal => "host-signal",
            Self::HostUi => "host-ui",
            Self::HostError => "host-error",
        }
    }
}

/// The machine as devices see it. Called with the device locked: an implementation takes a note
/// and returns.
pub trait MachineControl: Send + Sync {
    /// Stop for good; the process ends with `code` (or the machine pauses, with `-no-shutdown`).
    fn shutdown(&self, cause: Cause, code: u32);
    /// Reset everything (or stop, with `-no-reboot`).
    fn reset(&self, cause: Cause);
}
