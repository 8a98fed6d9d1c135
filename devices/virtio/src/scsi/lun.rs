//! Logical units: disks and CD-ROMs (SPC-4, SBC-3, MMC-5). Answers are those of `scsi-hd` and
//! `scsi-cd`; a command either has data at once or becomes work for the disk.

use super::pages;
use super::sense::{
    INVALID_FIELD, INVALID_OPCODE, INVALID_PARAMETER, LBA_OUT_OF_RANGE, NO_MEDIUM, NO_SENSE,
    REMOVAL_PREVENTED, RESET, Sense, WRITE_PROTECTED,
};
use graph::{Disk, Executor, Op, Queue, ZeroFlags};
use state::{RestoreError, SavedState, Value};
use std::collections::VecDeque;
use std::sync::Arc;

/// What the unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `scsi-hd`
    Disk,
    /// `scsi-cd`
    Cd,
}

/// What the user chooses of a unit.
pub struct LunConfig {
    /// Disk or CD.
    pub kind: Kind,
    /// The medium.
    pub disk: Arc<Disk>,
    /// Threads that serve it.
    pub executor: Arc<Executor>,
    /// Target; `None` for the first free one.
    pub target: Option<u8>,
    /// Unit of the target; `None` for the first free one.
    pub lun: Option<u16>,
    /// Serial number, or nothing.
    pub serial: String,
    /// Name in the identification page.
    pub device_id: String,
    /// Eight characters.
    pub vendor: String,
    /// Sixteen characters.
    pub product: String,
    /// Four characters.
    pub version: String,
    /// World-wide name, zero for none.
    pub wwn: u64,
    /// Claims a removable medium.
    pub removable: bool,
    /// Bytes of a block.
    pub block: u32,
    /// Bytes of a physical block.
    pub physical_block: u32,
    /// Preferred smallest transfer in bytes.
    pub min_io: u32,
    /// Preferred transfer in bytes.
    pub opt_io: u32,
    /// Alignment of discards in bytes.
    pub discard_granularity: u32,
    /// Largest transfer in bytes.
    pub max_io: u64,
    /// Largest unmapping in bytes.
    pub max_unmap: u64,
    /// 1 for no rotation, else turns in a minute.
    pub rotation_rate: u16,
    /// Version of the standard that is claimed.
    pub scsi_version: u8,
    /// Cylinders, heads and sectors.
    pub geometry: (u16, u8, u8),
    /// Claims DPO and FUA.
    pub dpofua: bool,
}

/// State of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, SavedState)]
pub struct State {
    #[n(1)]
    attention: Option<[u8; 3]>,
    #[n(2)]
    last_sense: [u8; 3],
    #[n(3)]
    locked: bool,
    #[n(4)]
    tray_open: bool,
    #[n(5)]
    write_cache: bool,
}

/// A logical unit.
pub struct Lun {
    /// What the user chose.
    pub config: LunConfig,
    /// Requests to its disk.
    pub queue: Queue,
    /// Where it is.
    pub target: u8,
    /// Which unit of the target.
    pub lun: u16,
    state: State,
}

/// What a command comes to.
pub enum Outcome {
    /// Data for the driver; `pad` fills with zeros to the length it asked for.
    Data {
        /// The data.
        bytes: Vec<u8>,
        /// Fill up.
        pad: bool,
    },
    /// Success without data.
    Done,
    /// Check condition.
    Check(Sense),
    /// Read from the disk.
    Read {
        /// Byte offset.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Write to the disk what the driver sends.
    Write {
        /// Byte offset.
        offset: u64,
        /// Bytes.
        len: u64,
        /// Stable when done.
        fua: bool,
    },
    /// Write one block over and over.
    Fill {
        /// Byte offset.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Other work, in order.
    Ops(VecDeque<(u64, Op)>),
    /// Parameters are to be read first.
    Parameters(Parameters),
}

/// Commands whose parameters the driver sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameters {
    /// UNMAP
    Unmap,
    /// MODE SELECT, with its header's length.
    ModeSelect {
        /// Bytes of the header.
        header: usize,
    },
    /// Discarded.
    Ignored,
}

fn be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |v, b| v << 8 | u64::from(*b))
}

