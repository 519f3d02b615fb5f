//! Which part of a text that goes on can be said already.

/// The length of what cannot become part of one of the marks: the text up to the longest end that a mark begins with.
pub(super) fn before_marks(text: &str, marks: &[&str]) -> usize {
    let longest = marks.iter().map(|mark| mark.len()).max().unwrap_or(0);
    let first = text.len().saturating_sub(longest);
    (first..text.len())
        .filter(|&at| text.is_char_boundary(at))
        .find(|&at| marks.iter().any(|mark| mark.starts_with(&text[at..])))
        .unwrap_or(text.len())
}

/// The same without the white space at its end.
pub(super) fn before_marks_and_spaces(text: &str, marks: &[&str]) -> usize {
    text[..before_marks(text, marks)].trim_end().len()
}

/// Whether a text begins with a mark; `None`: it may yet.
pub(super) fn begins_with(text: &str, mark: &str) -> Option<bool> {
    if text.starts_with(mark) {
        Some(true)
    } else if mark.starts_with(text) {
        None
    } else {
        Some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_become_a_mark_is_held() {
        for (text, expected) in [
            ("", 0),
            ("abc", 3),
            ("abc <", 4),
            ("abc <to", 4),
            ("abc <to<", 7),
            ("abc <tip", 8),
            ("é[", 2),
            ("é", 2),
            ("<<tool>", 1),
        ] {
            assert_eq!(before_marks(text, &["<tool>", "[X]"]), expected, "{text}");
        }
        assert_eq!(before_marks_and_spaces("ab \n<to", &["<tool>"]), 2);
        assert_eq!(begins_with("<t", "<tool>"), None);
        assert_eq!(begins_with("<tool>x", "<tool>"), Some(true));
        assert_eq!(begins_with("tool", "<tool>"), Some(false));
    }
}
