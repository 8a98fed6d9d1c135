//! What each request of a front end does ("Front-end message types").

use crate::account::Account;
use crate::session::{Answer, Session, Side, Violation};
use crate::table::{SLOTS, Table};
use crate::wire::{Fields, MOST_FDS, protocol, request};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::os::fd::OwnedFd;
use virtio::ring::MAX_CHAIN;

type Done = Result<Option<Answer>, Violation>;

/// A request.
pub(crate) struct Row {
    pub number: u32,
    pub name: &'static str,
    /// Bytes of payload that it needs.
    pub least: usize,
    /// Descriptors that it may bring.
    pub fds: usize,
    pub run: fn(&mut Session, &mut Fields<'_>, Vec<OwnedFd>) -> Done,
}

macro_rules! rows {
    ($($name:ident, $least:expr, $fds:expr, $run:expr;)*) => {
        &[$(Row {
            number: request::$name, name: stringify!($name), least: $least, fds: $fds, run: $run,
        }),*]
    };
}

/// Bytes of configuration space that front ends know of: `struct virtio_blk_config` is the longest of
/// the devices lent so far.
const CONFIG_LEN: u32 = 96;
/// In a number with a descriptor: the queue, and that there is no descriptor.
const QUEUE: u64 = 0xff;
const NO_FD: u64 = 1 << 8;

pub(crate) const REQUESTS: &[Row] = rows! {
    GET_FEATURES, 0, 0, |s, _, _| number(s.offered());
    SET_FEATURES, 8, 0, set_features;
    SET_OWNER, 0, 0, |_, _, _| Ok(None);
    RESET_OWNER, 0, 0, |s, _, _| disable_all(s);
    SET_MEM_TABLE, 8, MOST_FDS, set_mem_table;
    SET_VRING_NUM, 8, 0, set_vring_num;
    SET_VRING_ADDR, 40, 0, set_vring_addr;
    SET_VRING_BASE, 8, 0, set_vring_base;
    GET_VRING_BASE, 8, 0, get_vring_base;
    SET_VRING_KICK, 8, 1, set_vring_kick;
    SET_VRING_CALL, 8, 1, set_vring_call;
    SET_VRING_ERR, 8, 1, set_vring_err;
    GET_PROTOCOL_FEATURES, 0, 0, |_, _, _| number(protocol::OFFERED);
    SET_PROTOCOL_FEATURES, 8, 0, set_protocol_features;
    GET_QUEUE_NUM, 0, 0, |s, _, _| number(s.sides.len() as u64);
    SET_VRING_ENABLE, 8, 0, set_vring_enable;
    SET_BACKEND_REQ_FD, 0, 1, set_backend_req_fd;
    GET_CONFIG, 12, 0, get_config;
    SET_CONFIG, 12, 0, set_config;
    GET_INFLIGHT_FD, 20, 0, get_inflight_fd;
    SET_INFLIGHT_FD, 20, 1, set_inflight_fd;
    RESET_DEVICE, 0, 0, |s, _, _| disable_all(s);
    GET_MAX_MEM_SLOTS, 0, 0, |_, _, _| number(SLOTS as u64);
    ADD_MEM_REG, 40, 1, add_mem_reg;
    REM_MEM_REG, 40, 1, rem_mem_reg;
};

fn number(value: u64) -> Done {
    Ok(Some(Answer::number(value)))
}

fn only(fds: Vec<OwnedFd>) -> Result<OwnedFd, Violation> {
    fds.into_iter().next().ok_or_else(|| Violation::new("a descriptor is missing"))
}

/// Makes a descriptor one that is never waited for.
fn unwaiting(fd: OwnedFd) -> Result<OwnedFd, Violation> {
    let flags = fcntl_getfl(&fd).and_then(|flags| fcntl_setfl(&fd, flags | OFlags::NONBLOCK));
    flags.map(|()| fd).map_err(|error| Violation(format!("a descriptor is no good: {error}")))
}

fn set_features(session: &mut Session, fields: &mut Fields<'_>, _: Vec<OwnedFd>) -> Done {
    let features = fields.u64();
    let unknown = features & !session.offered();
    if unknown != 0 {
        return Err(Violation(format!("features {unknown:#x} are not offered")));
    }
    session.restart_around(|session| {
        session.features = features;
        session.port.with(|v| v.start_with(features & !protocol::FEATURES));
        Ok(())
    })?;
    if features & protocol::FEATURES == 0 {
        for queue in 0..session.sides.len() {
            session.side(queue)?.enabled = true;
            session.start(queue)?;
        }
    }
    Ok(None)
}

fn set_protocol_features(session: &mut Session, fields: &mut Fields<'_>, _: Vec<OwnedFd>) -> Done {
    let features = fields.u64();
    let unknown = features & !protocol::OFFERED;
    if unknown != 0 {
        return Err(Violation(format!("protocol features {unknown:#x} are not offered")));
    }
    session.protocol = features;
    Ok(None)
}

fn set_mem_table(session: &mut Session, fields: &mut Fields<'_>, fds: Vec<OwnedFd>) -> Done {
    let (count, _) = (fields.u32(), fields.u32());
    if count as usize > MOST_FDS {
        return Err(Violation::new("there are too many regions of memory"));
    }
    let table = Table::parse(fields, count, &fds)?;
    change_memory(session, |session| {
        session.table = table;
        Ok(())
    })
}

fn add_mem_reg(session: &mut Session, fields: &mut Fields<'_>, fds: Vec<OwnedFd>) -> Done {
    let (_, fd) = (fields.u64(), only(fds)?);
    change_memory(session, |session| session.table.add(fields, &fd))
}

fn rem_mem_reg(session: &mut Session, fields: &mut Fields<'_>, _: Vec<OwnedFd>) -> Done {
    fields.u64();
    change_memory(session, |session| session.table.remove(fields))
}

fn change_memory(
    session: &mut Session,
    change: impl FnOnce(&mut Session) -> Result<(), Violation>,
) -> Done {
    session.restart_around(|session| {
        change(session)?;
        session.table.show(&session.space);
        Ok(())
    })?;
    Ok(None)
}

/// A queue that stands still, and a number.
fn still<'a>(
    session: &'a mut Session,
    fields: &mut Fields<'_>,
) -> Result<(&'a mut Side, u32), Violation> {
    let (queue, number) = (fields.u32() as usize, fields.u32());
    if session.runs(queue) {
        return Err(Violation(format!("queue {queue} runs")));
    }
    Ok((session.side(queue)?, number))
}

