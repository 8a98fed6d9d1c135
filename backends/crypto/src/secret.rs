//! `secret`: a passphrase or a key, in the option or in a file.

use options::List;
use zeroize::Zeroizing;

/// Longest secret that is read from a file, in bytes.
const MOST: u64 = 1 << 20;

/// The bytes that the options of a secret describe.
pub(crate) fn parse(list: &mut List, id: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut take = |key: &str| list.take(key).map(|item| item.value);
    let (data, file, format) = (take("data"), take("file"), take("format"));
    if take("keyid").is_some() || take("iv").is_some() {
        return Err("not supported yet: secrets that are encrypted (keyid=)".to_owned());
    }
    let raw = match (data, file) {
        (Some(data), None) => data.into_bytes(),
        (None, Some(path)) => {
            read(&path).map_err(|e| format!("Unable to read {path}: {}", host_text(&e)))?
        }
        _ => return Err("Either 'file' or 'data' must be provided, and not both".to_owned()),
    };
    let raw = Zeroizing::new(raw);
    match format.as_deref() {
        None | Some("raw") => Ok(raw),
        Some("base64") => decode_base64(&raw)
            .map(Zeroizing::new)
            .ok_or_else(|| format!("Secret '{id}' is not valid base64")),
        Some(other) => Err(format!("Parameter 'format' does not accept value '{other}'")),
    }
}

fn read(path: &str) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(
        &mut std::io::Read::take(std::fs::File::open(path)?, MOST),
        &mut bytes,
    )?;
    Ok(bytes)
}

/// An error as `strerror` words it.
pub(crate) fn host_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error ").next().unwrap_or_default().to_owned()
}

/// The bytes of a base64 text; line breaks do not count.
fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.iter().filter(|b| !b.is_ascii_whitespace()).copied().collect();
    options::base64::decode(&String::from_utf8(digits).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_undone() {
        assert_eq!(decode_base64(b"MTIz\nNDU2").as_deref(), Some(&b"123456"[..]));
        assert_eq!(decode_base64(b"MTI=").as_deref(), Some(&b"12"[..]));
        assert_eq!(decode_base64(b"MTI"), None);
        assert_eq!(decode_base64(b"M?I="), None);
    }
}
