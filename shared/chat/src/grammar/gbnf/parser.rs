//! Reads GBNF.

use std::iter::Peekable;
use std::str::Chars;

use super::{Alternative, DEEPEST, Item, MOST_REPEATS, Part};

pub(super) struct Parser<'a> {
    letters: Peekable<Chars<'a>>,
    line: usize,
    depth: usize,
    mark: &'a dyn Fn(&str) -> String,
}

impl<'a> Parser<'a> {
    /// Of a grammar; `mark` is what stands for a text that may be a special token.
    pub(super) fn new(grammar: &'a str, mark: &'a dyn Fn(&str) -> String) -> Self {
        Self { letters: grammar.chars().peekable(), line: 1, depth: 0, mark }
    }

    fn wrong<T>(&mut self, expected: &str) -> Result<T, String> {
        let found = match self.letters.peek() {
            Some(letter) => format!("{letter:?}"),
            None => "its end".to_owned(),
        };
        Err(format!("line {}: expected {expected}, found {found}", self.line))
    }

    fn next(&mut self) -> Option<char> {
        let letter = self.letters.next()?;
        self.line += usize::from(letter == '\n');
        Some(letter)
    }

    fn take(&mut self, letter: char) -> bool {
        let is_there = self.letters.peek() == Some(&letter);
        if is_there {
            self.next();
        }
        is_there
    }

    /// White space and comments, past the end of the line if that says nothing here.
    fn space(&mut self, with_lines: bool) {
        while let Some(&letter) = self.letters.peek() {
            if letter == '#' {
                while self.letters.peek().is_some_and(|&letter| letter != '\n') {
                    self.next();
                }
            } else if letter == ' ' || letter == '\t' || with_lines && "\r\n".contains(letter) {
                self.next();
            } else {
                return;
            }
        }
    }

    /// The rules, by name, in their order.
    pub(super) fn rules(mut self) -> Result<Vec<(String, Vec<Alternative>)>, String> {
        let mut rules: Vec<(String, Vec<Alternative>)> = Vec::new();
        self.space(true);
        while self.letters.peek().is_some() {
            let name = self.word();
            if name.is_empty() {
                return self.wrong("the name of a rule");
            }
            self.space(false);
            if !(self.take(':') && self.take(':') && self.take('=')) {
                return self.wrong("\"::=\"");
            }
            self.space(true);
            let body = self.alternatives(false)?;
            if rules.iter().any(|(other, _)| *other == name) {
                return Err(format!("line {}: there are two rules {name:?}", self.line));
            }
            rules.push((name, body));
            self.take('\r');
            if self.letters.peek().is_some() && !self.take('\n') {
                return self.wrong("the end of the rule");
            }
            self.space(true);
        }
        Ok(rules)
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(&letter) = self.letters.peek() {
            if !(letter.is_ascii_alphanumeric() || letter == '-' || letter == '_') {
                break;
            }
            word.push(letter);
            self.next();
        }
        word
    }

    fn alternatives(&mut self, is_group: bool) -> Result<Vec<Alternative>, String> {
        let mut alternatives = vec![self.sequence(is_group)?];
        while self.take('|') {
            self.space(true);
            alternatives.push(self.sequence(is_group)?);
        }
        Ok(alternatives)
    }

    fn sequence(&mut self, is_group: bool) -> Result<Alternative, String> {
        let mut items: Alternative = Vec::new();
        loop {
            let part = match self.letters.peek() {
                Some('"') => self.literal()?,
                Some('[') => self.class()?,
                Some('(') => self.group()?,
                Some('.') => {
                    self.next();
                    Part::Any
                }
                Some('<' | '!') => self.token()?,
                Some(letter) if letter.is_ascii_alphanumeric() || *letter == '_' => {
                    Part::Rule(self.word())
                }
                _ => return Ok(items),
            };
            let (least, most) = self.repeats()?;
            items.push(Item { part, least, most });
            self.space(is_group);
        }
    }

