//! Tests of the flash through an address space, as guests see it.

use super::*;
use device::{assert_saves_and_restores, hammer_registers};
use std::sync::Mutex;

const BASE: u64 = 0x2000_0000;
const CONFIG: FlashConfig = FlashConfig { len: 1 << 20, ..FlashConfig::virt("flash") };

#[derive(Clone)]
struct Store(Arc<Mutex<Vec<u8>>>, bool);

impl FlashStore for Store {
    fn read_only(&self) -> bool {
        self.1
    }
    fn len(&self) -> u64 {
        self.0.lock().unwrap().len() as u64
    }
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.lock().unwrap();
        buffer.copy_from_slice(&bytes[offset as usize..][..buffer.len()]);
        Ok(())
    }
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap()[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

struct Bench {
    space: Arc<AddressSpace>,
    flash: Shared<PflashCfi01>,
    store: Store,
}

fn bench_with(read_only: bool) -> Bench {
    let mut bytes = vec![0; CONFIG.len as usize];
    bytes[..5].copy_from_slice(b"hello");
    let store = Store(Arc::new(Mutex::new(bytes)), read_only);
    let flash = PflashCfi01::open(CONFIG, Some(Box::new(store.clone()))).unwrap();
    let space = AddressSpace::new("memory");
    flash.lock().map(&space, BASE);
    Bench { space, flash, store }
}

fn bench() -> Bench {
    bench_with(false)
}

impl Bench {
    fn read(&self, offset: u64) -> u64 {
        self.space.load(Gpa(BASE + offset), 4).unwrap()
    }
    fn write(&self, offset: u64, value: u64) {
        self.space.store(Gpa(BASE + offset), 4, value).unwrap();
    }
    fn executable(&self) -> bool {
        self.space.ram_at(Gpa(BASE), 4, false).is_some()
    }
}

#[test]
fn the_array_is_memory_until_a_command_comes() {
    let b = bench();
    assert!(b.executable());
    assert_eq!(b.read(0), 0x6c6c_6568);
    b.write(0, 0x90_0090);
    assert!(!b.executable());
    assert_eq!([b.read(0), b.read(4), b.read(8)], [0x89_0089, 0x18_0018, 0]);
    assert_eq!(b.space.load(Gpa(BASE + 2), 2), Ok(0x89));
    b.write(0, 0xff_00ff);
    assert!(b.executable());
    assert_eq!(b.read(0), 0x6c6c_6568);
}

#[test]
fn the_query_table_describes_the_chips() {
    let flash = PflashCfi01::open(FlashConfig::virt("flash"), None).unwrap();
    let mut flash = flash.lock();
    flash.write(0x154, 4, 0x98_0098);
    let table: Vec<u8> = (0x10..0x40).map(|i| flash.read(i * 4, 4) as u8).collect();
    let expected = [
        0x51, 0x52, 0x59, 1, 0, 0x31, 0, 0, 0, 0, 0, 0x45, 0x55, 0, 0, 7, // 0x10
        7, 0x0a, 0, 4, 4, 4, 0, 0x18, 2, 0, 0x0b, 0, 1, 0x7f, 0, 0, // 0x20
        2, 0x50, 0x52, 0x49, 0x31, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, // 0x30
    ];
    assert_eq!(table, expected);
    assert_eq!(flash.read(0x40, 4), 0x51_0051);
}

#[test]
fn words_are_programmed_and_sectors_erased() {
    let b = bench();
    b.write(0x100, 0x40_0040);
    b.write(0x100, 0x1122_3344);
    assert_eq!(b.read(0), 0x80_0080);
    b.write(0, 0xff_00ff);
    assert_eq!(b.read(0x100), 0x1122_3344);
    assert_eq!(b.store.0.lock().unwrap()[0x100..0x104], [0x44, 0x33, 0x22, 0x11]);
    b.write(0x4_0100, 0x20_0020);
    b.write(0x4_0100, 0xd0_00d0);
    assert_eq!(b.read(0), 0x80_0080);
    b.write(0, 0x50_0050);
    assert_eq!(b.read(0x100), 0x1122_3344);
    assert_eq!(
        [b.read(0x4_0000), b.read(0x7_fffc), b.read(0x8_0000)],
        [0xffff_ffff, 0xffff_ffff, 0]
    );
    b.write(0, 0x20_0020);
    b.write(0, 0xff_00ff);
    assert_eq!(b.read(0), 0xb0_00b0);
}

#[test]
fn a_buffer_is_programmed_when_it_is_confirmed() {
    let b = bench();
    b.write(0x40, 0xe8_00e8);
    assert_eq!(b.read(0), 0x80_0080);
    b.write(0x40, 3);
    (0..4).for_each(|i| b.write(0x40 + i * 4, 0x0101_0101 * (i + 1)));
    assert_eq!(b.store.0.lock().unwrap()[0x40], 0);
    b.write(0x40, 0xd0_00d0);
    b.write(0, 0xff_00ff);
    assert_eq!([b.read(0x40), b.read(0x4c), b.read(0x50)], [0x0101_0101, 0x0404_0404, 0]);
    b.write(0x40, 0xe8);
    b.write(0x40, 0);
    b.write(0x40, 0x5555_5555);
    b.write(0x40, 0xff);
    assert_eq!(b.read(0), 0xb0_00b0);
    b.write(0, 0x50);
    assert_eq!(b.read(0x40), 0x0101_0101);
}

#[test]
fn a_read_only_store_refuses_changes() {
    let b = bench_with(true);
    b.write(0, 0x40);
    b.write(0, 7);
    assert_eq!(b.read(0), 0x90_0090);
    b.write(0, 0x20);
    b.write(0, 0xd0);
    assert_eq!(b.read(0), 0xb0_00b0);
    b.write(0, 0xff);
    assert_eq!(b.read(0), 0x6c6c_6568);
}

#[test]
fn saves_and_restores() {
    let b = bench();
    b.write(0x40, 0xe8);
    b.write(0x40, 3);
    b.write(0x40, 77);
    let fresh = bench();
    assert_saves_and_restores(&*b.flash.lock(), &mut *fresh.flash.lock());
    assert!(!fresh.executable());
    fresh.flash.lock().reset();
    assert!(fresh.executable());
}

#[test]
fn random_accesses_are_harmless() {
    let b = bench();
    for seed in 0..30 {
        hammer_registers(&mut *b.flash.lock(), CONFIG.len, seed, 200);
        for command in [0xe8, 0x20, 0x40, 0x60] {
            b.write(seed * 8, 0xff);
            b.write(seed * 8, command);
            hammer_registers(&mut *b.flash.lock(), CONFIG.len, seed + 100, 20);
        }
    }
}

#[test]
fn contents_of_another_length_are_refused() {
    let store = Store(Arc::new(Mutex::new(vec![0; 0x1000])), false);
    let error = PflashCfi01::open(CONFIG, Some(Box::new(store))).err().unwrap().to_string();
    assert_eq!(error, "the device requires 1048576 bytes, the drive provides 4096 bytes");
}
