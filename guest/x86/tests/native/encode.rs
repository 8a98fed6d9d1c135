//! Random instructions of an entry of the opcode maps.

use irgen::Random;
use x86::decode::{Attr, Entry, Fetch, Insn, Kind, MAPS, Operand, Width, decode};

/// Bits of a group of conditions that an entry accepts.
fn accepted(entry: &Entry, at: u32, len: u32) -> Vec<u8> {
    let bits = entry.accepts >> at & ((1 << len) - 1);
    (0..len as u8).filter(|bit| bits >> bit & 1 != 0).collect()
}

/// One of them; mostly the first.
fn choose(random: &mut Random<'_>, of: &[u8]) -> u8 {
    if random.percent(50) { of[0] } else { random.pick(of) }
}

/// An instruction of the entry, and how it decodes.
pub fn encode(random: &mut Random<'_>, entry: &Entry, width: Width) -> Option<(Vec<u8>, Insn)> {
    for _ in 0..20 {
        let mut bytes = attempt(random, entry, width)?;
        bytes.truncate(15);
        let mut source = |at: usize| bytes.get(at).copied();
        let insn = decode(width, &mut Fetch::new(&mut source)).ok();
        if let Some(insn) = insn
            && std::ptr::eq(insn.entry, entry)
        {
            bytes.truncate(insn.len.into());
            return Some((bytes, insn));
        }
    }
    None
}

