//! The floating-point control and status register, while the runtime serves a slow path.
#![expect(unsafe_code, reason = "MXCSR is reached by instructions only")]

/// The present value.
pub fn read_mxcsr() -> u32 {
    let mut value = 0u32;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: stores four bytes at the address of a local variable.
    unsafe {
        std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack));
    }
    value
}

/// Sets flags and rounding; exceptions stay masked whatever `value` says.
pub fn write_mxcsr(value: u32) {
    let value = (value & 0xffff) | crate::Core::MXCSR;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: all exceptions are masked and no reserved bit is set, so the load cannot fault. Rust
    // code run with it keeps to integers (the caller restores the host's value when it leaves).
    unsafe {
        std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack, readonly));
    }
}