/// Length of a command by its group, and the length of the data it asks for or sends.
pub fn transfer_len(cdb: &[u8; 32]) -> u64 {
    match cdb[0] {
        0x00 | 0x1e | 0x1b | 0x35 | 0x91 | 0x2b | 0x01 | 0x04 | 0x16 | 0x17 | 0x56 | 0x57 => 0,
        0x12 => be(&cdb[3..5]),
        0x25 => 8,
        _ => match cdb[0] >> 5 {
            0 => cdb[4].into(),
            1 | 2 => be(&cdb[7..9]),
            4 => be(&cdb[10..14]),
            _ => be(&cdb[6..10]),
        },
    }
}

impl Lun {
    /// A unit at a place, freshly powered.
    pub fn new(config: LunConfig, target: u8, lun: u16) -> Self {
        let queue = Queue::new(Arc::clone(&config.disk), Arc::clone(&config.executor));
        let mut unit = Self { config, queue, target, lun, state: State::default() };
        unit.reset();
        unit
    }

    /// Back to power-on.
    pub fn reset(&mut self) {
        self.state = State { attention: Some([RESET.0, RESET.1, RESET.2]), ..State::default() };
    }

    /// Blocks of the medium.
    pub fn blocks(&self) -> u64 {
        self.config.disk.size() / u64::from(self.config.block)
    }

    fn is_cd(&self) -> bool {
        self.config.kind == Kind::Cd
    }

    fn read_only(&self) -> bool {
        self.is_cd() || self.config.disk.read_only()
    }

    /// Keeps the sense data of a command that failed.
    pub fn remember(&mut self, sense: Sense) {
        self.state.last_sense = [sense.0, sense.1, sense.2];
    }

    /// Starts a command.
    pub fn execute(&mut self, cdb: &[u8; 32]) -> Outcome {
        const INQUIRY: u8 = 0x12;
        const REPORT_LUNS: u8 = 0xa0;
        const REQUEST_SENSE: u8 = 0x03;
        if !matches!(cdb[0], INQUIRY | REPORT_LUNS | REQUEST_SENSE)
            && let Some([key, code, qualifier]) = self.state.attention.take()
        {
            return Outcome::Check(Sense(key, code, qualifier));
        }
        self.dispatch(cdb).unwrap_or_else(Outcome::Check)
    }

    fn dispatch(&mut self, cdb: &[u8; 32]) -> Result<Outcome, Sense> {
        let data = |bytes| Ok(Outcome::Data { bytes, pad: true });
        match cdb[0] {
            0x00 => self.present().map(|()| Outcome::Done),
            0x03 => Ok(self.request_sense()),
            0x12 => data(pages::inquiry(self, cdb)?),
            0x15 => Ok(Outcome::Parameters(Parameters::ModeSelect { header: 4 })),
            0x55 => Ok(Outcome::Parameters(Parameters::ModeSelect { header: 8 })),
            0x1a | 0x5a => data(pages::mode_sense(self, cdb)?),
            0x1b => self.start_stop(cdb),
            0x1e => {
                self.state.locked = cdb[4] & 1 != 0;
                Ok(Outcome::Done)
            }
            // Reservations, REZERO, SEEK, FORMAT: nothing to do.
            0x16 | 0x17 | 0x56 | 0x57 | 0x01 | 0x2b => Ok(Outcome::Done),
            0x04 if !self.is_cd() => Ok(Outcome::Parameters(Parameters::Ignored)),
            0x25 => {
                self.present()?;
                data(pages::capacity10(self))
            }
            0x9e if cdb[1] & 31 == 0x10 => {
                self.present()?;
                data(pages::capacity16(self))
            }
            0x35 | 0x91 => Ok(Outcome::Ops([(0, Op::Flush)].into())),
            0x08 | 0x28 | 0xa8 | 0x88 => self.read(cdb),
            0x0a | 0x2a | 0xaa | 0x8a | 0x2e | 0xae | 0x8e => self.write(cdb),
            0x2f | 0xaf | 0x8f => self.verify(cdb),
            0x41 | 0x93 if !self.is_cd() => self.write_same(cdb),
            0x42 if !self.is_cd() => {
                self.writable()?;
                if cdb[1] & 1 != 0 {
                    return Err(INVALID_FIELD);
                }
                Ok(Outcome::Parameters(Parameters::Unmap))
            }
            0x43 => {
                self.present()?;
                data(pages::table_of_contents(self, cdb)?)
            }
            0x46 | 0x4a | 0x51 | 0xbd | 0xad if !self.is_cd() => Err(INVALID_FIELD),
            0x46 => data(pages::configuration(self)),
            0x4a => data(pages::event_status(cdb, self.tray_open())?),
            0x51 => {
                self.present()?;
                data(pages::disc_information(cdb)?)
            }
            0xad => Err(pages::dvd_structure(self)),
            0xbd => data(vec![0, 0, 0, 0, 0, 1, 0, 0]),
            _ => Err(INVALID_OPCODE),
        }
    }