fn attempt(random: &mut Random<'_>, entry: &Entry, width: Width) -> Option<Vec<u8>> {
    let long = width == Width::W64;
    let modes = accepted(entry, 27, 2);
    if !modes.contains(&u8::from(long)) {
        return None;
    }
    let map = MAPS[usize::from(entry.map)];
    let prefix = choose(random, &accepted(entry, 0, 4));
    let w = choose(random, &accepted(entry, 4, 2));
    let l = choose(random, &accepted(entry, 6, 3));
    let places = accepted(entry, 9, 2);
    let in_memory = random.pick(&places) == 0;
    let reg = random.pick(&accepted(entry, 11, 8));
    let rm = random.pick(&accepted(entry, 19, 8));
    let b = choose(random, &accepted(entry, 29, 2));
    let b =
        if entry.modrm && random.percent(30) { random.pick(&accepted(entry, 29, 2)) } else { b };
    let (r, x) = (random.below(2) as u8, random.below(2) as u8);
    let vvvv = random.below(if long { 16 } else { 8 }) as u8;
    let mut out = Vec::new();
    let opcode = entry.opcode;
    // Flags of address size, rarely.
    if random.percent(4) {
        out.push(0x67);
    }
    if map.starts_with("vex") {
        let m = match map {
            "vex.0f" => 1,
            "vex.0f38" => 2,
            _ => 3,
        };
        let (r, x, b) = if long { (r, x, b) } else { (0, 0, 0) };
        let pp = [0, 1, 2, 3][usize::from(prefix)];
        out.push(0xc4);
        out.push((!r & 1) << 7 | (!x & 1) << 6 | (!b & 1) << 5 | m);
        let vvvv = if uses_vvvv(entry) { vvvv } else { 0 };
        out.push(w << 7 | (!vvvv & 15) << 3 | l << 2 | pp);
        out.push(opcode);
    } else if map.starts_with("evex") {
        let m = match map {
            "evex.0f" => 1,
            "evex.0f38" => 2,
            "evex.0f3a" => 3,
            "evex.map5" => 5,
            _ => 6,
        };
        let (r, x, b) = if long { (r, x, b) } else { (0, 0, 0) };
        let mut high = || if long { random.below(2) as u8 } else { 0 };
        let (r2, v2) = (high(), high());
        let has = |attrs: &[Attr]| attrs.iter().any(|attr| entry.has(*attr));
        let may_b = match in_memory {
            true => has(&[Attr::Bcst16, Attr::Bcst32, Attr::Bcst64]),
            false => has(&[Attr::Round, Attr::Sae]),
        };
        let to_mask = matches!(entry.operands.first(), Some(Operand::Typed(Kind::KG, _)));
        let (r, r2) = if to_mask { (0, 0) } else { (r, r2) };
        let (vvvv, v2) = if uses_vvvv(entry) { (vvvv, v2) } else { (0, 0) };
        let vsib = entry.operands.iter().any(Operand::is_vsib);
        let v2 = if vsib && long { random.below(2) as u8 } else { v2 };
        let bit = u8::from(may_b && random.percent(40));
        let l = if bit == 1 && !in_memory { random.below(4) as u8 } else { l };
        let masked = has(&[Attr::Mask, Attr::Zero]) && (vsib || random.percent(60));
        let aaa = if masked { 1 + random.below(7) as u8 } else { 0 };
        let store = in_memory && entry.operands.first().is_some_and(Operand::is_memory);
        let z = u8::from(masked && has(&[Attr::Zero]) && !store && random.percent(40));
        out.push(0x62);
        let p0 = (!r & 1) << 7 | (!x & 1) << 6 | (!b & 1) << 5 | (!r2 & 1) << 4 | m;
        out.push(p0);
        out.push(w << 7 | (!vvvv & 15) << 3 | 4 | prefix);
        out.push(z << 7 | l << 5 | bit << 4 | (!v2 & 1) << 3 | aaa);
        out.push(opcode);
    } else {
        match prefix {
            1 => out.push(0x66),
            2 => out.push(0xf3),
            3 => out.push(0xf2),
            _ => {}
        }
        if entry.has(Attr::Lock) && in_memory && random.percent(25) {
            out.push(0xf0);
        }
        if long && (w == 1 || b == 1 || random.percent(50)) {
            out.push(0x40 | w << 3 | r << 2 | x << 1 | b);
        }
        match map {
            "0f" => out.push(0x0f),
            "0f38" => out.extend([0x0f, 0x38]),
            "0f3a" => out.extend([0x0f, 0x3a]),
            _ => {}
        }
        out.push(opcode);
    }
    if entry.modrm {
        if in_memory {
            let form = random.below(3) as u8;
            out.push(form << 6 | reg << 3 | rm);
            if rm == 4 {
                out.push(random.number() as u8);
            }
            // Small displacements, so that the window is hit.
            let disp = (random.below(256) as i64 - 128) as i32;
            match form {
                1 => out.push(disp as u8),
                _ => out.extend(disp.to_le_bytes()),
            }
        } else {
            out.push(0xc0 | reg << 3 | rm);
        }
    }
    let tail = random.number();
    let tail = if random.percent(30) { tail & 0x0101_0101_0101_0101 } else { tail };
    // Jumps go to the next instruction, until somebody says how far.
    let jumps = |o: &Operand| matches!(o, Operand::Typed(Kind::J, _));
    let tail = if entry.operands.iter().any(jumps) { 0 } else { tail };
    out.extend(tail.to_le_bytes());
    Some(out)
}

fn uses_vvvv(entry: &Entry) -> bool {
    entry.operands.iter().any(|o| matches!(o, Operand::Typed(Kind::B | Kind::H | Kind::KH, _)))
}

/// A few instructions, one after the other; jumps go to the next one or to that behind it.
pub fn join(random: &mut Random<'_>, parts: &[(Vec<u8>, Insn)]) -> Vec<u8> {
    let mut code = Vec::new();
    for (n, (bytes, insn)) in parts.iter().enumerate() {
        code.extend(bytes);
        let jump = insn.entry.operands.iter().find(|o| matches!(o, Operand::Typed(Kind::J, _)));
        if let (Some(jump), Some((next, _))) = (jump, parts.get(n + 1))
            && random.percent(60)
        {
            let at = code.len() - usize::from(insn.bytes(jump));
            code[at] = next.len() as u8;
        }
    }
    code
}
