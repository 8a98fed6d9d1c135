//! Goldfish real-time clock (registers and protocol as in the Linux driver's documentation and
//! header `linux/goldfish` and `rtc-goldfish`): a 64-bit count of nanoseconds since 1970 with one
//! alarm. Reading `TIME_LOW` latches `TIME_HIGH`.

mod regs {
    //! Register summary; names as in the Linux driver.
    device::registers! { u32 {
        0x00 TIME_LOW        rw;
        0x04 TIME_HIGH       rw;
        0x08 ALARM_LOW       rw;
        0x0c ALARM_HIGH      rw;
        0x10 IRQ_ENABLED     rw bits 1;
        0x14 CLEAR_ALARM     wo;
        0x18 ALARM_STATUS    ro;
        0x1c CLEAR_INTERRUPT wo;
    }}
}

use device::{
    Bus, Category, Device, DeviceClass, MmioDevice, RestoreError, SavedState, Shared, Value, Wire,
};
use regs::{ReadReg, WriteReg};
use time::{Timer, WallClock};

/// Everything the guest can observe.
#[derive(Default, SavedState)]
struct State {
    /// The guest's time minus the wall clock, wrapping ns.
    #[n(1)]
    offset: u64,
    /// `ALARM_HIGH` and `ALARM_LOW`.
    #[n(2)]
    alarm: u64,
    /// The alarm that runs: what the registers held when `ALARM_LOW` was written.
    #[n(3)]
    running: Option<u64>,
    #[n(4)]
    interrupt: bool,
    #[n(5)]
    enabled: bool,
    /// `TIME_HIGH` as of the last read of `TIME_LOW`.
    #[n(6)]
    time_high: u32,
}

/// Goldfish real-time clock.
pub struct GoldfishRtc {
    irq: Wire,
    wall: WallClock,
    timer: Timer,
    state: State,
}

impl GoldfishRtc {
    /// Bytes that the registers take.
    pub const LEN: u64 = 0x24;

    /// A clock that shows the time of `wall` until the guest sets it.
    pub fn new(irq: Wire, wall: WallClock) -> Shared<Self> {
        Shared::new_cyclic(|weak: device::Weak<Self>| {
            let timer = wall.clock().timer(move || {
                if let Some(rtc) = weak.upgrade() {
                    rtc.lock().update();
                }
            });
            Self { irq, wall, timer, state: State::default() }
        })
    }

    fn now(&self) -> u64 {
        self.wall.now_ns().cast_unsigned().wrapping_add(self.state.offset)
    }

    fn set_now(&mut self, now: u64) {
        self.state.offset = now.wrapping_sub(self.wall.now_ns().cast_unsigned());
    }

    /// Lets an alarm that is due go off; drives the wire and the timer to match the state.
    fn update(&mut self) {
        let now = self.now();
        match self.state.running {
            None => self.timer.cancel(),
            Some(alarm) if alarm > now => {
                self.timer.arm(self.wall.clock().now_ns().saturating_add(alarm - now));
            }
            Some(_) => {
                self.state.running = None;
                self.state.interrupt = true;
                self.timer.cancel();
            }
        }
        self.irq.set(self.state.interrupt && self.state.enabled);
    }
}

impl Device for GoldfishRtc {
    fn reset(&mut self) {
        self.state = State::default();
        self.update();
    }

    fn save(&self) -> Value {
        self.state.save()
    }

    fn restore(&mut self, value: &Value) -> Result<(), RestoreError> {
        self.state.restore(value)?;
        self.update();
        Ok(())
    }
}

impl MmioDevice for GoldfishRtc {
    fn read(&mut self, offset: u64, _size: u32) -> u64 {
        let Some(reg) = ReadReg::at(offset) else { return 0 };
        let value = match reg {
            ReadReg::TIME_LOW => {
                let now = self.now();
                self.state.time_high = (now >> 32) as u32;
                now as u32
            }
            ReadReg::TIME_HIGH => self.state.time_high,
            ReadReg::ALARM_LOW => self.state.alarm as u32,
            ReadReg::ALARM_HIGH => (self.state.alarm >> 32) as u32,
            ReadReg::IRQ_ENABLED => self.state.enabled.into(),
            ReadReg::ALARM_STATUS => self.state.running.is_some().into(),
        };
        value.into()
    }

