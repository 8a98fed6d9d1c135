//! Key slots: trying, filling and erasing them.
//!
//! A slot is filled material first, then, after a sync, its row in the header; it is erased row and
//! material together, several times over. In between there is a slot that opens or one that does not,
//! never one that half opens.

use std::time::Duration;

use graph::{ImageOptions, OpenError, Secrets};
use zeroize::Zeroizing;

use super::{
    Area, FEWEST_ROUNDS, Header, MOST_ROUNDS, SLOT_COUNT, SectorCipher, Volume, array, random,
};

/// How often erased material is overwritten with random bytes.
const ERASURES: u32 = 3;

impl Header {
    /// The volume's key, if the slot is active and `passphrase` opens it.
    pub(super) fn key_in(
        &self,
        area: &Area<'_>,
        slot: usize,
        passphrase: &[u8],
    ) -> Result<Option<Zeroizing<Vec<u8>>>, OpenError> {
        let slot = &self.slots[slot];
        if !slot.active {
            return Ok(None);
        }
        let mut material = Zeroizing::new(vec![0; self.material_len()]);
        area.read(slot.offset, &mut material)?;
        let derived = self.hash.derive(passphrase, &slot.salt, slot.rounds, self.key_bytes());
        let Some(cipher) = SectorCipher::new(self.algorithm, self.mode, self.iv, &derived) else {
            return Err(area.refuse("luks: cipher, mode and initialisation vectors do not fit"));
        };
        cipher.decrypt(0, &mut material);
        let key = self.hash.merge(&material[..self.stripes_len()], self.key_bytes());
        let digest = self.hash.derive(&key, &self.digest_salt, self.digest_rounds, 20);
        Ok((digest[..] == self.digest).then_some(key))
    }

    fn active(&self) -> impl Iterator<Item = usize> {
        (0..SLOT_COUNT).filter(|i| self.slots[*i].active)
    }

    /// Overwrites a slot.
    fn erase(&mut self, area: &Area<'_>, slot: usize) -> Result<(), OpenError> {
        self.slots[slot].active = false;
        self.slots[slot].rounds = 0;
        self.slots[slot].salt = [0; 32];
        area.write(0, &self.to_bytes())?;
        for _ in 0..ERASURES {
            area.write(self.slots[slot].offset, &random(self.material_len())?)?;
            area.flush()?;
        }
        Ok(())
    }
}

impl Volume {
    /// Makes a slot open with `passphrase`, which then takes about `time` here.
    pub(super) fn set_slot(
        &mut self,
        area: &Area<'_>,
        slot: usize,
        passphrase: &[u8],
        time: Duration,
    ) -> Result<(), OpenError> {
        let header = &mut self.header;
        let key_bytes = header.key_bytes();
        let rounds = header.hash.rounds_in(time, key_bytes);
        let rounds = rounds.clamp(FEWEST_ROUNDS, MOST_ROUNDS.into()) as u32;
        let salt = array(&random(32)?, 0);
        let derived = header.hash.derive(passphrase, &salt, rounds, key_bytes);
        let Some(cipher) = SectorCipher::new(header.algorithm, header.mode, header.iv, &derived)
        else {
            return Err(area.refuse("luks: cipher, mode and initialisation vectors do not fit"));
        };
        let mut material = Zeroizing::new(random(header.material_len())?);
        let stripes = header.stripes_len();
        header.hash.split(&self.key, &mut material[..stripes]);
        cipher.encrypt(0, &mut material);
        area.write(header.slots[slot].offset, &material)?;
        area.flush()?;
        let row = &mut header.slots[slot];
        (row.active, row.rounds, row.salt) = (true, rounds, salt);
        area.write(0, &header.to_bytes())?;
        area.flush()
    }
}

/// What is to happen to key slots (`encrypt.state` and the options beside it).
#[derive(Default)]
pub struct CryptAmend {
    /// Slots become active, else inactive.
    pub active: bool,
    /// The slot, if a particular one is meant.
    pub slot: Option<u64>,
    /// Opens the slots that are meant, or unlocks the volume for a new one.
    pub old: Option<Zeroizing<Vec<u8>>>,
    /// Opens the new slot.
    pub new: Option<Zeroizing<Vec<u8>>>,
    /// How long unlocking is to take.
    pub time: Option<Duration>,
}

