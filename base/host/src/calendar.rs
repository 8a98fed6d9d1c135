//! Dates in the time zone of the host.
#![expect(unsafe_code, reason = "the time zone database has no safe wrapper in libc")]

/// `YYYY-MM-DD HH:MM:SS` of a number of seconds since 1970, in the host's time zone.
pub fn local_time(seconds: i64) -> String {
    // SAFETY: all-zero bytes are a valid `tm`: integers and a null pointer.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values, and the function keeps neither.
    let done = unsafe { libc::localtime_r(&raw const seconds, &raw mut tm) };
    if done.is_null() {
        return format!("@{seconds}");
    }
    let (year, month) = (i64::from(tm.tm_year) + 1900, tm.tm_mon + 1);
    let (day, hour, minute, second) = (tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_one_form() {
        // Noon is the same day in every time zone but the outermost.
        let text = local_time(1_000_000_000);
        assert!(text.starts_with("2001-09-0") && text.len() == 19, "{text}");
        assert!(local_time(i64::MAX).starts_with('@'), "a year that no date can have");
    }
}
