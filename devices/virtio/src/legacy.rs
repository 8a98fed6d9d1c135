//! Where rings lie in the legacy interface: one block of memory for all three parts.

use crate::ring::{MAX_CHAIN, Ring};
use device::guest_error;

/// Sets the size of a queue that is not in use.
pub(crate) fn set_size(ring: &mut Ring, size: u32) {
    match u16::try_from(size) {
        Ok(size) if size <= MAX_CHAIN && size.is_power_of_two() => ring.size = size,
        _ => guest_error!("virtio: a queue cannot have {size} entries"),
    }
}

/// Places all parts of a split ring from `base` on, the used ring aligned to `align`.
pub(crate) fn place(ring: &mut Ring, base: u64, align: u32) {
    let align = u64::from(if align == 0 { 4096 } else { align });
    if !align.is_power_of_two() {
        return guest_error!("virtio: a ring cannot be aligned to {align} bytes");
    }
    let size = u64::from(ring.size);
    ring.desc = base;
    ring.driver = base.wrapping_add(16 * size);
    let end = ring.driver.wrapping_add(6 + 2 * size);
    ring.device = end.wrapping_add(align - 1) & !(align - 1);
    ring.ready = base != 0;
}