    fn write(&mut self, offset: u64, size: u32, value: u64) {
        let Some((reg, bits)) = WriteReg::at(offset).filter(|_| size == 4) else {
            return device::guest_error!("goldfish_rtc: write of {size} bytes at {offset:#x}");
        };
        let value = value as u32 & bits;
        let with_low = |old: u64| old & !0xffff_ffff | u64::from(value);
        let with_high = |old: u64| old & 0xffff_ffff | u64::from(value) << 32;
        match reg {
            WriteReg::TIME_LOW => self.set_now(with_low(self.now())),
            WriteReg::TIME_HIGH => self.set_now(with_high(self.now())),
            WriteReg::ALARM_LOW => {
                self.state.alarm = with_low(self.state.alarm);
                self.state.running = Some(self.state.alarm);
            }
            WriteReg::ALARM_HIGH => self.state.alarm = with_high(self.state.alarm),
            WriteReg::IRQ_ENABLED => self.state.enabled = value != 0,
            WriteReg::CLEAR_ALARM => self.state.running = None,
            WriteReg::CLEAR_INTERRUPT => self.state.interrupt = false,
        }
        self.update();
    }
}

/// The row of `goldfish_rtc`.
pub static CLASS: DeviceClass = DeviceClass {
    name: "goldfish_rtc",
    aliases: &[],
    bus: Bus::System,
    category: Category::Misc,
    description: "Goldfish real-time clock",
    properties: &[],
    saved_version: 1,
};

#[cfg(test)]
mod tests {
    use super::*;
    use device::{RecordedLines, assert_saves_and_restores, hammer_registers};
    use std::sync::Arc;
    use time::Clock;

    fn bench() -> (Clock, Arc<RecordedLines>, Shared<GoldfishRtc>) {
        let clock = Clock::manual();
        let (lines, irq) = RecordedLines::wire();
        let rtc = GoldfishRtc::new(irq, WallClock::starting_at(clock.clone(), 1_000_000_000));
        (clock, lines, rtc)
    }

    fn time(rtc: &Shared<GoldfishRtc>) -> u64 {
        let mut rtc = rtc.lock();
        let low = rtc.read(0, 4);
        low | rtc.read(4, 4) << 32
    }

    #[test]
    fn low_latches_high() {
        let (clock, _, rtc) = bench();
        assert_eq!(time(&rtc), 1_000_000_000_000_000_000);
        let low = rtc.lock().read(0, 4);
        clock.advance(1 << 33);
        assert_eq!(low | rtc.lock().read(4, 4) << 32, 1_000_000_000_000_000_000);
        rtc.lock().write(4, 4, 7);
        rtc.lock().write(0, 4, 9);
        clock.advance(1);
        assert_eq!(time(&rtc), 7 << 32 | 10);
    }

    #[test]
    fn the_alarm_goes_off_once() {
        let (clock, lines, rtc) = bench();
        let at = 1_000_000_000_000_000_500u64;
        rtc.lock().write(0x10, 4, 1);
        rtc.lock().write(0x0c, 4, at >> 32);
        rtc.lock().write(0x08, 4, at & 0xffff_ffff);
        assert_eq!(rtc.lock().read(0x18, 4), 1);
        clock.advance(499);
        assert_eq!(lines.take(), []);
        clock.advance(1);
        assert_eq!(lines.take(), [(0, true)]);
        assert_eq!(rtc.lock().read(0x18, 4), 0);
        rtc.lock().write(0x1c, 4, 1);
        assert_eq!(lines.take(), [(0, false)]);
    }

    #[test]
    fn a_past_alarm_goes_off_at_once_and_a_cleared_one_never() {
        let (clock, lines, rtc) = bench();
        rtc.lock().write(0x08, 4, 5);
        rtc.lock().write(0x10, 4, 1);
        assert_eq!(lines.take(), [(0, true)]);
        rtc.lock().write(0x1c, 4, 1);
        rtc.lock().write(0x0c, 4, 0x7000_0000);
        rtc.lock().write(0x08, 4, 5);
        rtc.lock().write(0x14, 4, 1);
        clock.advance(u64::MAX / 2);
        assert_eq!(lines.take(), [(0, false)]);
    }

    #[test]
    fn an_alarm_that_runs_does_not_notice_the_first_half_of_the_next() {
        let (_, lines, rtc) = bench();
        for (register, value) in [(0x10, 1), (0x0c, 0x7000_0000), (0x08, 5), (0x0c, 1)] {
            rtc.lock().write(register, 4, value);
        }
        assert_eq!(rtc.lock().read(0x18, 4), 1);
        rtc.lock().write(0x08, 4, 5);
        assert_eq!(lines.take(), [(0, true)]);
    }

    #[test]
    fn saves_and_restores() {
        let (_, _, rtc) = bench();
        rtc.lock().write(0x0c, 4, 0x7000_0000);
        rtc.lock().write(0x08, 4, 5);
        rtc.lock().write(0x10, 4, 1);
        rtc.lock().write(0, 4, 5);
        assert_saves_and_restores(&*rtc.lock(), &mut *bench().2.lock());
    }

    #[test]
    fn random_accesses_are_harmless() {
        let (clock, _, rtc) = bench();
        for seed in 0..50 {
            hammer_registers(&mut *rtc.lock(), GoldfishRtc::LEN, seed, 300);
            clock.advance(1 << 50);
        }
    }
}
