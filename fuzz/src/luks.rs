//! LUKS volumes: the header, key slots and their stripes, and the disk behind them.
//!
//! What must hold: no panic, no allocation that the file does not back, and what is written to a
//! volume that opens is read back. Rounds of key derivation are cut, so that an input does not buy
//! minutes of work. The first byte counts the operations at the end of the input; then come header,
//! the material of the first slot, and the data, each put where it belongs.

use std::sync::Arc;
use std::time::Duration;

use formats::luks::{Algorithm, Area, CryptAmend, Mode, Parameters, Volume, amend};
use formats::{Format, Keys, OpenRequest, Purpose, Style, format_named};
use graph::{Memory, Node, OpenError, Secrets};
use zeroize::Zeroizing;

use crate::bytes::Bytes;
use crate::image::{Growing, use_disk};
use crate::peer;

const HEADER: usize = 592;
/// Where the first slot's material is in the seeds, and its length: 4000 stripes of 16 bytes.
const MATERIAL: (usize, usize) = (4096, 64_000);
/// Where the data is in the seeds: behind eight slots.
const DATA: usize = 4096 + 8 * 65_536;
/// Bits of a count of rounds that are believed.
const ROUNDS: u32 = 0x3ff;
const PASSPHRASE: &[u8] = b"seed";

struct Known;

impl Secrets for Known {
    fn secret(&self, _: &str) -> Result<Vec<u8>, OpenError> {
        Ok(PASSPHRASE.to_vec())
    }
}

fn cut_rounds(header: &mut [u8], at: usize) {
    if let Some(field) = header.get_mut(at..at + 4) {
        let rounds = u32::from_be_bytes([field[0], field[1], field[2], field[3]]) & ROUNDS;
        field.copy_from_slice(&rounds.to_be_bytes());
    }
}

/// Feeds a volume.
pub fn feed(input: &[u8]) {
    let mut start = Bytes(input);
    let wanted = 2 * usize::from(start.byte() % 32);
    let (volume, ops) = start.0.split_at(start.0.len().saturating_sub(wanted));
    let (header, rest) = volume.split_at(volume.len().min(HEADER));
    let (material, data) = rest.split_at(rest.len().min(MATERIAL.1));
    let mut header = header.to_vec();
    cut_rounds(&mut header, 164);
    (0..8).for_each(|slot| cut_rounds(&mut header, 208 + 48 * slot + 4));
    let mut bytes = header;
    for (at, part) in [(MATERIAL.0, material), (DATA, data)] {
        if !part.is_empty() {
            bytes.resize(at, 0);
            bytes.extend(part);
        }
    }
    let file: Arc<dyn Node> = Arc::new(Growing(Memory::new(bytes, false)));
    let mut ops = Bytes(ops);
    change_slots(&*file, ops.byte());
    let format = format_named("luks").expect("it is in the table");
    if let Ok(disk) = open(format, &file) {
        use_disk(&*disk, &mut ops, true);
    }
}

fn open(format: &dyn Format, file: &Arc<dyn Node>) -> Result<Arc<dyn Node>, OpenError> {
    let key = ("key-secret".to_owned(), "any".to_owned());
    format.open(OpenRequest {
        file: Arc::clone(file),
        path: "volume",
        read_only: false,
        purpose: Purpose::Use,
        children: Vec::new(),
        discard: true,
        options: &mut Keys::new([key], Style::Drive),
        secrets: &Known,
    })
}

/// Adds or erases a slot, on some inputs.
fn change_slots(file: &dyn Node, how: u8) {
    // A new slot first measures how fast this machine is: not on most inputs.
    if how & 15 != 1 {
        return;
    }
    let area = Area { node: file, start: 0, path: "volume" };
    let new = Some(Zeroizing::new(b"other".to_vec()));
    let change = CryptAmend {
        active: how & 16 != 0,
        slot: (how & 32 != 0).then_some(u64::from(how >> 5)),
        new: new.filter(|_| how & 16 != 0),
        time: (how & 16 != 0).then_some(Duration::ZERO),
        ..CryptAmend::default()
    };
    // What cannot be done is said.
    let _ = amend(&area, PASSPHRASE, &change, false);
}

/// A volume with a small key, and the same with other ciphers.
pub fn seeds() -> Vec<Vec<u8>> {
    let ops: Vec<u8> = (0..40u8).map(|n| n.wrapping_mul(37)).collect();
    let mut seeds = Vec::new();
    for (cipher, mode) in
        [("aes-128", Mode::Cbc), ("serpent-128", Mode::Cbc), ("twofish-128", Mode::Ecb)]
    {
        let Some(algorithm) = Algorithm::named(cipher) else { continue };
        let file = Growing(Memory::new(Vec::new(), false));
        let area = Area { node: &file, start: 0, path: "seed" };
        let parameters =
            Parameters { algorithm, mode, time: Duration::ZERO, ..Parameters::default() };
        if Volume::create(&area, &parameters, PASSPHRASE, false).is_err() {
            continue;
        }
        let mut bytes = vec![0; DATA + 8192];
        file.read_at(0, &mut bytes).expect("it is in memory");
        seeds.push(seed(&bytes, &ops));
    }
    // Those of others have more rounds than are believed: they are understood and not opened.
    let theirs = peer::images(|format| format == "luks");
    seeds.extend(theirs.iter().map(|(_, bytes)| seed(bytes, &ops)));
    seeds
}

/// An input from a whole volume.
fn seed(bytes: &[u8], ops: &[u8]) -> Vec<u8> {
    let material = &bytes[MATERIAL.0..MATERIAL.0 + MATERIAL.1];
    [&[20], &bytes[..HEADER], material, &bytes[DATA..], ops].concat()
}
