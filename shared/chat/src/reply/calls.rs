//! Calls of tools in an answer, in each format.

use super::ReplyForm;
use super::hold::{before_marks_and_spaces, begins_with};
use super::object::{Belongs, CallObject, Extent, Found, Progress};
use crate::delta::Delta;
use crate::format::{ARGS, CALL_ID, FormatKind, PYTHON_TAG, TOOL_CALL, TOOL_CALLS};

#[derive(Debug)]
pub(super) struct Calls {
    format: Option<FormatKind>,
    tools: Vec<String>,
    ids: Ids,
    place: Place,
    /// What has come and is not decided.
    held: String,
    /// What introduced a call that is not certain to be one, white space before it included.
    introduction: String,
    /// Calls that have begun.
    count: usize,
    /// Whether white space that comes next belongs to a call before it.
    is_after_call: bool,
}

#[derive(Debug)]
enum Place {
    /// Before anything, where only a whole reply is a call.
    Begin,
    Text,
    /// Past what introduces a list of calls.
    List,
    /// Past what introduces a call that begins with its name.
    Named,
    Object(CallObject),
    /// The arguments of a call whose name is known.
    Arguments(Extent),
    /// Past the object of a call.
    Past,
    /// Content that has no more calls.
    Plain,
}

/// Whether there may be more to do with what is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    On,
    Wait,
}

