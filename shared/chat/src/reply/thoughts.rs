//! The thoughts at the beginning of a reply.

use super::ReplyForm;
use super::hold::{before_marks_and_spaces, begins_with};
use crate::delta::Delta;
use crate::thinking::Thinking;

#[derive(Debug)]
pub(super) struct Thoughts {
    marks: Option<Thinking>,
    place: Place,
    /// What has come and is not decided.
    held: String,
    has_spoken: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Before,
    Within,
    /// Past their end, at the white space before the answer.
    Gap,
    Answer,
}

impl Thoughts {
    pub(super) fn new(form: &ReplyForm) -> Self {
        let place = match form.thinking {
            None => Place::Answer,
            Some(_) if form.is_thinking => Place::Within,
            Some(_) => Place::Before,
        };
        Self { marks: form.thinking, place, held: String::new(), has_spoken: false }
    }

    /// Says thoughts, and gives the text of the answer.
    pub(super) fn feed(&mut self, text: &str, deltas: &mut Vec<Delta>) -> String {
        let (Some(marks), false) = (self.marks, self.place == Place::Answer) else {
            return text.to_owned();
        };
        self.held.push_str(text);
        if self.place == Place::Before {
            let begins = self.held.trim_start();
            match begins_with(begins, marks.open) {
                None => return String::new(),
                Some(false) => {
                    self.place = Place::Answer;
                    return std::mem::take(&mut self.held);
                }
                Some(true) => {
                    self.held = begins[marks.open.len()..].to_owned();
                    self.place = Place::Within;
                }
            }
        }
        if self.place == Place::Within {
            match self.held.find(marks.close) {
                None => {
                    self.say(before_marks_and_spaces(&self.held, &[marks.close]), deltas);
                    return String::new();
                }
                Some(end) => {
                    let rest = self.held.split_off(end);
                    self.say(self.held.trim_end().len(), deltas);
                    rest[marks.close.len()..].clone_into(&mut self.held);
                    self.place = Place::Gap;
                }
            }
        }
        let answer = self.held.trim_start();
        if answer.is_empty() {
            return String::new();
        }
        self.place = Place::Answer;
        let answer = answer.to_owned();
        self.held.clear();
        answer
    }

    /// Says the first so many bytes of what is held, without the white space that thoughts begin with.
    fn say(&mut self, length: usize, deltas: &mut Vec<Delta>) {
        let rest = self.held.split_off(length);
        let said = std::mem::replace(&mut self.held, rest);
        let said = if self.has_spoken { said.as_str() } else { said.trim_start() };
        if !said.is_empty() {
            self.has_spoken = true;
            deltas.push(Delta::Reasoning(said.to_owned()));
        }
    }

    /// The answer that was held.
    pub(super) fn finish(&mut self, deltas: &mut Vec<Delta>) -> String {
        match self.place {
            Place::Before => std::mem::take(&mut self.held),
            Place::Within => {
                self.say(self.held.trim_end().len(), deltas);
                String::new()
            }
            Place::Gap | Place::Answer => String::new(),
        }
    }
}
