//! Data that commands return: inquiry pages, mode pages, capacities, and what a CD-ROM says of
//! its disc.

use super::lun::{Kind, Lun};
use super::sense::{INVALID_FIELD, NO_MEDIUM, Sense, WRONG_MEDIUM};

/// Most blocks of a CD: 80 minutes. A larger medium is a DVD.
const CD_BLOCKS: u64 = 80 * 60 * 75;
const PROFILE_CD: u16 = 0x08;
const PROFILE_DVD: u16 = 0x10;

fn is_cd(lun: &Lun) -> bool {
    lun.config.kind == Kind::Cd
}

/// Text, cut or filled with spaces.
fn padded(text: &str, len: usize) -> Vec<u8> {
    let mut b: Vec<u8> = text.bytes().take(len).collect();
    b.resize(len, b' ');
    b
}

/// INQUIRY.
pub fn inquiry(lun: &Lun, cdb: &[u8; 32]) -> Result<Vec<u8>, Sense> {
    let kind = if is_cd(lun) { 5 } else { 0 };
    if cdb[1] & 1 != 0 {
        return vital_page(lun, cdb[2], kind);
    }
    if cdb[2] != 0 {
        return Err(INVALID_FIELD);
    }
    let c = &lun.config;
    let len = u64::from(cdb[3]) << 8 | u64::from(cdb[4]);
    let additional = len.clamp(36, 255 + 5) - 5;
    let removable = if c.removable || is_cd(lun) { 0x80 } else { 0 };
    let mut b = vec![kind, removable, c.scsi_version, 0x12, additional as u8, 0, 0, 0x12];
    b.extend(padded(&c.vendor, 8));
    b.extend(padded(&c.product, 16));
    let mut version = padded(&c.version, 4);
    version.iter_mut().filter(|b| **b == b' ').for_each(|b| *b = 0);
    b.extend(version);
    Ok(b)
}

fn vital_page(lun: &Lun, page: u8, kind: u8) -> Result<Vec<u8>, Sense> {
    let c = &lun.config;
    let body = match page {
        0x00 => {
            let mut pages = vec![0x00];
            if !c.serial.is_empty() {
                pages.push(0x80);
            }
            pages.push(0x83);
            if !is_cd(lun) {
                pages.extend([0xb0, 0xb1, 0xb2]);
            }
            pages
        }
        0x80 if !c.serial.is_empty() => c.serial.bytes().take(36).collect(),
        0x83 => identification(lun),
        0xb0 if !is_cd(lun) => block_limits(lun),
        0xb1 => {
            let mut b = vec![0; 0x3c];
            b[..2].copy_from_slice(&c.rotation_rate.to_be_bytes());
            b
        }
        0xb2 => vec![0, 0xe0, if c.discard_granularity != 0 { 2 } else { 1 }, 0],
        _ => return Err(INVALID_FIELD),
    };
    let mut b = vec![kind, page];
    b.extend((body.len() as u16).to_be_bytes());
    b.extend(body);
    Ok(b)
}

fn identification(lun: &Lun) -> Vec<u8> {
    let c = &lun.config;
    let mut b = Vec::new();
    let name: Vec<u8> = c.device_id.bytes().take(255 - 8).collect();
    if !name.is_empty() {
        b.extend([2, 0, 0, name.len() as u8]);
        b.extend(name);
    }
    if c.wwn != 0 {
        b.extend([1, 3, 0, 8]);
        b.extend(c.wwn.to_be_bytes());
    }
    b
}

fn block_limits(lun: &Lun) -> Vec<u8> {
    let c = &lun.config;
    let block = u64::from(c.block);
    let blocks = |bytes: u64| u32::try_from(bytes / block).unwrap_or(u32::MAX).to_be_bytes();
    // Write same with zero blocks is refused, compare and write is not there.
    let mut b = vec![1, 0];
    b.extend(((u64::from(c.min_io) / block) as u16).to_be_bytes());
    b.extend(blocks(c.max_io));
    b.extend(blocks(c.opt_io.into()));
    b.extend([0; 4]);
    b.extend(blocks(c.max_unmap));
    b.extend(255u32.to_be_bytes());
    b.extend(blocks(c.discard_granularity.into()));
    b.extend([0; 4]);
    b.extend((c.max_io / block).to_be_bytes());
    b.resize(0x3c, 0);
    b
}