impl CryptAmend {
    /// Takes what concerns slots out of `options`, whose names begin with `prefix`.
    ///
    /// # Errors
    /// `Option` for values that cannot be, or a missing secret.
    pub fn parse(
        options: &ImageOptions,
        prefix: &str,
        secrets: &dyn Secrets,
    ) -> Result<Self, OpenError> {
        let text = |name: &str| options.text(&format!("{prefix}{name}")).map(str::to_owned);
        let number = |name: &str| options.number(&format!("{prefix}{name}"));
        let secret = |name: &str| match text(name) {
            Some(id) if !id.is_empty() => secrets.secret(&id).map(|s| Some(Zeroizing::new(s))),
            _ => Ok(None),
        };
        let active = match text("state").as_deref() {
            Some("active") => true,
            Some("inactive") => false,
            Some(other) => {
                let text = format!("Parameter 'state' does not accept value '{other}'");
                return Err(OpenError::Option(text));
            }
            None => return Err(OpenError::Option("Parameter 'state' is missing".to_owned())),
        };
        Ok(Self {
            active,
            slot: number("keyslot"),
            old: secret("old-secret")?,
            new: secret("new-secret")?,
            time: number("iter-time").map(Duration::from_millis),
        })
    }
}

/// Changes key slots; `passphrase` is what the volume was opened with.
///
/// # Errors
/// `Option` for what would lose the key for good, unless `force`; a wrong passphrase.
pub fn amend(
    area: &Area<'_>,
    passphrase: &[u8],
    change: &CryptAmend,
    force: bool,
) -> Result<Header, OpenError> {
    let refuse = |text: String| Err(OpenError::Option(text));
    let slot = match change.slot {
        Some(slot) if slot >= SLOT_COUNT as u64 => {
            return refuse(format!(
                "Invalid keyslot {slot} specified, must be between 0 and {}",
                SLOT_COUNT - 1
            ));
        }
        slot => slot.map(|slot| slot as usize),
    };
    if change.active {
        add(area, passphrase, change, slot, force)
    } else {
        erase(area, change, slot, force)
    }
}

fn add(
    area: &Area<'_>,
    passphrase: &[u8],
    change: &CryptAmend,
    slot: Option<usize>,
    force: bool,
) -> Result<Header, OpenError> {
    let refuse = |text: String| Err(OpenError::Option(text));
    let Some(new) = &change.new else {
        return refuse("'new-secret' is required to activate a keyslot".to_owned());
    };
    let old = change.old.as_ref().map_or(passphrase, |old| old);
    let mut volume = Volume::unlock(area, old)?;
    let slot = match slot {
        Some(slot) if volume.header.slots[slot].active && !force => {
            return refuse(format!(
                "Refusing to overwrite active keyslot {slot} - please erase it first"
            ));
        }
        Some(slot) => slot,
        None => match (0..SLOT_COUNT).find(|i| !volume.header.slots[*i].active) {
            Some(free) => free,
            None => return refuse("Can't add a keyslot - all keyslots are in use".to_owned()),
        },
    };
    volume.set_slot(area, slot, new, change.time.unwrap_or(Duration::from_secs(2)))?;
    Ok(volume.header)
}

fn erase(
    area: &Area<'_>,
    change: &CryptAmend,
    slot: Option<usize>,
    force: bool,
) -> Result<Header, OpenError> {
    let refuse = |text: &str| Err(OpenError::Option(text.to_owned()));
    if change.new.is_some() {
        return refuse("'new-secret' must not be given when erasing keyslots");
    }
    if change.time.is_some() {
        return refuse("'iter-time' must not be given when erasing keyslots");
    }
    let mut header = Header::read(area)?;
    let mut wanted = Vec::new();
    match (slot, &change.old) {
        (Some(slot), old) => {
            if let Some(old) = old
                && header.key_in(area, slot, old)?.is_none()
            {
                return refuse("This keyslot is not opened by the secret given");
            }
            if !header.slots[slot].active && !force {
                return refuse("Given keyslot is already erased (inactive)");
            }
            wanted.push(slot);
        }
        (None, Some(old)) => {
            for slot in header.active().collect::<Vec<_>>() {
                if header.key_in(area, slot, old)?.is_some() {
                    wanted.push(slot);
                }
            }
            if wanted.is_empty() {
                return refuse("No keyslots match given (old) password for erase operation");
            }
        }
        (None, None) => {
            return refuse(
                "To erase keyslot(s), either explicit keyslot index or the password currently \
                 contained in them must be given",
            );
        }
    }
    if !force && header.active().all(|slot| wanted.contains(&slot)) {
        return refuse(
            "Attempt to erase all the active keyslots, which would make the image's data \
             irreversibly lost - refusing operation",
        );
    }
    for slot in wanted {
        header.erase(area, slot)?;
    }
    Ok(header)
}
