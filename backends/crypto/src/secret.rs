//! `secret`: a passphrase or a key, in the option or in a file, as it is or encrypted with another one.

use aes::Aes256;
use cipher::{Array, BlockCipherDecrypt, KeyInit};
use options::List;
use zeroize::Zeroizing;

use crate::Objects;

/// Longest secret that is read from a file, in bytes.
const MOST: u64 = 1 << 20;

/// The bytes that the options of a secret describe.
pub(crate) fn parse(list: &mut List, others: &Objects) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut take = |key: &str| list.take(key).map(|item| item.value);
    let (data, file, format) = (take("data"), take("file"), take("format"));
    let (key, iv) = (take("keyid"), take("iv"));
    let base64 = match format.as_deref() {
        None | Some("raw") => false,
        Some("base64") => true,
        Some(other) => return Err(format!("Parameter 'format' does not accept value '{other}'")),
    };
    let raw = match (data, file) {
        (Some(data), None) => data.into_bytes(),
        (None, Some(path)) => {
            read(&path).map_err(|e| format!("Unable to read {path}: {}", host_text(&e)))?
        }
        (Some(_), Some(_)) => return Err("'file' and 'data' are mutually exclusive".to_owned()),
        (None, None) => return Err("Either 'file' or 'data' must be provided".to_owned()),
    };
    let raw = Zeroizing::new(raw);
    let invalid = || "Base64 data contains invalid characters".to_owned();
    let Some(key) = key else {
        if !base64 {
            return Ok(raw);
        }
        return decode_base64(&raw).map(Zeroizing::new).ok_or_else(invalid);
    };
    let key = Zeroizing::new(others.secret(&key)?);
    let iv = iv.ok_or_else(|| "IV is required to decrypt secret".to_owned())?;
    let iv = decode_base64(iv.as_bytes()).ok_or_else(invalid)?;
    let raw = if base64 { Zeroizing::new(decode_base64(&raw).ok_or_else(invalid)?) } else { raw };
    decrypt(&key, &iv, raw)
}

/// Undoes AES-256-CBC with the padding of PKCS #7 (RFC 5652, "Content-encryption Process").
fn decrypt(
    key: &[u8],
    iv: &[u8],
    mut bytes: Zeroizing<Vec<u8>>,
) -> Result<Zeroizing<Vec<u8>>, String> {
    const BLOCK: usize = 16;
    let mut before: [u8; BLOCK] = iv
        .try_into()
        .map_err(|_| format!("IV should be {BLOCK} bytes in length not {}", iv.len()))?;
    let aes = Aes256::new_from_slice(key);
    let aes = aes.map_err(|_| "Key should be 32 bytes in length".to_owned())?;
    if !bytes.len().is_multiple_of(BLOCK) {
        return Err(format!("Length {} must be a multiple of block size {BLOCK}", bytes.len()));
    }
    for block in bytes.as_chunks_mut::<BLOCK>().0 {
        let packed = *block;
        aes.decrypt_block(Array::cast_from_core_mut(block));
        block.iter_mut().zip(before).for_each(|(byte, mask)| *byte ^= mask);
        before = packed;
    }
    let padding = usize::from(bytes.last().copied().unwrap_or(0));
    if padding > BLOCK || padding > bytes.len() {
        let text = format!("Incorrect number of padding bytes ({padding}) found on decrypted data");
        return Err(text);
    }
    let len = bytes.len() - padding;
    bytes.truncate(len);
    Ok(bytes)
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

    /// Made with `openssl enc -aes-256-cbc -K 0001…1f -iv 0001…0f`.
    #[test]
    fn a_secret_is_decrypted_with_another_one() {
        let mut objects = Objects::default();
        let key: Vec<u8> = (0..32).collect();
        let key = options::base64::encode(&key);
        let iv = "AAECAwQFBgcICQoLDA0ODw==";
        let packed = "ks7LUniWWrdjUDFVnaj8wQ==";
        objects.add(&format!("secret,id=key,format=base64,data={key}")).expect("it is one");
        let add = |objects: &mut Objects, id: &str, rest: &str| {
            objects.add(&format!("secret,id={id},format=base64,keyid={rest}"))
        };
        add(&mut objects, "a", &format!("key,iv={iv},data={packed}")).expect("it is one");
        assert_eq!(objects.secret("a").as_deref(), Ok(&b"secretpw"[..]));
        for (rest, complaint) in [
            (format!("none,iv={iv},data={packed}"), "No secret with id 'none'"),
            (format!("key,data={packed}"), "IV is required to decrypt secret"),
            (format!("key,iv=AAAA,data={packed}"), "IV should be 16 bytes in length not 3"),
            (format!("key,iv={iv},data=AAAA"), "Length 3 must be a multiple of block size 16"),
            (format!("a,iv={iv},data={packed}"), "Key should be 32 bytes in length"),
        ] {
            assert_eq!(add(&mut objects, "b", &rest).err().as_deref(), Some(complaint), "{rest}");
        }
    }

    #[test]
    fn base64_is_undone() {
        assert_eq!(decode_base64(b"MTIz\nNDU2").as_deref(), Some(&b"123456"[..]));
        assert_eq!(decode_base64(b"MTI=").as_deref(), Some(&b"12"[..]));
        assert_eq!(decode_base64(b"MTI"), None);
        assert_eq!(decode_base64(b"M?I="), None);
    }
}