fn set_vring_num(session: &mut Session, fields: &mut Fields<'_>, _: Vec<OwnedFd>) -> Done {
    let (side, size) = still(session, fields)?;
    if !size.is_power_of_two() || size > MAX_CHAIN.into() {
        return Err(Violation(format!("a queue cannot have {size} entries")));
    }
    side.size = size as u16;
    Ok(None)
}

fn set_vring_base(session: &mut Session, fields: &mut Fields<'_>, _: Vec<OwnedFd>) -> Done {
    let (side, base) = still(session, fields)?;
    side.base = u16::try_from(base).map_err(|_| Violation(format!("{base} is no index")))?;
    Ok(None)
}

fn set_vring_addr(session: &mut Session, fields: &mut Fields<'_>, _: Vec<OwnedFd>) -> Done {
    let (queue, _flags) = (fields.u32() as usize, fields.u32());
    let addresses = [fields.u64(), fields.u64(), fields.u64()];
    for address in addresses {
        session.table.guest_address(address)?;
    }
    session.restart_around(|session| {
        session.side(queue)?.addresses = Some(addresses);
        Ok(())
    })?;
    session.start_if_still(queue)
}

fn get_vring_base(session: &mut Session, fields: &mut Fields<'_>, _: Vec<OwnedFd>) -> Done {
    let queue = fields.u32();
    session.stop(queue as usize);
    let side = session.side(queue as usize)?;
    side.kick = None;
    let mut payload = queue.to_le_bytes().to_vec();
    payload.extend(u32::from(side.base).to_le_bytes());
    Ok(Some(Answer { payload, fd: None }))
}

/// A queue and the descriptor for it, if there is one.
fn with_fd(
    fields: &mut Fields<'_>,
    fds: Vec<OwnedFd>,
) -> Result<(usize, Option<OwnedFd>), Violation> {
    let number = fields.u64();
    let fd = if number & NO_FD == 0 { Some(unwaiting(only(fds)?)?) } else { None };
    Ok(((number & QUEUE) as usize, fd))
}

