//! The object of a call, `{"name": …, "arguments": …}`, read as it comes: keys in any order, others ignored.

/// What has been read of a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The name of the tool.
    Name(String),
    /// More of its arguments. They never come before the name.
    Arguments(String),
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It goes on.
    More,
    /// It has ended, with its last letter.
    Done,
    /// It is no such object; the letter at which that was found is not taken.
    Failed,
}

#[derive(Debug)]
pub(super) struct CallObject {
    place: Place,
    /// Every letter taken, until it is certain to be a call.
    raw: String,
    is_certain: bool,
    is_named: bool,
    has_arguments: bool,
    /// Arguments that came before the name.
    early: String,
}

#[derive(Debug)]
enum Place {
    Start,
    /// Before a key, or the end.
    Key,
    InKey(Text),
    Colon(String),
    /// Before the value of this key.
    Value(String),
    Name(Text),
    Arguments(Extent),
    /// Arguments as a text that holds JSON.
    Quoted(Text),
    Ignored(Extent),
    /// Before a comma, or the end.
    Comma,
}

/// A string of JSON, as it is written, with its quotes.
#[derive(Debug, Default)]
struct Text {
    written: String,
    is_escape: bool,
}

impl Text {
    fn begun() -> Self {
        Self { written: "\"".to_owned(), is_escape: false }
    }

    /// Takes the next letter; says whether it was the last.
    fn push(&mut self, letter: char) -> bool {
        self.written.push(letter);
        if self.is_escape {
            self.is_escape = false;
        } else if letter == '\\' {
            self.is_escape = true;
        } else if letter == '"' {
            return true;
        }
        false
    }

    /// What it stands for, once its end has come.
    fn read(&self) -> Option<String> {
        serde_json::from_str(&self.written).ok()
    }
}

/// Where a value ends.
#[derive(Debug, Default)]
pub(super) struct Extent {
    depth: usize,
    is_text: bool,
    is_escape: bool,
}

/// What a letter is to a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Belongs {
    /// It belongs to it.
    Inside,
    /// It is its last.
    Last,
    /// It has ended before.
    After,
}

impl Extent {
    pub(super) fn push(&mut self, letter: char) -> Belongs {
        if self.is_text {
            match letter {
                _ if self.is_escape => self.is_escape = false,
                '\\' => self.is_escape = true,
                '"' => {
                    self.is_text = false;
                    return if self.depth == 0 { Belongs::Last } else { Belongs::Inside };
                }
                _ => {}
            }
            return Belongs::Inside;
        }
        match letter {
            '"' => self.is_text = true,
            '{' | '[' => self.depth += 1,
            ']' | '}' if self.depth == 1 => return Belongs::Last,
            ']' | '}' if self.depth > 0 => self.depth -= 1,
            ']' | '}' | ',' | ' ' | '\n' | '\r' | '\t' if self.depth == 0 => return Belongs::After,
            _ => {}
        }
        Belongs::Inside
    }
}

impl CallObject {
    pub(super) fn new() -> Self {
        Self {
            place: Place::Start,
            raw: String::new(),
            is_certain: false,
            is_named: false,
            has_arguments: false,
            early: String::new(),
        }
    }

    /// Every letter taken so far, unless [`CallObject::make_certain`] was said.
    pub(super) fn raw(&self) -> &str {
        &self.raw
    }

    /// It is a call: what was read need not be kept.
    pub(super) fn make_certain(&mut self) {
        self.is_certain = true;
        self.raw.clear();
    }

    pub(super) fn is_named(&self) -> bool {
        self.is_named
    }

    /// Reads on; says how many bytes it took.
    pub(super) fn feed(&mut self, text: &str, found: &mut Vec<Found>) -> (usize, Progress) {
        let mut arguments = String::new();
        for (at, letter) in text.char_indices() {
            let progress = self.push(letter, &mut arguments, found);
            if progress == Progress::Failed {
                self.argue(&mut arguments, found);
                return (at, progress);
            }
            if !self.is_certain {
                self.raw.push(letter);
            }
            if progress == Progress::Done {
                self.argue(&mut arguments, found);
                if self.is_named && !self.has_arguments {
                    found.push(Found::Arguments("{}".to_owned()));
                }
                return (at + letter.len_utf8(), progress);
            }
        }
        self.argue(&mut arguments, found);
        (text.len(), Progress::More)
    }

    /// Says arguments, if the name is known.
    fn argue(&mut self, arguments: &mut String, found: &mut Vec<Found>) {
        let arguments = std::mem::take(arguments);
        if !arguments.is_empty() {
            self.has_arguments = true;
            if self.is_named {
                found.push(Found::Arguments(arguments));
            } else {
                self.early.push_str(&arguments);
            }
        }
    }

