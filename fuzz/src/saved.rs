//! Saved states of every device, and of a processor, as a migration stream or a snapshot gives them.
//!
//! What must hold: a state that is refused leaves the device as it was; one that is taken comes out
//! again as it went in, and whatever the guest does then is harmless.

use crate::bytes::Bytes;
use crate::rig::Rig;

/// Feeds a state: the first two bytes choose the board and the device.
pub fn feed(input: &[u8]) {
    let mut bytes = Bytes(input);
    let (kind, part) = (bytes.byte(), bytes.byte());
    let Ok(value) = state::decode(bytes.0) else { return };
    assert_eq!(state::decode(&state::encode(&value)).as_ref(), Ok(&value));
    let rig = Rig::new(kind);
    let machine = &rig.board.machine;
    let before = machine.save();
    let path = before[usize::from(part) % before.len()].0.clone();
    if machine.restore(&[(path.clone(), value)]).is_err() {
        assert_eq!(machine.save(), before, "{path} was refused, and changed");
        return;
    }
    let taken = machine.save();
    let again = taken.iter().find(|(name, _)| *name == path).cloned();
    let again = again.expect("every device that was restored is saved");
    machine.restore(&[again]).unwrap_or_else(|error| panic!("{path} refuses its state: {error}"));
    use_machine(&rig, u64::from(kind));
}

/// Lets time pass, the processor step and a driver read and write everywhere.
fn use_machine(rig: &Rig, seed: u64) {
    let mut random = device::SeededRandom::new(seed);
    rig.board.machine.with_cpu(0, |cpu| {
        for _ in 0..20 {
            cpu.step();
        }
        let _text = cpu.dump();
    });
    rig.clock.advance(1_000_000);
    for region in rig.registers() {
        for _ in 0..8 {
            let at = region.base.0 + random.below(region.len.min(0x400)) / 4 * 4;
            rig.load(at, 4);
            rig.store(at, 4, random.next_u64() >> random.below(64));
        }
    }
    rig.clock.advance(1_000_000_000);
    rig.settle();
    rig.board.machine.save();
    rig.board.machine.reset();
    rig.settle();
}

/// What every device of every board saves.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for kind in [0, 1, 6, 11, 16] {
        let rig = Rig::new(kind);
        for (index, (_, value)) in (0..).zip(rig.board.machine.save()) {
            seeds.push([&[kind, index][..], &state::encode(&value)].concat());
        }
    }
    seeds
}
