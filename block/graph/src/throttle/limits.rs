//! What a throttle group allows: the numbers of `ThrottleLimits` in the QMP reference manual.

use crate::OpenError;

/// Largest value of a limit.
const MOST: u64 = 1_000_000_000_000_000;

/// What is counted and of which requests, in the order of [`Limits::rates`].
const RATES: &[&str] =
    &["bps-total", "bps-read", "bps-write", "iops-total", "iops-read", "iops-write"];

/// The limit of one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Units per second in the long run; 0 is no limit.
    pub average: u64,
    /// Units per second in a burst; 0 is no burst.
    pub max: u64,
    /// Seconds that a burst may last.
    pub length: u64,
}

impl Default for Rate {
    fn default() -> Self {
        Self { average: 0, max: 0, length: 1 }
    }
}

/// The limits of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in all, read, written; requests in all, reading, writing.
    pub rates: [Rate; 6],
    /// Bytes that count as one request; 0 if every request counts as one.
    pub iops_size: u64,
}

impl Limits {
    /// The limits with their names as `limits` of a group and `throttling.` of a drive have them.
    pub fn named(&self) -> Vec<(String, u64)> {
        let mut all = Vec::new();
        for (name, rate) in RATES.iter().zip(&self.rates) {
            all.push(((*name).to_owned(), rate.average));
            all.push((format!("{name}-max"), rate.max));
            all.push((format!("{name}-max-length"), rate.length));
        }
        all.push(("iops-size".to_owned(), self.iops_size));
        all
    }

    /// Sets the limit called `name`; `false` if there is none of that name.
    pub fn set(&mut self, name: &str, value: u64) -> bool {
        if name == "iops-size" {
            self.iops_size = value;
            return true;
        }
        let (base, length) = match name.strip_suffix("-max-length") {
            Some(base) => (base, true),
            None => (name, false),
        };
        let (base, max) = match base.strip_suffix("-max") {
            Some(base) if !length => (base, true),
            _ => (base, false),
        };
        let Some(at) = RATES.iter().position(|rate| *rate == base) else { return false };
        let rate = &mut self.rates[at];
        let place = match (max, length) {
            (_, true) => &mut rate.length,
            (true, _) => &mut rate.max,
            _ => &mut rate.average,
        };
        *place = value;
        true
    }

    /// Sets the limit called `name` to what a text says; `false` if there is none of that name.
    /// Complaints call it `key`.
    ///
    /// # Errors
    /// `Option` with QEMU's text for a text that is no number.
    pub fn set_text(&mut self, key: &str, name: &str, text: &str) -> Result<bool, OpenError> {
        if !self.clone().set(name, 0) {
            return Ok(false);
        }
        if text.strip_prefix('-').is_some_and(|n| n.parse::<u64>().is_ok()) {
            return refuse("Property values cannot be negative");
        }
        let value = options::parse_size(text, b'B').ok();
        let wrong = || OpenError::Option(format!("Parameter '{key}' expects integer"));
        Ok(self.set(name, value.ok_or_else(wrong)?))
    }

    /// Whether anything is limited.
    pub fn any(&self) -> bool {
        self.rates.iter().any(|rate| rate.average > 0)
    }

    /// Refuses numbers that contradict each other.
    ///
    /// # Errors
    /// `Option` with QEMU's text.
    pub fn check(&self) -> Result<(), OpenError> {
        for three in self.rates.chunks(3) {
            for of in [|r: &Rate| r.average, |r: &Rate| r.max] {
                if of(&three[0]) > 0 && (of(&three[1]) > 0 || of(&three[2]) > 0) {
                    return refuse(
                        "bps/iops/max total values and read/write values cannot be used at the \
                         same time",
                    );
                }
            }
        }
        if self.iops_size > 0 && self.rates[3..].iter().all(|rate| rate.average == 0) {
            return refuse("iops size requires an iops value to be set");
        }
        self.rates.iter().try_for_each(Rate::check)
    }
}

impl Rate {
    fn check(&self) -> Result<(), OpenError> {
        if self.average > MOST || self.max > MOST {
            return refuse(&format!("bps/iops/max values must be within [0, {MOST}]"));
        }
        if self.length == 0 {
            return refuse("the burst length cannot be 0");
        }
        if self.length > 1 && self.max == 0 {
            return refuse("burst length set without burst rate");
        }
        if self.max > 0 && self.length > MOST / self.max {
            return refuse("burst length too high for this burst rate");
        }
        if self.max > 0 && self.average == 0 {
            return refuse("bps_max/iops_max require corresponding bps/iops values");
        }
        if self.max > 0 && self.max < self.average {
            return refuse("bps_max/iops_max cannot be lower than bps/iops");
        }
        Ok(())
    }
}

fn refuse<T>(text: &str) -> Result<T, OpenError> {
    Err(OpenError::Option(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(pairs: &[(&str, u64)]) -> String {
        let mut limits = Limits::default();
        for (name, value) in pairs {
            assert!(limits.set(name, *value), "{name}");
        }
        limits.check().map_or_else(|e| e.to_string(), |()| String::new())
    }

    #[test]
    fn contradictions_are_refused() {
        assert_eq!(checked(&[("iops-total", 10), ("bps-read", 5)]), "");
        assert!(checked(&[("iops-total", 10), ("iops-read", 5)]).contains("same time"));
        assert!(checked(&[("bps-read-max", 5)]).contains("require corresponding"));
        assert!(checked(&[("bps-read", 6), ("bps-read-max", 5)]).contains("lower"));
        assert!(checked(&[("bps-read-max-length", 5)]).contains("without burst rate"));
        assert!(checked(&[("bps-read", 2_000_000_000_000_000)]).contains("within"));
        assert!(checked(&[("iops-size", 3)]).contains("iops size requires"));
        assert!(!Limits::default().set("iops-total-max-max", 1));
        let mut limits = Limits::default();
        assert!(limits.set_text("k", "iops-size", "-1").is_err());
        assert!(limits.set_text("k", "iops-size", "x").is_err());
        assert!(matches!(limits.set_text("k", "size", "x"), Ok(false)));
    }
}
