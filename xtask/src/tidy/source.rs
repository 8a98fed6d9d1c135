//! Rust text without its comments and literals, so that words can be looked for.

/// The code of a file: comments and the contents of literals become blanks,
/// lines stay where they are.
pub fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = skipped(bytes, at);
        if end == at {
            at += 1;
            continue;
        }
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// The end of the comment or literal that begins at `at`, or `at` itself.
fn skipped(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let after_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    let length = if rest.starts_with(b"//") {
        rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len())
    } else if rest.starts_with(b"/*") {
        block_comment(rest)
    } else if rest[0] == b'"' {
        quoted(rest, b'"')
    } else if !after_word && (rest[0] == b'r' || rest.starts_with(b"br")) {
        raw_string(rest)
    } else if rest[0] == b'\'' {
        character(rest)
    } else {
        0
    };
    at + length
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// `r"…"`, `r#"…"#`, `br"…"`; 0 for a word that only begins with r or br.
fn raw_string(rest: &[u8]) -> usize {
    let start = if rest[0] == b'b' { 2 } else { 1 };
    let hashes = rest[start..].iter().take_while(|&&byte| byte == b'#').count();
    let open = start + hashes;
    if rest.get(open) != Some(&b'"') {
        return 0;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let body = &rest[open + 1..];
    let length = body.windows(close.len()).position(|window| window == close);
    length.map_or(rest.len(), |length| open + 1 + length + close.len())
}

/// A character literal; 0 for a lifetime.
fn character(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        return quoted(rest, b'\'');
    }
    let close = rest.iter().skip(2).take(4).position(|&byte| byte == b'\'');
    match close {
        Some(at) if at == 0 || !rest[1].is_ascii() => at + 3,
        _ => 0,
    }
}

/// Whether `line` holds `word` as a word of its own.
pub fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|each| each == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_comments_and_literals_are_not_code() {
        let text = "fn f<'a>() { // unsafe\n let x = \"unsafe \\\" unsafe\"; /* unsafe /* x */ unsafe */\n\
                    let y = r#\"unsafe \" unsafe\"#; let z = 'u'; let q = '\"'; other(b\"unsafe\") }";
        assert!(!has_word(&code_only(text), "unsafe"), "{}", code_only(text));
        assert_eq!(code_only(text).lines().count(), text.lines().count());
    }

    #[test]
    fn code_stays() {
        let text = "impl<'a> A<'a> { fn g() { unsafe { r() } } }";
        assert!(has_word(&code_only(text), "unsafe"));
        assert!(!has_word("unsafe_code", "unsafe"));
    }
}
