//! Fields of rows that nothing reads: told once, with the number of rows that have them. A misspelled field is one of them,
//! and so is a wish that no command grants.

use std::collections::BTreeMap;

/// Names that are remembered. No user looks through a list of more, and rows may have any number of fields.
const MOST: usize = 64;
/// Names that are told; more are counted.
const TOLD: usize = 10;
/// Characters of a name that are told.
const CHARS: usize = 40;

/// The fields that BEIR's files have beside texts, and that every command leaves alone.
const HARMLESS: [&str; 1] = ["metadata"];

/// Names with the number of rows that have them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unread(BTreeMap<String, u64>);

impl Unread {
    /// Notes that so many more rows have a field of this name.
    pub(crate) fn add(&mut self, name: String, rows: u64) {
        if HARMLESS.contains(&name.as_str()) || rows == 0 {
            return;
        }
        if let Some(count) = self.0.get_mut(&name) {
            *count += rows;
        } else if self.0.len() < MOST {
            self.0.insert(name, rows);
        }
    }

    /// All of it in words, if there is any.
    pub(crate) fn text(&self) -> Option<String> {
        let told = self.0.iter().take(TOLD).map(|(name, rows)| {
            let name: String = name.chars().take(CHARS).collect();
            format!("{name:?} ({rows} rows)")
        });
        let told = told.collect::<Vec<_>>().join(", ");
        match self.0.len() {
            0 => None,
            1..=TOLD => Some(format!("fields that are not read: {told}")),
            MOST => Some(format!("fields that are not read: {told}, and many more")),
            all => Some(format!("fields that are not read: {told}, and {} more", all - TOLD)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_and_bounded() {
        let mut unread = Unread::default();
        assert_eq!(unread.text(), None);
        unread.add("metadata".to_owned(), 3);
        unread.add("nulls".to_owned(), 0);
        assert_eq!(unread.text(), None);
        unread.add("topn".to_owned(), 1);
        unread.add("topn".to_owned(), 1);
        assert_eq!(unread.text().unwrap(), "fields that are not read: \"topn\" (2 rows)");
        for at in 0..11 {
            unread.add(format!("{at}{}", "x".repeat(1000)), 1);
        }
        let text = unread.text().unwrap();
        assert!(text.ends_with(", and 2 more") && text.len() < 700, "{text}");
        for at in 0..10_000 {
            unread.add(format!("{at}"), 1);
        }
        assert!(unread.text().unwrap().ends_with(", and many more"));
        assert_eq!(unread.0.len(), MOST);
    }
}