fn set_vring_kick(session: &mut Session, fields: &mut Fields<'_>, fds: Vec<OwnedFd>) -> Done {
    let (queue, fd) = with_fd(fields, fds)?;
    let fd = fd.ok_or_else(|| Violation::new("not supported yet: queues without a descriptor"))?;
    session.side(queue)?.kick = Some(fd);
    session.start_if_still(queue)
}

fn set_vring_call(session: &mut Session, fields: &mut Fields<'_>, fds: Vec<OwnedFd>) -> Done {
    let (queue, fd) = with_fd(fields, fds)?;
    session.side(queue)?;
    session.calls.set(queue, fd);
    // What was given back before is told now.
    session.calls.call(queue);
    Ok(None)
}

fn set_vring_err(session: &mut Session, fields: &mut Fields<'_>, fds: Vec<OwnedFd>) -> Done {
    let (queue, _) = with_fd(fields, fds)?;
    session.side(queue).map(|_| None)
}

fn set_vring_enable(session: &mut Session, fields: &mut Fields<'_>, _: Vec<OwnedFd>) -> Done {
    let (queue, on) = (fields.u32() as usize, fields.u32());
    if session.features & protocol::FEATURES == 0 || on > 1 {
        return Err(Violation::new("it is not allowed here"));
    }
    session.side(queue)?.enabled = on == 1;
    if on == 1 {
        return session.start_if_still(queue);
    }
    session.stop(queue);
    Ok(None)
}

/// Rings stop, and wait to be described anew.
fn disable_all(session: &mut Session) -> Done {
    for queue in 0..session.sides.len() {
        session.stop(queue);
        session.side(queue)?.enabled = false;
    }
    Ok(None)
}

fn set_backend_req_fd(session: &mut Session, _: &mut Fields<'_>, fds: Vec<OwnedFd>) -> Done {
    session.calls.set_channel(only(fds)?);
    Ok(None)
}

/// A part of the configuration space; nothing at all if that is asked for more than there is.
fn get_config(session: &mut Session, fields: &mut Fields<'_>, _: Vec<OwnedFd>) -> Done {
    let (offset, len, flags) = (fields.u32(), fields.u32(), fields.u32());
    let Some(end) = offset.checked_add(len).filter(|end| *end <= CONFIG_LEN) else {
        return Ok(Some(Answer::default()));
    };
    let mut config = session.port.with(|v| v.device.config(&v.core));
    config.resize(CONFIG_LEN as usize, 0);
    let mut payload: Vec<u8> = [offset, len, flags].iter().flat_map(|w| w.to_le_bytes()).collect();
    payload.extend(&config[offset as usize..end as usize]);
    Ok(Some(Answer { payload, fd: None }))
}

fn set_config(session: &mut Session, fields: &mut Fields<'_>, _: Vec<OwnedFd>) -> Done {
    let (offset, len, _flags) = (fields.u32(), fields.u32(), fields.u32());
    if len as usize > fields.0.len().min(8) {
        return Err(Violation::new("it writes too much"));
    }
    let bytes = fields.0.iter().take(len as usize).rev();
    let value = bytes.fold(0, |value, byte| value << 8 | u64::from(*byte));
    session.port.with(|v| v.write_config(offset.into(), len, value));
    Ok(None)
}

fn get_inflight_fd(session: &mut Session, fields: &mut Fields<'_>, _: Vec<OwnedFd>) -> Done {
    let (payload, fd) = Account::make(fields, session.sides.len())?;
    Ok(Some(Answer { payload, fd: Some(fd) }))
}

fn set_inflight_fd(session: &mut Session, fields: &mut Fields<'_>, fds: Vec<OwnedFd>) -> Done {
    let account = Account::adopt(fields, session.sides.len(), &only(fds)?)?;
    session.restart_around(|session| {
        session.account = Some(account);
        Ok(())
    })?;
    Ok(None)
}

impl Session {
    /// Starts a ring unless it runs.
    fn start_if_still(&mut self, queue: usize) -> Done {
        if !self.runs(queue) {
            self.start(queue)?;
        }
        Ok(None)
    }
}
