//! "Did you mean": the nearest known word.

/// The word of `known` that `given` most likely meant, if one is near enough.
pub(crate) fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = 1 + given.chars().count() / 4;
    known
        .map(|word| (distance(given, word), word))
        .filter(|&(d, word)| d <= limit && d < word.len())
        .min_by_key(|&(d, _)| d)
        .map(|(_, word)| word)
}

/// Optimal string alignment distance: insertions, deletions, substitutions, swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().collect();
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &ca) in a.iter().enumerate() {
        let mut row = vec![i + 1; b.len() + 1];
        for (j, &cb) in b.iter().enumerate() {
            let change = last[j] + usize::from(ca != cb);
            row[j + 1] = change.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && ca == b[j - 1] && a[i - 1] == cb {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, d) in [("", "", 0), ("hda", "hda", 0), ("hda", "had", 1), ("abc", "", 3)] {
            assert_eq!(distance(a, b), d, "{a} {b}");
        }
        assert_eq!(distance("nographik", "nographic"), 1);
    }

    #[test]
    fn far_words_are_not_suggested() {
        let known = ["hda", "serial", "m"];
        assert_eq!(nearest("seriall", known.into_iter()), Some("serial"));
        assert_eq!(nearest("hdz", known.into_iter()), Some("hda"));
        assert_eq!(nearest("x", known.into_iter()), None);
        assert_eq!(nearest("zebra", known.into_iter()), None);
    }
}