/// MODE SENSE, 6 and 10 bytes.
pub fn mode_sense(lun: &Lun, cdb: &[u8; 32]) -> Result<Vec<u8>, Sense> {
    const SAVED: u8 = 3;
    let (page, control) = (cdb[2] & 0x3f, cdb[2] >> 6);
    if control == SAVED {
        return Err(Sense(5, 0x39, 0));
    }
    let changeable = control == 1;
    let mut pages = Vec::new();
    let all = page == 0x3f;
    for (number, make) in MODE_PAGES {
        if (all || page == *number)
            && let Some(body) = make(lun, changeable)
        {
            pages.extend([*number, body.len() as u8]);
            pages.extend(body);
        }
    }
    if pages.is_empty() {
        return Err(INVALID_FIELD);
    }
    let mut descriptor = Vec::new();
    let mut specific = 0;
    if !is_cd(lun) {
        let protected = if lun.config.disk.read_only() { 0x80 } else { 0 };
        specific = protected | if lun.config.dpofua { 0x10 } else { 0 };
        if cdb[1] & 8 == 0 {
            let blocks = lun.blocks();
            let blocks = if blocks > 0xff_ffff { 0 } else { blocks as u32 };
            descriptor.extend(blocks.to_be_bytes());
            descriptor.extend(lun.config.block.to_be_bytes());
        }
    }
    let len = descriptor.len() + pages.len();
    let mut b = if cdb[0] == 0x1a {
        vec![(len + 3) as u8, 0, specific, descriptor.len() as u8]
    } else {
        let mut b = ((len + 6) as u16).to_be_bytes().to_vec();
        b.extend([0, specific, 0, 0, 0, descriptor.len() as u8]);
        b
    };
    b.extend(descriptor);
    b.extend(pages);
    Ok(b)
}

type ModePage = fn(&Lun, bool) -> Option<Vec<u8>>;

/// Mode pages in the order they are returned; none when the unit lacks the page.
const MODE_PAGES: &[(u8, ModePage)] = &[
    (0x01, |lun, changeable| {
        let mut b = vec![0; 10];
        if !changeable {
            b[0] = 0x80;
            b[1] = if is_cd(lun) { 0x20 } else { 0 };
        }
        Some(b)
    }),
    (0x04, |lun, changeable| (!is_cd(lun)).then(|| rigid_geometry(lun, changeable))),
    (0x05, |lun, changeable| (!is_cd(lun)).then(|| flexible_geometry(lun, changeable))),
    (0x08, |lun, changeable| {
        let mut b = vec![0; 18];
        b[0] = if changeable || lun.config.disk.write_cache() { 4 } else { 0 };
        Some(b)
    }),
    (0x0e, |lun, _| is_cd(lun).then(|| vec![0; 14])),
    (0x2a, |lun, changeable| is_cd(lun).then(|| capabilities(lun, changeable))),
];

fn rigid_geometry(lun: &Lun, changeable: bool) -> Vec<u8> {
    let mut b = vec![0; 22];
    if changeable {
        return b;
    }
    let (cylinders, heads, _) = lun.config.geometry;
    let c = u32::from(cylinders).to_be_bytes();
    b[0..3].copy_from_slice(&c[1..]);
    b[3] = heads;
    b[4..7].copy_from_slice(&c[1..]);
    b[7..10].copy_from_slice(&c[1..]);
    b[10..12].copy_from_slice(&200u16.to_be_bytes());
    b[12..15].fill(0xff);
    b[18..20].copy_from_slice(&5400u16.to_be_bytes());
    b
}

fn flexible_geometry(lun: &Lun, changeable: bool) -> Vec<u8> {
    let mut b = vec![0; 30];
    if changeable {
        return b;
    }
    let (cylinders, heads, sectors) = lun.config.geometry;
    b[0..2].copy_from_slice(&5000u16.to_be_bytes());
    (b[2], b[3]) = (heads, sectors);
    b[4..6].copy_from_slice(&(lun.config.block as u16).to_be_bytes());
    for at in [6, 8, 10] {
        b[at..at + 2].copy_from_slice(&cylinders.to_be_bytes());
    }
    b[12..14].copy_from_slice(&1u16.to_be_bytes());
    b[14] = 1;
    b[15..17].copy_from_slice(&1u16.to_be_bytes());
    (b[17], b[18]) = (1, 1);
    b[26..28].copy_from_slice(&5400u16.to_be_bytes());
    b
}

/// CD capabilities and mechanical status.
fn capabilities(lun: &Lun, changeable: bool) -> Vec<u8> {
    let mut b = vec![0; 20];
    if changeable {
        return b;
    }
    let known = [0x3b, 0x00, 0x7f, 0xff, 0x2d, 0x00, 0x22, 0x60, 0x00, 0x02, 0x08, 0x00, 0x0b];
    b[..13].copy_from_slice(&known);
    (b[16], b[18]) = (0x0b, 0x0b);
    if lun.locked() {
        b[4] |= 2;
    }
    b
}

/// READ CAPACITY (10).
pub fn capacity10(lun: &Lun) -> Vec<u8> {
    let last = u32::try_from(lun.blocks().saturating_sub(1)).unwrap_or(u32::MAX);
    [last.to_be_bytes(), lun.config.block.to_be_bytes()].concat()
}