    /// Whether the tray is open.
    pub fn tray_open(&self) -> bool {
        self.state.tray_open
    }

    /// Whether the medium may not be taken out.
    pub fn locked(&self) -> bool {
        self.state.locked
    }

    fn present(&self) -> Result<(), Sense> {
        if self.state.tray_open || self.is_cd() && self.config.disk.size() == 0 {
            Err(NO_MEDIUM)
        } else {
            Ok(())
        }
    }

    fn writable(&self) -> Result<(), Sense> {
        if self.read_only() { Err(WRITE_PROTECTED) } else { Ok(()) }
    }

    fn request_sense(&mut self) -> Outcome {
        let [key, code, qualifier] = self.state.attention.take().unwrap_or(self.state.last_sense);
        self.remember(NO_SENSE);
        Outcome::Data { bytes: Sense(key, code, qualifier).bytes().to_vec(), pad: false }
    }

    fn start_stop(&mut self, cdb: &[u8; 32]) -> Result<Outcome, Sense> {
        let (start, eject) = (cdb[4] & 1 != 0, cdb[4] & 2 != 0);
        if self.is_cd() && eject && cdb[4] >> 4 == 0 {
            if !start && self.state.locked {
                return Err(if self.state.tray_open { NO_MEDIUM } else { REMOVAL_PREVENTED });
            }
            self.state.tray_open = !start;
        }
        Ok(Outcome::Done)
    }

    /// First block and number of blocks of a command that has them.
    fn range(cdb: &[u8; 32]) -> (u64, u64) {
        match cdb[0] >> 5 {
            0 => {
                let count = if cdb[4] == 0 { 256 } else { u64::from(cdb[4]) };
                (be(&cdb[1..4]) & 0x1f_ffff, count)
            }
            1 | 2 => (be(&cdb[2..6]), be(&cdb[7..9])),
            4 => (be(&cdb[2..10]), be(&cdb[10..14])),
            _ => (be(&cdb[2..6]), be(&cdb[6..10])),
        }
    }

    /// Byte range of a command, if it lies on the medium.
    fn bytes(&self, first: u64, count: u64) -> Result<(u64, u64), Sense> {
        let end = first.checked_add(count).ok_or(LBA_OUT_OF_RANGE)?;
        if end > self.blocks() {
            return Err(LBA_OUT_OF_RANGE);
        }
        let block = u64::from(self.config.block);
        Ok((first * block, count * block))
    }

    fn read(&self, cdb: &[u8; 32]) -> Result<Outcome, Sense> {
        self.present()?;
        let (first, count) = Self::range(cdb);
        let (offset, len) = self.bytes(first, count)?;
        Ok(Outcome::Read { offset, len })
    }

    fn write(&self, cdb: &[u8; 32]) -> Result<Outcome, Sense> {
        self.present()?;
        self.writable()?;
        let (first, count) = Self::range(cdb);
        let (offset, len) = self.bytes(first, count)?;
        let fua = cdb[0] >> 5 != 0 && cdb[1] & 8 != 0;
        Ok(Outcome::Write { offset, len, fua })
    }

