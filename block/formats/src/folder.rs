//! `vvfat`: folders of the host as disks, by their options or by names as `fat:rw:dir`.

use std::sync::Arc;

use graph::{Node, OpenError};
use protocols::{FatType, Vvfat, VvfatOptions};

use crate::keys::Keys;
use crate::open::Inherited;

fn refuse<T>(text: impl Into<String>) -> Result<T, OpenError> {
    Err(OpenError::Option(text.into()))
}

/// The options that a name behind `fat:` stands for: words with colons, then the folder.
pub(crate) fn pairs_of(rest: &str) -> Vec<(String, String)> {
    let mut pairs = vec![("driver", "vvfat".to_owned())];
    let mut dir = rest;
    while let Some((word, behind)) = dir.split_once(':') {
        match word {
            "12" | "16" | "32" => pairs.push(("fat-type", word.to_owned())),
            "floppy" | "rw" => pairs.push((word, "on".to_owned())),
            _ => break,
        }
        dir = behind;
    }
    pairs.push(("dir", dir.to_owned()));
    pairs.into_iter().map(|(key, value)| (format!("file.{key}"), value)).collect()
}

/// The node of driver `vvfat`.
pub(crate) fn vvfat(keys: &mut Keys, common: &Inherited) -> Result<Arc<dyn Node>, OpenError> {
    let Some(dir) = keys.take("dir") else {
        return refuse("vvfat block driver requires a 'dir' option");
    };
    let mut options = VvfatOptions::new(dir);
    options.floppy = keys.take_bool("floppy")?.unwrap_or(false);
    match keys.take_size("fat-type")? {
        None | Some(0) => {}
        Some(bits) => match FatType::of_bits(bits) {
            Some(fat) => options.fat_type = Some(fat),
            None => return refuse("Valid FAT types are only 12, 16 and 32"),
        },
    }
    if let Some(label) = keys.take("label") {
        options.label = label;
    }
    let writable = !common.read_only && !common.auto_read_only;
    if keys.take_bool("rw")?.unwrap_or(false) {
        if common.read_only {
            return refuse("Unable to set VVFAT to 'rw' when drive is read-only");
        }
        let path = options.dir.display().to_string();
        let what = "writing to a folder through vvfat (rw)".to_owned();
        return Err(OpenError::NotSupported { path, what });
    }
    if writable {
        return refuse("Image is read-only");
    }
    Ok(Arc::new(Vvfat::open(options)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_words_in_front_of_the_folder() {
        for (name, options) in [
            ("dir", "driver=vvfat dir=dir"),
            ("rw:floppy:12:a/b", "driver=vvfat rw=on floppy=on fat-type=12 dir=a/b"),
            ("c:d", "driver=vvfat dir=c:d"),
        ] {
            let pairs = pairs_of(name);
            let words: Vec<String> =
                pairs.iter().map(|(k, v)| format!("{}={v}", &k["file.".len()..])).collect();
            assert_eq!(words.join(" "), options);
        }
    }
}