impl Calls {
    pub(super) fn new(form: &ReplyForm, seed: u64) -> Self {
        let place = match form.calls {
            None => Place::Plain,
            Some(FormatKind::Llama3) => Place::Begin,
            Some(_) => Place::Text,
        };
        Self {
            format: form.calls,
            tools: form.tools.clone(),
            ids: Ids { seed, are_short: form.short_ids },
            place,
            held: String::new(),
            introduction: String::new(),
            count: 0,
            is_after_call: false,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn feed(&mut self, text: &str, deltas: &mut Vec<Delta>) {
        self.held.push_str(text);
        while self.step(deltas) == Step::On {}
    }

    pub(super) fn finish(&mut self, deltas: &mut Vec<Delta>) {
        let place = std::mem::replace(&mut self.place, Place::Plain);
        let mut rest = std::mem::take(&mut self.introduction);
        if let Place::Object(object) = &place {
            rest.push_str(object.raw());
        }
        rest.push_str(&std::mem::take(&mut self.held));
        match place {
            Place::Past | Place::List if self.count > 0 => {
                let rest = rest.trim_start();
                if !rest.is_empty() && !is_of_format(rest) {
                    say(deltas, rest);
                }
            }
            _ if self.is_after_call => say(deltas, rest.trim()),
            _ => say(deltas, &rest),
        }
    }

    fn step(&mut self, deltas: &mut Vec<Delta>) -> Step {
        if self.held.is_empty() {
            return Step::Wait;
        }
        match std::mem::replace(&mut self.place, Place::Plain) {
            Place::Plain => {
                self.say_held(self.held.len(), deltas);
                Step::Wait
            }
            Place::Begin => self.begin(),
            Place::Text => self.text(deltas),
            Place::List => self.list(),
            Place::Named => self.named(deltas),
            Place::Object(object) => self.object(object, deltas),
            Place::Arguments(extent) => self.arguments(extent, deltas),
            Place::Past => self.past(),
        }
    }

    /// Says the first so many bytes of what is held.
    fn say_held(&mut self, length: usize, deltas: &mut Vec<Delta>) {
        let rest = self.held.split_off(length);
        let said = std::mem::replace(&mut self.held, rest);
        let said = if self.is_after_call { said.trim_start() } else { said.as_str() };
        if !said.is_empty() {
            self.is_after_call = false;
            say(deltas, said);
        }
    }

    fn wait(&mut self, place: Place) -> Step {
        self.place = place;
        Step::Wait
    }

    fn go(&mut self, place: Place) -> Step {
        self.place = place;
        Step::On
    }

    /// Takes the first so many bytes of what is held to what introduces a call.
    fn introduce(&mut self, length: usize) {
        let rest = self.held.split_off(length);
        self.introduction.push_str(&std::mem::replace(&mut self.held, rest));
    }

    fn begin(&mut self) -> Step {
        let spaces = self.held.len() - self.held.trim_start().len();
        let text = &self.held[spaces..];
        if text.starts_with('{') {
            self.introduce(spaces);
            return self.go(Place::Object(CallObject::new()));
        }
        match begins_with(text, PYTHON_TAG) {
            None => self.wait(Place::Begin),
            Some(true) if !self.introduction.contains(PYTHON_TAG) => {
                self.introduce(spaces + PYTHON_TAG.len());
                self.go(Place::Begin)
            }
            Some(_) => self.no_call(Place::Plain),
        }
    }

    /// What introduced a call was text.
    fn no_call(&mut self, place: Place) -> Step {
        let introduction = std::mem::take(&mut self.introduction);
        self.held.insert_str(0, &introduction);
        self.go(place)
    }

    fn text(&mut self, deltas: &mut Vec<Delta>) -> Step {
        let [open, _] = TOOL_CALL;
        let (mark, next) = match self.format {
            Some(FormatKind::Mistral) => (TOOL_CALLS, Place::List),
            Some(FormatKind::MistralNamed) => (TOOL_CALLS, Place::Named),
            _ => (open, Place::Object(CallObject::new())),
        };
        let Some(at) = self.held.find(mark) else {
            self.say_held(before_marks_and_spaces(&self.held, &[mark]), deltas);
            return self.wait(Place::Text);
        };
        let said = self.held[..at].trim_end().len();
        self.say_held(said, deltas);
        self.introduce(at - said + mark.len());
        self.go(next)
    }

    /// Before the first call of a list, or the next.
    fn list(&mut self) -> Step {
        let text = self.held.trim_start();
        let spaces = self.held.len() - text.len();
        match text.chars().next() {
            None => self.wait(Place::List),
            Some('[' | ',') => {
                self.introduce(spaces + 1);
                self.go(Place::List)
            }
            Some('{') => {
                self.introduce(spaces);
                self.go(Place::Object(CallObject::new()))
            }
            Some(']') if self.count > 0 => {
                self.introduce(spaces + 1);
                self.introduction.clear();
                self.is_after_call = true;
                self.go(Place::Text)
            }
            Some(_) if self.count > 0 => {
                self.introduction.clear();
                self.is_after_call = true;
                self.go(Place::Text)
            }
            Some(_) => self.no_call(Place::Plain),
        }
    }

    fn named(&mut self, deltas: &mut Vec<Delta>) -> Step {
        let Some(end) = self.held.find('{') else { return self.wait(Place::Named) };
        let before = self.held[..end].trim();
        let before = before.strip_suffix(ARGS).unwrap_or(before).trim();
        let (name, id) = match before.split_once(CALL_ID) {
            Some((name, id)) => (name.trim(), Some(id.trim().to_owned())),
            None => (before, None),
        };
        let is_name = |letter: char| letter.is_alphanumeric() || "_-.".contains(letter);
        if name.is_empty() || !name.chars().all(is_name) {
            return self.no_call(Place::Plain);
        }
        let name = name.to_owned();
        self.call(name, id.filter(|id| !id.is_empty()), deltas);
        self.held.drain(..end);
        self.go(Place::Arguments(Extent::default()))
    }

    fn arguments(&mut self, mut extent: Extent, deltas: &mut Vec<Delta>) -> Step {
        let mut length = self.held.len();
        let mut has_ended = false;
        for (at, letter) in self.held.char_indices() {
            if extent.push(letter) == Belongs::Last {
                (length, has_ended) = (at + letter.len_utf8(), true);
                break;
            }
        }
        let rest = self.held.split_off(length);
        let fragment = std::mem::replace(&mut self.held, rest);
        if let Some(index) = self.count.checked_sub(1) {
            deltas.push(Delta::Arguments { index, fragment });
        }
        if has_ended { self.go(Place::Past) } else { self.wait(Place::Arguments(extent)) }
    }

    fn object(&mut self, mut object: CallObject, deltas: &mut Vec<Delta>) -> Step {
        let mut found = Vec::new();
        let (taken, progress) = object.feed(&self.held, &mut found);
        let has_name = found.iter().find_map(|found| match found {
            Found::Name(name) => Some(name),
            Found::Arguments(_) => None,
        });
        // A whole reply that is JSON calls a tool only if there is one of that name.
        let is_stranger = self.format == Some(FormatKind::Llama3)
            && has_name.is_some_and(|name| !self.tools.contains(name));
        if has_name.is_some() && !is_stranger {
            object.make_certain();
        }
        self.held.drain(..taken);
        if is_stranger {
            self.introduction.push_str(object.raw());
            return self.no_call(Place::Plain);
        }
        for found in found {
            match found {
                Found::Name(name) => self.call(name, None, deltas),
                Found::Arguments(fragment) => {
                    let index = self.count.saturating_sub(1);
                    deltas.push(Delta::Arguments { index, fragment });
                }
            }
        }
        match progress {
            Progress::More => self.wait(Place::Object(object)),
            Progress::Done if object.is_named() => self.go(Place::Past),
            Progress::Failed if object.is_named() => {
                self.is_after_call = true;
                let plain = self.format == Some(FormatKind::Llama3);
                self.go(if plain { Place::Plain } else { Place::Text })
            }
            Progress::Done | Progress::Failed => {
                self.introduction.push_str(object.raw());
                let plain = self.format == Some(FormatKind::Llama3);
                let introduction = std::mem::take(&mut self.introduction);
                say(deltas, &introduction);
                self.is_after_call = false;
                self.go(if plain { Place::Plain } else { Place::Text })
            }
        }
    }

    fn past(&mut self) -> Step {
        self.is_after_call = true;
        let text = self.held.trim_start();
        let spaces = self.held.len() - text.len();
        if text.is_empty() {
            return self.wait(Place::Past);
        }
        match self.format {
            Some(FormatKind::Mistral) => self.go(Place::List),
            Some(FormatKind::MistralNamed) => self.go(Place::Text),
            Some(FormatKind::Llama3) => {
                let rest = text.strip_prefix(';').unwrap_or(text).trim_start();
                if rest.is_empty() {
                    return self.wait(Place::Past);
                }
                if rest.starts_with('{') {
                    self.introduce(self.held.len() - rest.len());
                    return self.go(Place::Object(CallObject::new()));
                }
                self.go(Place::Plain)
            }
            _ => {
                let [_, close] = TOOL_CALL;
                match begins_with(text, close) {
                    None => self.wait(Place::Past),
                    Some(true) => {
                        self.held.drain(..spaces + close.len());
                        self.go(Place::Text)
                    }
                    Some(false) => self.go(Place::Text),
                }
            }
        }
    }

    fn call(&mut self, name: String, id: Option<String>, deltas: &mut Vec<Delta>) {
        let index = self.count;
        self.count += 1;
        self.introduction.clear();
        let id = id.unwrap_or_else(|| self.ids.of(index));
        deltas.push(Delta::ToolCall { index, id, name });
    }
}

fn is_of_format(rest: &str) -> bool {
    let [_, close] = TOOL_CALL;
    close.starts_with(rest) || matches!(rest, ";" | "]" | ",")
}

fn say(deltas: &mut Vec<Delta>, text: &str) {
    if !text.is_empty() {
        deltas.push(Delta::Content(text.to_owned()));
    }
}

#[derive(Debug)]
struct Ids {
    seed: u64,
    are_short: bool,
}

const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

impl Ids {
    fn of(&self, index: usize) -> String {
        let number = crate::mix(self.seed ^ crate::mix(index as u64));
        if self.are_short { letters(number, 9) } else { format!("call_{}", letters(number, 24)) }
    }
}

/// An id of nine letters and digits.
pub(crate) fn short_id(number: u64) -> String {
    letters(number, 9)
}

fn letters(number: u64, length: u64) -> String {
    let letter = |at| crate::mix(number.wrapping_add(at)) % LETTERS.len() as u64;
    (0..length).map(|at| char::from(LETTERS[usize::try_from(letter(at)).unwrap_or(0)])).collect()
}
