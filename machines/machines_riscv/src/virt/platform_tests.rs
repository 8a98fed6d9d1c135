//! The board on a bench: a driver's accesses on one side, the harts' lines on the other.

use super::*;
use crate::Xlen;
use crate::assemble::{Board, File, Files, assemble};
use crate::harts::HartInfo;
use crate::virt::device_tree;
use device::{RecordedControl, RecordedLines};
use riscv::imsic::{File as Level, Imsic as _};

struct Bench {
    config: VirtConfig,
    space: Arc<AddressSpace>,
    clock: Clock,
    control: Arc<RecordedControl>,
    harts: Vec<Arc<RecordedLines>>,
    platform: Platform,
}

fn bench(aia: Aia, aclint: bool) -> Bench {
    let harts = vec![HartInfo { isa: "rv64i".into(), ..HartInfo::default() }; 2];
    let config = VirtConfig { aia, aclint, ..VirtConfig::new(Xlen::Rv64, harts, 64 << 20) };
    let space = AddressSpace::new("memory");
    let clock = Clock::manual();
    let control = Arc::new(RecordedControl::default());
    let harts: Vec<_> = (0..2).map(|_| Arc::new(RecordedLines::default())).collect();
    let inputs = Inputs {
        space: Arc::clone(&space),
        clock: clock.clone(),
        wall: WallClock::starting_at(clock.clone(), 0),
        control: control.clone(),
        harts: harts.iter().map(|h| Arc::clone(h) as Arc<dyn LineSink>).collect(),
        serial: Box::new(serial::Discard),
        flash: [None, None],
    };
    let platform = Platform::build(&config, inputs).unwrap();
    Bench { config, space, clock, control, harts, platform }
}

impl Bench {
    fn write(&self, at: u64, value: u64) {
        self.space.store(Gpa(at), 4, value).unwrap();
    }
    fn read(&self, at: u64) -> u64 {
        self.space.load(Gpa(at), 4).unwrap()
    }
    /// The UART asks for an interrupt.
    fn uart_interrupts(&self) {
        self.space.store(Gpa(map::UART0.base + 1), 1, 2).unwrap();
    }
}

#[test]
fn the_uart_reaches_a_hart_through_the_plic() {
    let b = bench(Aia::None, false);
    b.write(map::PLIC.base + 40, 1);
    // Context 3: supervisor level of hart 1.
    b.write(map::PLIC.base + 0x2180, 1 << 10);
    b.uart_interrupts();
    assert_eq!(b.harts[1].take(), [(9, true)]);
    assert_eq!(b.read(map::PLIC.base + 0x20_3004), 10);
    assert_eq!(b.harts[1].take(), [(9, false)]);
    assert_eq!(b.harts[0].take(), []);
}

#[test]
fn the_uart_reaches_a_hart_through_aplics() {
    let b = bench(Aia::Aplic, false);
    for (offset, value) in [(40, 6), (0x3028, 1 << 18 | 1), (0x1edc, 10), (0, 0x100), (0x4020, 1)] {
        b.write(map::APLIC_M + offset, value);
    }
    b.uart_interrupts();
    assert_eq!(b.harts[1].take(), [(11, true)]);
}

#[test]
fn the_uart_reaches_an_interrupt_file_by_message() {
    let b = bench(Aia::AplicImsic, true);
    let file = &b.platform.imsic[1];
    for select in [0x70, 0xc0] {
        assert!(file.write(Level::Supervisor, select, 64, if select == 0x70 { 1 } else { !0 }));
    }
    let page = map::IMSIC_S.base >> 12;
    for (offset, value) in [(0x1bc4, 0x1000), (0x1bc8, page), (40, 0x400)] {
        b.write(map::APLIC_M + offset, value);
    }
    for (offset, value) in [(40, 6), (0x3028, 1 << 18 | 33), (0x1edc, 10), (0, 0x100)] {
        b.write(map::APLIC_S + offset, value);
    }
    b.uart_interrupts();
    assert_eq!(b.harts[1].take(), [(9, true)]);
    assert_eq!(file.claim(Level::Supervisor), 33 << 16 | 33);
    assert_eq!(b.harts[1].take(), [(9, false)]);
    b.write(map::IMSIC_S.base + 0x1000, 34);
    assert_eq!(file.top(Level::Supervisor), 34 << 16 | 34);
    b.platform.messages.as_ref().unwrap().send(map::IMSIC_M.base, 5);
    assert_eq!(b.platform.imsic[0].read(Level::Machine, 0x80, 64), Some(1 << 5));
}

#[test]
fn timer_and_software_interrupts_have_their_lines() {
    for (aclint, aia) in [(false, Aia::None), (true, Aia::None), (true, Aia::AplicImsic)] {
        let b = bench(aia, aclint);
        let only_timer = aclint && aia == Aia::AplicImsic;
        let timer = if only_timer { 0x200_0000 } else { 0x200_4000 };
        b.space.store(Gpa(timer + 8), 8, 100).unwrap();
        b.clock.advance(10_000);
        assert_eq!(b.harts[1].take(), [(7, true)]);
        if !only_timer {
            b.write(0x200_0000, 1);
            assert_eq!(b.harts[0].take(), [(3, true)]);
        }
        let sswi = b.space.store(Gpa(map::ACLINT_SSWI.base), 4, 1);
        assert_eq!(sswi.is_ok(), aclint && !only_timer);
    }
}

#[test]
fn what_is_assembled_lies_in_memory_after_loading() {
    let b = bench(Aia::None, false);
    let board = Board { xlen: Xlen::Rv64, ram: Window::new(map::DRAM, 64 << 20), flash: None };
    let kernel = Some(File { path: "k", bytes: &[0x13, 0, 0, 0] });
    let files = Files { kernel, append: Some("quiet"), ..Files::default() };
    let assembly = assemble(board, files, device_tree(&b.config)).unwrap();
    b.platform.load(&assembly);
    assert_eq!(b.read(0x1000), 0x297);
    assert_eq!(b.read(map::DRAM), 0x13);
    assert_eq!(b.read(assembly.fdt_address), 0xedfe_0dd0);
    b.write(0x1000, 0);
    assert_eq!(b.read(0x1000), 0x297);
}

#[test]
fn the_finisher_reaches_the_machine_and_all_parts_save_and_restore() {
    let b = bench(Aia::None, true);
    b.write(map::TEST.base, 0x5555);
    assert_eq!(b.control.take(), [(device::Cause::GuestShutdown, Some(0))]);
    b.uart_interrupts();
    b.write(map::PLIC.base + 40, 1);
    let other = bench(Aia::None, true);
    for ((name, part), (_, fresh)) in b.platform.parts.iter().zip(&other.platform.parts) {
        let saved = part.save();
        fresh.restore(&saved).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(fresh.save(), saved, "{name}");
    }
    b.platform.parts.iter().for_each(|(_, part)| part.reset());
    assert_eq!(b.read(map::PLIC.base + 40), 0);
}
