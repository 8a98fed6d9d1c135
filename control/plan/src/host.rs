//! Small options about the process and the guest's surroundings.

use crate::devices::properties;
use crate::refusal::{Refusal, Result};
use crate::{
    Actions, Boot, FwCfg, FwCfgContent, Icount, PanicAction, RebootAction, Rtc, RtcBase, RtcClock,
    ShutdownAction, Smbios, WatchdogAction,
};
use options::{Grammar, List, OptionGroup, option_group};

option_group! {
    /// `-boot`.
    pub(crate) struct BootOptions in "boot-opts" {
        /// Boot devices, as letters.
        "order" => order: Option<String>,
        /// Boot devices of the first boot.
        "once" => once: Option<String>,
        /// Whether the firmware shows a menu.
        "menu" => menu: Option<bool>,
        /// Picture of the menu.
        "splash" => splash: Option<String>,
        /// How long it stays, in milliseconds.
        "splash-time" => splash_time: Option<u64>,
        /// Wait before a reboot after a failed boot, in milliseconds.
        "reboot-timeout" => reboot_timeout: Option<u64>,
        /// Whether nothing beyond what is configured is tried.
        "strict" => strict: bool = false,
    }
}

option_group! {
    /// `-action`.
    pub(crate) struct ActionOptions in "action" {
        /// On reboot of the guest.
        "reboot" => reboot: Option<RebootAction>,
        /// On shutdown of the guest.
        "shutdown" => shutdown: Option<ShutdownAction>,
        /// On panic of the guest.
        "panic" => panic: Option<PanicAction>,
        /// On expiry of the watchdog.
        "watchdog" => watchdog: Option<WatchdogAction>,
    }
}

option_group! {
    /// `-rtc`.
    pub(crate) struct RtcOptions in "rtc" {
        /// utc, localtime or a date such as 2006-06-17T16:01:21.
        "base" => base: Option<String>,
        /// host, rt or vm.
        "clock" => clock: Option<String>,
        /// none or slew (x86 only).
        "driftfix" => driftfix: Option<String>,
    }
}

option_group! {
    /// `-name`.
    pub(crate) struct NameOptions in "name" {
        /// Name of the guest.
        "guest" => guest: Option<String>,
        /// Name of the process.
        "process" => process: Option<String>,
        /// Whether threads get names; they always have some.
        "debug-threads" => _debug_threads: bool = false,
    }
}

option_group! {
    /// `-msg`.
    pub(crate) struct MessageOptions in "msg" {
        /// Whether messages carry the time.
        "timestamp" => timestamp: bool = false,
        /// Whether messages carry the guest's name.
        "guest-name" => guest_name: bool = false,
    }
}

option_group! {
    /// `-overcommit`.
    pub(crate) struct OvercommitOptions in "overcommit" {
        /// on, off or on-fault.
        "mem-lock" => mem_lock: String = "off".to_owned(),
        /// Whether the guest may use the host's idle states; only with KVM.
        "cpu-pm" => _cpu_pm: bool = false,
    }
}

option_group! {
    /// `-fw_cfg`.
    pub(crate) struct FwCfgOptions in "fw_cfg" {
        /// Name of the entry.
        "name" => name: Option<String>,
        /// File with its content.
        "file" => file: Option<String>,
        /// Its content.
        "string" => string: Option<String>,
        /// Object that makes its content.
        "gen_id" => gen_id: Option<String>,
    }
}

option_group! {
    /// `-icount`.
    pub(crate) struct IcountOptions in "icount" {
        /// Nanoseconds an instruction takes, as a power of two, or auto.
        "shift" => shift: Option<String>,
        /// Whether the guest's time is kept near the host's.
        "align" => align: bool = false,
        /// Whether an idle guest sleeps.
        "sleep" => sleep: bool = true,
        /// record or replay.
        "rr" => rr: Option<String>,
        /// File with the record.
        "rrfile" => rrfile: Option<String>,
        /// Snapshot of the record.
        "rrsnapshot" => rrsnapshot: Option<String>,
    }
}

/// Checks `-boot`.
pub(crate) fn boot(list: &List, boot: &mut Boot) -> Result<()> {
    let given = BootOptions::from_list(list).map_err(|e| Refusal::from(e).at("-boot"))?;
    for order in [&given.order, &given.once].into_iter().flatten() {
        let mut seen = [false; 26];
        for device in order.chars() {
            if !('a'..='p').contains(&device) {
                return Err(Refusal::new(format!("Invalid boot device '{device}'")).hint(
                    "Boot devices are floppy (a, b), disk (c), CD-ROM (d) and network (n-p).",
                ));
            }
            let index = usize::from(device as u8 - b'a');
            if std::mem::replace(&mut seen[index], true) {
                return Err(Refusal::new(format!("Boot device '{device}' was given twice")));
            }
        }
    }
    boot.order = given.order;
    boot.once = given.once;
    boot.menu = given.menu;
    boot.strict = given.strict;
    boot.reboot_timeout = given.reboot_timeout;
    boot.splash = given.splash;
    boot.splash_time = given.splash_time;
    Ok(())
}