    fn group(&mut self) -> Result<Part, String> {
        self.next();
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(format!("line {}: groups are more than {DEEPEST} deep", self.line));
        }
        self.space(true);
        let inner = self.alternatives(true)?;
        if !self.take(')') {
            return self.wrong("\")\"");
        }
        self.depth -= 1;
        Ok(Part::Group(inner))
    }

    fn repeats(&mut self) -> Result<(u32, Option<u32>), String> {
        if self.take('?') {
            return Ok((0, Some(1)));
        }
        if self.take('*') {
            return Ok((0, None));
        }
        if self.take('+') {
            return Ok((1, None));
        }
        if !self.take('{') {
            return Ok((1, Some(1)));
        }
        self.space(true);
        let least = self.number()?;
        self.space(true);
        let mut most = least;
        if self.take(',') {
            self.space(true);
            most = self.number()?;
            self.space(true);
        } else if least.is_none() {
            return self.wrong("a number");
        }
        if !self.take('}') {
            return self.wrong("\"}\"");
        }
        let least = least.unwrap_or(0);
        if most.is_some_and(|most| most < least) {
            return Err(format!("line {}: at least {least} and fewer are no number", self.line));
        }
        Ok((least, most))
    }

    fn number(&mut self) -> Result<Option<u32>, String> {
        let mut digits = String::new();
        while let Some(&letter) = self.letters.peek() {
            if !letter.is_ascii_digit() {
                break;
            }
            digits.push(letter);
            self.next();
        }
        if digits.is_empty() {
            return Ok(None);
        }
        match digits.parse() {
            Ok(number) if number <= MOST_REPEATS => Ok(Some(number)),
            _ => Err(format!(
                "line {}: expected at most {MOST_REPEATS} repetitions, found {digits}",
                self.line
            )),
        }
    }

    fn literal(&mut self) -> Result<Part, String> {
        self.next();
        let mut text = String::new();
        loop {
            match self.letters.peek() {
                None | Some('\n') => return self.wrong("the end of a text, '\"'"),
                Some('"') => {
                    self.next();
                    return Ok(Part::Literal(text));
                }
                Some(_) => text.push(self.letter()?),
            }
        }
    }

    fn class(&mut self) -> Result<Part, String> {
        self.next();
        let mut inside = String::new();
        let is_negated = self.take('^');
        while !self.take(']') {
            if matches!(self.letters.peek(), None | Some('\n')) {
                return self.wrong("the end of a class, ']'");
            }
            let from = self.letter()?;
            let mut to = from;
            if self.take('-') {
                if self.letters.peek() == Some(&']') {
                    inside.push_str(&ranged('-', '-'));
                } else {
                    to = self.letter()?;
                }
            }
            if to < from {
                return Err(format!("line {}: {from:?}-{to:?} is no range", self.line));
            }
            inside.push_str(&ranged(from, to));
        }
        match (inside.is_empty(), is_negated) {
            (true, true) => Ok(Part::Any),
            (true, false) => Err(format!("line {}: a class without letters", self.line)),
            (false, _) => Ok(Part::Class(format!("{}{inside}", if is_negated { "^" } else { "" }))),
        }
    }

    /// One letter, perhaps escaped.
    fn letter(&mut self) -> Result<char, String> {
        let Some(letter) = self.next() else { return self.wrong("a letter") };
        if letter != '\\' {
            return Ok(letter);
        }
        let Some(escaped) = self.next() else { return self.wrong("a letter after \"\\\"") };
        let digits = match escaped {
            'n' => return Ok('\n'),
            'r' => return Ok('\r'),
            't' => return Ok('\t'),
            '"' | '\\' | '[' | ']' | '-' | '^' | '/' => return Ok(escaped),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            other => {
                return Err(format!("line {}: \"\\{other}\" is no escape", self.line));
            }
        };
        let mut number = 0;
        for _ in 0..digits {
            match self.letters.peek().and_then(|letter| letter.to_digit(16)) {
                Some(digit) => number = number * 16 + digit,
                None => return self.wrong("a hexadecimal digit"),
            }
            self.next();
        }
        match char::from_u32(number) {
            Some(letter) => Ok(letter),
            None => Err(format!("line {}: there is no letter {number:#x}", self.line)),
        }
    }

    /// `<[7]>`, a token by its id, `!<[7]>`, any other, or `<think>`, one by its text.
    fn token(&mut self) -> Result<Part, String> {
        let is_negated = self.take('!');
        let mut name = String::new();
        if !self.take('<') {
            return self.wrong("\"<\"");
        }
        loop {
            match self.letters.peek() {
                None | Some('\n' | ' ' | '<') => return self.wrong("the end of a token, '>'"),
                Some('>') => break,
                Some(&letter) => name.push(letter),
            }
            self.next();
        }
        self.next();
        let id = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        match id.map(str::parse::<u32>) {
            Some(Ok(id)) if is_negated => Ok(Part::Token(format!("<[^{id}]>"))),
            Some(Ok(id)) => Ok(Part::Token(format!("<[{id}]>"))),
            Some(Err(_)) => {
                Err(format!("line {}: expected the id of a token, found <{name}>", self.line))
            }
            None if is_negated => Err(format!(
                "line {}: \"!<{name}>\": a token that may not come is said by its id, !<[id]>",
                self.line
            )),
            None => Ok(Part::Token((self.mark)(&format!("<{name}>")))),
        }
    }
}

/// A range for a class of a regular expression, by numbers: nothing has to be escaped.
fn ranged(from: char, to: char) -> String {
    let hex = |letter: char| format!("\\x{{{:x}}}", u32::from(letter));
    if from == to { hex(from) } else { format!("{}-{}", hex(from), hex(to)) }
}