/// READ CAPACITY (16).
pub fn capacity16(lun: &Lun) -> Vec<u8> {
    let mut b = lun.blocks().saturating_sub(1).to_be_bytes().to_vec();
    b.extend(lun.config.block.to_be_bytes());
    b.push(0);
    b.push((lun.config.physical_block / lun.config.block).max(1).ilog2() as u8);
    b.push(if lun.config.discard_granularity != 0 { 0x80 } else { 0 });
    b.resize(32, 0);
    b
}

/// A block address, or minute, second and frame.
fn place(block: u64, msf: bool) -> [u8; 4] {
    let block = u32::try_from(block).unwrap_or(u32::MAX);
    if !msf {
        return block.to_be_bytes();
    }
    let frames = block.saturating_add(150);
    [0, (frames / 75 / 60).min(255) as u8, (frames / 75 % 60) as u8, (frames % 75) as u8]
}

/// READ TOC: one data track, then the lead-out.
pub fn table_of_contents(lun: &Lun, cdb: &[u8; 32]) -> Result<Vec<u8>, Sense> {
    const LEAD_OUT: u8 = 0xaa;
    let (msf, format, start) = (cdb[1] & 2 != 0, cdb[2] & 0xf, cdb[6]);
    let mut b = vec![0, 0, 1, 1];
    match format {
        0 => {
            if start > 1 && start != LEAD_OUT {
                return Err(INVALID_FIELD);
            }
            if start <= 1 {
                b.extend([0, 0x14, 1, 0]);
                b.extend(place(0, msf));
            }
            b.extend([0, 0x16, LEAD_OUT, 0]);
            b.extend(place(lun.blocks(), msf));
        }
        1 => b.extend([0; 8]),
        2 => {
            b.extend([1, 0x14, 0, 0xa0, 0, 0, 0, 0, 1, 0, 0]);
            b.extend([1, 0x14, 0, 0xa1, 0, 0, 0, 0, 1, 0, 0]);
            b.extend([1, 0x14, 0, 0xa2, 0, 0, 0]);
            b.extend(place(lun.blocks(), msf));
            b.extend([1, 0x14, 0, 1, 0, 0, 0]);
            b.extend(place(0, msf));
        }
        _ => return Err(INVALID_FIELD),
    }
    let len = (b.len() - 2) as u16;
    b[..2].copy_from_slice(&len.to_be_bytes());
    Ok(b)
}

fn profile(lun: &Lun) -> u16 {
    match lun.blocks() {
        _ if lun.tray_open() => 0,
        0 => 0,
        n if n > CD_BLOCKS => PROFILE_DVD,
        _ => PROFILE_CD,
    }
}

/// GET CONFIGURATION: profiles, core and removable medium.
pub fn configuration(lun: &Lun) -> Vec<u8> {
    let current = profile(lun);
    let mut b = vec![0, 0, 0, 36, 0, 0];
    b.extend(current.to_be_bytes());
    b.extend([0, 0, 3, 8]);
    for known in [PROFILE_DVD, PROFILE_CD] {
        b.extend(known.to_be_bytes());
        b.extend([u8::from(known == current), 0]);
    }
    b.extend([0, 1, 0x0b, 8, 0, 0, 0, 1, 1, 0, 0, 0]);
    b.extend([0, 3, 0x0b, 4, 0x39, 0, 0, 0]);
    b
}

/// GET EVENT STATUS NOTIFICATION, polled.
pub fn event_status(cdb: &[u8; 32], tray_open: bool) -> Result<Vec<u8>, Sense> {
    const MEDIA: u8 = 1 << 4;
    if cdb[1] & 1 == 0 {
        return Err(INVALID_FIELD);
    }
    Ok(if cdb[4] & MEDIA != 0 {
        vec![0, 4, 4, MEDIA, 0, if tray_open { 1 } else { 2 }, 0, 0]
    } else {
        vec![0, 2, 0x80, MEDIA]
    })
}

/// READ DISC INFORMATION: one finished session.
pub fn disc_information(cdb: &[u8; 32]) -> Result<Vec<u8>, Sense> {
    if cdb[1] & 7 != 0 {
        return Err(INVALID_FIELD);
    }
    let mut b = vec![0, 32, 0x0e, 1, 1, 1, 1, 0x20];
    b.resize(34, 0);
    Ok(b)
}

/// READ DVD STRUCTURE is for DVDs, whose structures are not known here.
pub fn dvd_structure(lun: &Lun) -> Sense {
    match profile(lun) {
        0 => NO_MEDIUM,
        PROFILE_DVD => INVALID_FIELD,
        _ => WRONG_MEDIUM,
    }
}