/// Adds what `-action` says.
pub(crate) fn actions(text: &str, actions: &mut Actions) -> Result<()> {
    let given = ActionOptions::from_list(&List::parse(text, Grammar::BARE)?)?;
    actions.reboot = given.reboot.unwrap_or(actions.reboot);
    actions.shutdown = given.shutdown.unwrap_or(actions.shutdown);
    actions.panic = given.panic.unwrap_or(actions.panic);
    actions.watchdog = given.watchdog.unwrap_or(actions.watchdog);
    Ok(())
}

/// Reads `-rtc`.
pub(crate) fn rtc(text: &str) -> Result<Rtc> {
    let given = RtcOptions::from_list(&List::parse(text, Grammar::BARE)?)?;
    let base = match given.base.as_deref() {
        None | Some("utc") => RtcBase::Utc,
        Some("localtime") => RtcBase::LocalTime,
        Some(date) => RtcBase::At(parse_date(date).ok_or_else(|| {
            Refusal::new(format!("invalid datetime format '{date}'"))
                .hint("valid formats: '2006-06-17T16:01:21' or '2006-06-17'")
        })?),
    };
    let clock = match given.clock.as_deref() {
        None => RtcClock::Host,
        Some(name) => RtcClock::from_name(name).ok_or_else(|| {
            Refusal::new(format!("invalid option value '{name}'"))
                .hint("clock is one of host, rt and vm.")
        })?,
    };
    match given.driftfix.as_deref() {
        None | Some("none" | "slew") => Ok(Rtc { base, clock }),
        Some(other) => Err(Refusal::new(format!("invalid option value '{other}'"))
            .hint("driftfix is none or slew.")),
    }
}

/// Seconds since 1970 of `YYYY-MM-DD` or `YYYY-MM-DDThh:mm:ss`.
fn parse_date(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T').unwrap_or((text, "0:0:0"));
    let numbers = |text: &str, sign: char| -> Option<[i64; 3]> {
        let parts: Vec<i64> = text
            .split(sign)
            .map(|n| n.parse::<u16>().ok().map(i64::from))
            .collect::<Option<_>>()?;
        parts.try_into().ok()
    };
    let ([year, month, day], [hour, minute, second]) = (numbers(date, '-')?, numbers(time, ':')?);
    let valid = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 61
        && year >= 1;
    if !valid {
        return None;
    }
    // Days from civil date: years begin in March, so that the leap day is the last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Reads `-uuid`.
pub(crate) fn uuid(text: &str) -> Result<[u8; 16]> {
    let bad = || {
        Refusal::new("failed to parse UUID string: wrong format")
            .hint("Its form is 12345678-1234-1234-1234-123456789abc.")
    };
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    let digits: String = text.split('-').collect();
    if lengths != [8, 4, 4, 4, 12] || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(bad());
    }
    u128::from_str_radix(&digits, 16).map(u128::to_be_bytes).map_err(|_| bad())
}

/// Reads `-fw_cfg`; a name outside `opt/` earns a warning.
pub(crate) fn fw_cfg(place: &str, text: &str, warnings: &mut Vec<String>) -> Result<FwCfg> {
    let given = FwCfgOptions::from_list(&List::parse(text, Grammar::loose("name"))?)?;
    let incomplete =
        || Refusal::new("name, plus exactly one of file, string and gen_id, are needed");
    let name = given.name.ok_or_else(incomplete)?;
    if given.gen_id.is_some() && given.file.is_none() && given.string.is_none() {
        return Err(Refusal::new("not supported yet: gen_id"));
    }
    let content = match (given.file, given.string, given.gen_id) {
        (Some(file), None, None) => FwCfgContent::File(file),
        (None, Some(text), None) => FwCfgContent::Text(text),
        _ => return Err(incomplete()),
    };
    if name.len() > 55 {
        return Err(Refusal::new("name too long (max. 55 char)"));
    }
    if !name.starts_with("opt/") {
        warnings.push(format!(
            "{place}: warning: externally provided fw_cfg item names should be prefixed with \"opt/\""
        ));
    }
    Ok(FwCfg { name, content })
}

/// Types of SMBIOS structures, and the fields of each that can be given.
const SMBIOS: &[(u8, &[&str])] = &[
    (0, &["vendor", "version", "date", "release", "uefi"]),
    (1, &["manufacturer", "product", "version", "serial", "uuid", "sku", "family"]),
    (2, &["manufacturer", "product", "version", "serial", "asset", "location"]),
    (3, &["manufacturer", "version", "serial", "asset", "sku"]),
    (11, &["value"]),
];

