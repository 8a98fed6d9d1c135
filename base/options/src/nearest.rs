//! The nearest known name to a misspelled one.

/// Longest name that is compared; anything longer is no misspelling.
const MAX_LEN: usize = 64;

/// The candidate nearest to `name` when one is near enough to be what was meant.
///
/// Near enough is one edit in three characters (insert, delete, replace, or swap of neighbours),
/// ignoring case. The first of equally near candidates wins.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.is_empty() || name.len() > MAX_LEN {
        return None;
    }
    let wanted = name.to_ascii_lowercase();
    let limit = wanted.len().div_ceil(3).min(4);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        if candidate == name || candidate.len() > MAX_LEN {
            continue;
        }
        let lower = candidate.to_ascii_lowercase();
        let mut edits = distance(wanted.as_bytes(), lower.as_bytes());
        if wanted.len() >= 3 && lower.starts_with(&wanted) {
            edits = edits.min(2);
        }
        if edits <= limit && edits < lower.len() && best.is_none_or(|(least, _)| edits < least) {
            best = Some((edits, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Edits (insert, delete, replace, swap of neighbours) that turn `a` into `b`.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![i + 1; b.len() + 1];
        for (j, &y) in b.iter().enumerate() {
            let replace = last[j] + usize::from(x != y);
            let mut least = replace.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                least = least.min(before[j - 1] + 1);
            }
            row[j + 1] = least;
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits_and_swaps() {
        for (a, b, edits) in
            [("", "abc", 3), ("fil", "file", 1), ("flie", "file", 1), ("cpu", "smp", 3)]
        {
            assert_eq!(distance(a.as_bytes(), b.as_bytes()), edits, "{a} {b}");
            assert_eq!(distance(b.as_bytes(), a.as_bytes()), edits, "{b} {a}");
        }
    }

    #[test]
    fn only_near_names_are_suggested() {
        let known = ["file", "format", "readonly", "virtio-blk-pci"];
        assert_eq!(nearest("fil", known), Some("file"));
        assert_eq!(nearest("FORMAT", known), Some("format"));
        assert_eq!(nearest("virtio-blk-pcie", known), Some("virtio-blk-pci"));
        assert_eq!(nearest("virtio", known), Some("virtio-blk-pci"));
        assert_eq!(nearest("zzz", known), None);
        assert_eq!(nearest("", known), None);
    }
}