    fn push(&mut self, letter: char, arguments: &mut String, found: &mut Vec<Found>) -> Progress {
        let is_space = matches!(letter, ' ' | '\n' | '\r' | '\t');
        let place = std::mem::replace(&mut self.place, Place::Comma);
        self.place = match (place, letter) {
            (Place::Start, '{') | (Place::Comma, ',') => Place::Key,
            (Place::Key, '"') => Place::InKey(Text::begun()),
            (Place::Key | Place::Comma, '}') => return Progress::Done,
            (Place::InKey(mut key), _) => match key.push(letter).then(|| key.read()) {
                None => Place::InKey(key),
                Some(Some(key)) => Place::Colon(key),
                Some(None) => return Progress::Failed,
            },
            (Place::Colon(key), ':') => Place::Value(key),
            (Place::Name(mut name), _) => match name.push(letter).then(|| name.read()) {
                None => Place::Name(name),
                Some(Some(name)) if !name.is_empty() => {
                    self.is_named = true;
                    found.push(Found::Name(name));
                    let mut early = std::mem::take(&mut self.early);
                    self.argue(&mut early, found);
                    Place::Comma
                }
                Some(_) => return Progress::Failed,
            },
            (Place::Quoted(mut text), _) => match text.push(letter).then(|| text.read()) {
                None => Place::Quoted(text),
                Some(Some(text)) => {
                    arguments.push_str(if text.trim().is_empty() { "{}" } else { &text });
                    Place::Comma
                }
                Some(None) => return Progress::Failed,
            },
            (Place::Arguments(mut extent), _) => match extent.push(letter) {
                Belongs::After => return self.push(letter, arguments, found),
                belongs => {
                    arguments.push(letter);
                    match belongs {
                        Belongs::Last => Place::Comma,
                        _ => Place::Arguments(extent),
                    }
                }
            },
            (Place::Ignored(mut extent), _) => match extent.push(letter) {
                Belongs::After => return self.push(letter, arguments, found),
                Belongs::Last => Place::Comma,
                Belongs::Inside => Place::Ignored(extent),
            },
            (place, _) if is_space => place,
            (Place::Value(key), _) => return self.value(&key, letter, arguments),
            _ => return Progress::Failed,
        };
        Progress::More
    }

    /// The value of a key begins.
    fn value(&mut self, key: &str, letter: char, arguments: &mut String) -> Progress {
        let of_arguments = matches!(key, "arguments" | "parameters") && !self.has_arguments;
        self.place = match letter {
            ',' | '}' | ']' | ':' => return Progress::Failed,
            '"' if key == "name" && !self.is_named => Place::Name(Text::begun()),
            _ if key == "name" && !self.is_named => return Progress::Failed,
            '"' if of_arguments => Place::Quoted(Text::begun()),
            '{' if of_arguments => {
                let mut extent = Extent::default();
                extent.push(letter);
                arguments.push(letter);
                Place::Arguments(extent)
            }
            _ => {
                let mut extent = Extent::default();
                extent.push(letter);
                Place::Ignored(extent)
            }
        };
        Progress::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<String>, String, usize, Progress) {
        let mut object = CallObject::new();
        let mut found = Vec::new();
        let (taken, progress) = object.feed(text, &mut found);
        let (mut name, mut arguments) = (None, String::new());
        for found in found {
            match found {
                Found::Name(found) => {
                    assert!(name.replace(found).is_none() && arguments.is_empty());
                }
                Found::Arguments(more) => arguments.push_str(&more),
            }
        }
        (name, arguments, taken, progress)
    }

    #[test]
    fn calls_are_read_in_every_spelling() {
        for (text, name, arguments) in [
            (r#"{"name": "f", "arguments": {"a": [1, "}"]}}"#, "f", r#"{"a": [1, "}"]}"#),
            (r#" {"arguments":{"a":"\""} , "name":"f" }"#, "f", r#"{"a":"\""}"#),
            (r#"{"type": "function", "name": "g", "parameters": {}}"#, "g", "{}"),
            (r#"{"name": "f", "arguments": "{\"a\": 1}"}"#, "f", r#"{"a": 1}"#),
            (r#"{"name": "f", "arguments": null}"#, "f", "{}"),
            (r#"{"name": "f"}"#, "f", "{}"),
            (r#"{"id": 7, "name": "f", "x": [{"name": "g"}], "arguments": {}}"#, "f", "{}"),
            (r#"{"name": "\u00e9", "arguments": {"é": "\\"}}"#, "é", r#"{"é": "\\"}"#),
        ] {
            let expected =
                (Some(name.to_owned()), arguments.to_owned(), text.len(), Progress::Done);
            assert_eq!(read(text), expected, "{text}");
            let (_, _, taken, progress) = read(&format!("{text} more"));
            assert_eq!((taken, progress), (text.len(), Progress::Done));
        }
    }

    #[test]
    fn what_is_no_call_fails_at_the_letter_that_shows_it() {
        for (text, taken) in [
            ("hello", 0),
            ("{hello}", 1),
            (r#"{"name": 7}"#, 9),
            (r#"{"name": ""}"#, 10),
            (r#"{"name" "f"}"#, 8),
            (r#"{"a": 1 2}"#, 8),
            (r#"{"a": }"#, 6),
        ] {
            assert_eq!(read(text), (None, String::new(), taken, Progress::Failed), "{text}");
        }
    }
}