/// Reads `-smbios`.
pub(crate) fn smbios(text: &str) -> Result<Smbios> {
    let mut list = List::parse(text, Grammar::BARE)?;
    if list.get("file").is_some() {
        return Err(Refusal::new("not supported yet: file="));
    }
    let kind = list.take("type").ok_or_else(|| {
        Refusal::new("Parameter 'type' is missing").hint("Its form is -smbios type=N,FIELD=VALUE.")
    })?;
    let known = || SMBIOS.iter().map(|(kind, _)| kind.to_string()).collect::<Vec<_>>().join(", ");
    let number = kind.value.parse().ok();
    let (kind, fields) =
        SMBIOS.iter().find(|(kind, _)| Some(*kind) == number).ok_or_else(|| {
            Refusal::new(format!("Don't know how to build fields for SMBIOS type {}", kind.value))
                .hint(format!("Known types: {}.", known()))
        })?;
    for item in &list.items {
        let key = item.key.as_str();
        if !fields.contains(&key) {
            return Err(Refusal::new(format!("Invalid parameter '{key}'"))
                .suggesting(key, fields.iter().copied())
                .hint(format!("Known parameters: {}.", fields.join(", "))));
        }
        let checked = match key {
            "uuid" => uuid(&item.value).map(|_| ()),
            "uefi" if options::parse_bool(&item.value).is_none() => {
                Err(Refusal::new("Parameter 'uefi' expects 'on' or 'off'"))
            }
            "release" if !is_release(&item.value) => {
                Err(Refusal::new("Invalid BIOS release").hint("It looks like 1.0."))
            }
            _ => Ok(()),
        };
        checked?;
    }
    Ok(Smbios { kind: *kind, fields: properties(&list) })
}

/// Whether a text is a major and a minor number.
fn is_release(text: &str) -> bool {
    let numbers = text.split_once('.').map(|(a, b)| (a.parse::<u8>(), b.parse::<u8>()));
    matches!(numbers, Some((Ok(_), Ok(_))))
}

/// Checks `-overcommit`.
pub(crate) fn overcommit(text: &str) -> Result<()> {
    let given = OvercommitOptions::from_list(&List::parse(text, Grammar::BARE)?)?;
    match given.mem_lock.as_str() {
        "off" | "no" | "false" | "n" => Ok(()),
        "on" | "yes" | "true" | "y" | "on-fault" => {
            Err(Refusal::new(format!("not supported yet: mem-lock={}", given.mem_lock)))
        }
        _ => Err(Refusal::new("parameter 'mem-lock' expects one of 'on', 'off', 'on-fault'")),
    }
}

/// Reads `-icount`.
pub(crate) fn icount(text: &str) -> Result<Icount> {
    let given = IcountOptions::from_list(&List::parse(text, Grammar::loose("shift"))?)?;
    if given.rr.is_some() || given.rrfile.is_some() || given.rrsnapshot.is_some() {
        return Err(Refusal::new("not supported yet: record and replay (rr=)"));
    }
    let shift = match given.shift.as_deref() {
        None | Some("auto") => None,
        Some(text) => Some(text.parse::<u8>().ok().filter(|s| *s <= 10).ok_or_else(|| {
            Refusal::new("icount: Invalid shift value").hint("shift is auto or 0 to 10.")
        })?),
    };
    Ok(Icount { shift, align: given.align, sleep: given.sleep })
}

/// Reads `-echr`: a number, or a letter that stands for itself with Ctrl.
pub(crate) fn escape(text: &str) -> Result<u8> {
    options::parse_number(text).and_then(|n| u8::try_from(n).ok()).ok_or_else(|| {
        Refusal::new("Bad argument to echr").hint("Its form is -echr 0x01 (Ctrl-A).")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_count_from_1970() {
        assert_eq!(parse_date("1970-01-01"), Some(0));
        assert_eq!(parse_date("2006-06-17T16:01:21"), Some(1_150_560_081));
        assert_eq!(parse_date("2000-02-29"), Some(951_782_400));
        for bad in ["", "2006", "2006-13-01", "2006-06-17T24:00:00", "-1-1-1", "x-y-z"] {
            assert_eq!(parse_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn uuids_have_one_form() {
        let id = uuid("12345678-9abc-def0-1122-334455667788").unwrap();
        assert_eq!(id[..4], [0x12, 0x34, 0x56, 0x78]);
        for bad in
            ["foo", "123456789abc-def0-1122-334455667788", "+2345678-9abc-def0-1122-334455667788"]
        {
            assert!(uuid(bad).is_err(), "{bad}");
        }
    }
}