    fn verify(&self, cdb: &[u8; 32]) -> Result<Outcome, Sense> {
        self.present()?;
        let (first, count) = Self::range(cdb);
        self.bytes(first, count)?;
        if cdb[1] & 6 != 0 { Err(INVALID_FIELD) } else { Ok(Outcome::Done) }
    }

    fn write_same(&self, cdb: &[u8; 32]) -> Result<Outcome, Sense> {
        self.writable()?;
        let (first, count) = Self::range(cdb);
        let count = if count == 0 { self.blocks().saturating_sub(first) } else { count };
        let (offset, len) = self.bytes(first, count)?;
        let (unmap, no_data) = (cdb[1] & 8 != 0, cdb[1] & 1 != 0);
        if len > self.config.max_io {
            return Err(INVALID_FIELD);
        }
        if no_data {
            let op = Op::WriteZeroes(len, ZeroFlags { fua: false, unmap });
            return Ok(Outcome::Ops([(offset, op)].into()));
        }
        Ok(Outcome::Fill { offset, len })
    }

    /// Goes on with a command whose parameters have arrived.
    pub fn parameters(&mut self, what: Parameters, bytes: &[u8]) -> Outcome {
        match what {
            Parameters::Ignored => Outcome::Done,
            Parameters::Unmap => self.unmap(bytes).unwrap_or_else(Outcome::Check),
            Parameters::ModeSelect { header } => {
                self.mode_select(bytes, header).unwrap_or_else(Outcome::Check)
            }
        }
    }

    fn unmap(&self, bytes: &[u8]) -> Result<Outcome, Sense> {
        const MAX_DESCRIPTORS: usize = 255;
        let Some(header) = bytes.get(..8) else { return Ok(Outcome::Done) };
        let len = (be(&header[2..4]) as usize).min(bytes.len() - 8);
        let mut ops = VecDeque::new();
        for d in bytes[8..8 + len].chunks_exact(16).take(MAX_DESCRIPTORS) {
            let (offset, len) = self.bytes(be(&d[..8]), be(&d[8..12]))?;
            if len != 0 {
                ops.push_back((offset, Op::Discard(len)));
            }
        }
        Ok(if ops.is_empty() { Outcome::Done } else { Outcome::Ops(ops) })
    }

    fn mode_select(&mut self, bytes: &[u8], header: usize) -> Result<Outcome, Sense> {
        const CACHING: u8 = 0x08;
        if bytes.is_empty() {
            return Ok(Outcome::Done);
        }
        let head = bytes.get(..header).ok_or(INVALID_PARAMETER)?;
        let descriptors = if header == 4 { head[3].into() } else { be(&head[6..8]) as usize };
        let mut rest = bytes.get(header + descriptors..).ok_or(INVALID_PARAMETER)?;
        while let [page, len, more @ ..] = rest {
            let body = more.get(..usize::from(*len)).ok_or(INVALID_PARAMETER)?;
            if page & 0x3f == CACHING && !self.read_only() {
                let on = body.first().is_some_and(|b| b & 4 != 0);
                self.config.disk.set_write_cache(on);
            }
            rest = &more[usize::from(*len)..];
        }
        Ok(Outcome::Done)
    }

    /// Saved state.
    pub fn save(&self) -> Value {
        let write_cache = self.config.disk.write_cache();
        SavedState::save(&State { write_cache, ..self.state.clone() })
    }

    /// What saved state says; nothing is taken over yet.
    ///
    /// # Errors
    /// The first field that does not fit.
    pub fn parse(&self, value: &Value) -> Result<State, RestoreError> {
        let mut state = self.state.clone();
        state.restore(value)?;
        Ok(state)
    }

    /// Takes over saved state.
    pub fn take_over(&mut self, state: State) {
        self.config.disk.set_write_cache(state.write_cache);
        self.state = State { write_cache: false, ..state };
    }
}
