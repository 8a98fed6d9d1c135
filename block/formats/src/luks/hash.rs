//! Hashes by name, what LUKS derives keys with (PBKDF2, RFC 8018), and how it spreads them over
//! stripes ("LUKS1 On-Disk Format Specification", version 1.2.3, section "AF-splitter").

use std::time::{Duration, Instant};

use pbkdf2::pbkdf2_hmac;
use ripemd::Ripemd160;
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

/// A hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SHA-1.
    Sha1,
    /// SHA-2 with 224 bits.
    Sha224,
    /// SHA-2 with 256 bits.
    Sha256,
    /// SHA-2 with 384 bits.
    Sha384,
    /// SHA-2 with 512 bits.
    Sha512,
    /// RIPEMD-160.
    Ripemd160,
}

impl Hash {
    /// Every hash by its name.
    pub const TABLE: &[(&str, Self)] = &[
        ("sha1", Self::Sha1),
        ("sha224", Self::Sha224),
        ("sha256", Self::Sha256),
        ("sha384", Self::Sha384),
        ("sha512", Self::Sha512),
        ("ripemd160", Self::Ripemd160),
    ];

    /// The hash called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::TABLE.iter().find(|(n, _)| *n == name).map(|(_, hash)| *hash)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::TABLE.iter().find(|(_, hash)| *hash == self).map_or("unknown", |(name, _)| name)
    }

    /// The hash of the parts in a row.
    pub fn digest(self, parts: &[&[u8]]) -> Vec<u8> {
        fn of<D: Digest>(parts: &[&[u8]]) -> Vec<u8> {
            let mut digest = D::new();
            parts.iter().for_each(|part| digest.update(part));
            digest.finalize().to_vec()
        }
        match self {
            Self::Sha1 => of::<Sha1>(parts),
            Self::Sha224 => of::<Sha224>(parts),
            Self::Sha256 => of::<Sha256>(parts),
            Self::Sha384 => of::<Sha384>(parts),
            Self::Sha512 => of::<Sha512>(parts),
            Self::Ripemd160 => of::<Ripemd160>(parts),
        }
    }

    /// PBKDF2 with HMAC: `len` bytes from a passphrase.
    pub fn derive(self, secret: &[u8], salt: &[u8], rounds: u32, len: usize) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(vec![0; len]);
        match self {
            Self::Sha1 => pbkdf2_hmac::<Sha1>(secret, salt, rounds, &mut out),
            Self::Sha224 => pbkdf2_hmac::<Sha224>(secret, salt, rounds, &mut out),
            Self::Sha256 => pbkdf2_hmac::<Sha256>(secret, salt, rounds, &mut out),
            Self::Sha384 => pbkdf2_hmac::<Sha384>(secret, salt, rounds, &mut out),
            Self::Sha512 => pbkdf2_hmac::<Sha512>(secret, salt, rounds, &mut out),
            Self::Ripemd160 => pbkdf2_hmac::<Ripemd160>(secret, salt, rounds, &mut out),
        }
        out
    }

    /// Rounds of PBKDF2 that take about `wanted` here for `len` bytes.
    pub fn rounds_in(self, wanted: Duration, len: usize) -> u64 {
        let mut rounds = 1 << 12;
        loop {
            let start = Instant::now();
            self.derive(b"passphrase", b"salt", rounds, len);
            let took = start.elapsed();
            if took >= Duration::from_millis(20) || rounds >= 1 << 24 {
                let wanted = wanted.as_nanos().max(1);
                let rounds = u128::from(rounds) * wanted / took.as_nanos().max(1);
                return u64::try_from(rounds).unwrap_or(u64::MAX);
            }
            rounds *= 2;
        }
    }

    /// Mixes every bit of a stripe into all of it.
    fn diffuse(self, stripe: &mut [u8]) {
        let len = self.digest(&[]).len();
        for (i, part) in stripe.chunks_mut(len).enumerate() {
            let mixed = self.digest(&[&(i as u32).to_be_bytes(), part]);
            part.copy_from_slice(&mixed[..part.len()]);
        }
    }

    /// Spreads `secret` over as many stripes as `material` has room for, all but one of which are
    /// random bytes already: losing any bit loses the secret.
    pub fn split(self, secret: &[u8], material: &mut [u8]) {
        let mut sum = Zeroizing::new(vec![0; secret.len()]);
        let last = material.len() - secret.len();
        for stripe in material[..last].chunks(secret.len()) {
            add(&mut sum, stripe);
            self.diffuse(&mut sum);
        }
        add(&mut sum, secret);
        material[last..].copy_from_slice(&sum);
    }

    /// Undoes [`Hash::split`] for a secret of `len` bytes.
    pub fn merge(self, material: &[u8], len: usize) -> Zeroizing<Vec<u8>> {
        let mut sum = Zeroizing::new(vec![0; len]);
        let last = material.len() - len;
        for stripe in material[..last].chunks(len) {
            add(&mut sum, stripe);
            self.diffuse(&mut sum);
        }
        add(&mut sum, &material[last..]);
        sum
    }
}

fn add(sum: &mut [u8], other: &[u8]) {
    for (s, o) in sum.iter_mut().zip(other) {
        *s ^= o;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_split_merges_for_every_hash() {
        for (name, hash) in Hash::TABLE {
            let secret: Vec<u8> = (0..64).collect();
            let mut material: Vec<u8> = (0..64 * 40u32).map(|i| (i * 31) as u8).collect();
            hash.split(&secret, &mut material);
            assert_eq!(*hash.merge(&material, 64), secret, "{name}");
            material[5] ^= 1;
            assert_ne!(*hash.merge(&material, 64), secret, "{name}");
        }
    }
}
