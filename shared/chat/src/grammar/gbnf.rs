//! llama.cpp's grammars (GBNF) as Lark.
//!
//! ```text
//! root   ::= object
//! object ::= "{" ws ( pair ("," ws pair)* )? "}" ws        literals, rules, groups, ? * + {m,n}, | between alternatives
//! ws     ::= | " " | "\n" [ \t]{0,20}                       classes of letters, an empty alternative; `.` is any letter
//! ```
//!
//! GBNF has no lexemes, Lark has: what is regular becomes one, as large as it can be, since lexemes are matched greedily and
//! the fewer there are the less their borders matter. A rule is regular if nothing in it leads back to it; a run of regular
//! parts within another rule becomes a lexeme of its own. What the result accepts the grammar accepts.

use std::collections::HashMap;
use std::iter::Peekable;
use std::str::Chars;

use super::lark::quoted;

/// The most repetitions of one part.
const MOST_REPEATS: u32 = 2_000;
/// Nesting of groups.
const DEEPEST: usize = 100;

#[derive(Debug)]
enum Part {
    Literal(String),
    /// A class of letters, as the inside of a class of a regular expression.
    Class(String),
    Any,
    Rule(String),
    /// A token, as Lark writes it.
    Token(String),
    Group(Vec<Alternative>),
}

#[derive(Debug)]
struct Item {
    part: Part,
    least: u32,
    /// `None`: any number.
    most: Option<u32>,
}

type Alternative = Vec<Item>;

/// Lark of a grammar; `mark` is what stands for a text that may be a special token.
///
/// # Errors
/// What is wrong with it, and in which line.
pub(super) fn to_lark(grammar: &str, mark: &dyn Fn(&str) -> String) -> Result<String, String> {
    let rules = Parser { letters: grammar.chars().peekable(), line: 1, depth: 0, mark }.rules()?;
    let numbers: HashMap<&str, usize> =
        rules.iter().enumerate().map(|(at, (name, _))| (name.as_str(), at)).collect();
    if !numbers.contains_key("root") {
        return Err("it has no rule \"root\"".to_owned());
    }
    for (name, body) in &rules {
        let mut names = Vec::new();
        names_of(body, &mut names);
        if let Some(unknown) = names.iter().find(|name| !numbers.contains_key(*name)) {
            return Err(format!(
                "the rule {name:?} needs the rule {unknown:?}, which is not there"
            ));
        }
    }
    let regular = regular_rules(&rules, &numbers);
    let mut writer = Writer { numbers: &numbers, regular: &regular, lines: Vec::new(), lexemes: 0 };
    writer.lines.push(format!("start: {}", writer.name("root")));
    for (name, body) in &rules {
        let written = if regular[numbers[name.as_str()]] {
            writer.regular(body)
        } else {
            writer.alternatives(body)
        };
        let line = format!("{}: {written}", writer.name(name));
        writer.lines.push(line);
    }
    Ok(writer.lines.join("\n"))
}

fn names_of<'a>(alternatives: &'a [Alternative], names: &mut Vec<&'a str>) {
    for item in alternatives.iter().flatten() {
        match &item.part {
            Part::Rule(name) => names.push(name),
            Part::Group(inner) => names_of(inner, names),
            _ => {}
        }
    }
}

fn has_tokens(alternatives: &[Alternative]) -> bool {
    alternatives.iter().flatten().any(|item| match &item.part {
        Part::Token(_) => true,
        Part::Group(inner) => has_tokens(inner),
        _ => false,
    })
}

/// Rules from which only rules are reached that do not lead back, and no tokens: found from those that need none.
fn regular_rules(
    rules: &[(String, Vec<Alternative>)],
    numbers: &HashMap<&str, usize>,
) -> Vec<bool> {
    let needs: Vec<Vec<usize>> = rules
        .iter()
        .map(|(_, body)| {
            let mut names = Vec::new();
            names_of(body, &mut names);
            names.iter().map(|name| numbers[name]).collect()
        })
        .collect();
    let mut regular = vec![false; rules.len()];
    loop {
        let more: Vec<usize> = (0..rules.len())
            .filter(|&at| !regular[at] && !has_tokens(&rules[at].1))
            .filter(|&at| needs[at].iter().all(|&needed| regular[needed]))
            .collect();
        if more.is_empty() {
            return regular;
        }
        for at in more {
            regular[at] = true;
        }
    }
}

struct Writer<'a> {
    numbers: &'a HashMap<&'a str, usize>,
    regular: &'a [bool],
    lines: Vec<String>,
    lexemes: usize,
}

impl Writer<'_> {
    /// Lark's name of a rule: lexemes are in capitals.
    fn name(&self, rule: &str) -> String {
        let number = self.numbers[rule];
        if self.regular[number] { format!("R{number}") } else { format!("r{number}") }
    }

    fn is_regular(&self, item: &Item) -> bool {
        match &item.part {
            Part::Literal(_) | Part::Class(_) | Part::Any => true,
            Part::Rule(name) => self.regular[self.numbers[name.as_str()]],
            Part::Token(_) => false,
            Part::Group(inner) => inner.iter().flatten().all(|item| self.is_regular(item)),
        }
    }

    fn regular(&self, alternatives: &[Alternative]) -> String {
        let written = alternatives.iter().map(|items| {
            let items: Vec<String> = items.iter().map(|item| self.one_regular(item)).collect();
            if items.is_empty() { "\"\"".to_owned() } else { items.join(" ") }
        });
        written.collect::<Vec<_>>().join(" | ")
    }

    fn alternatives(&mut self, alternatives: &[Alternative]) -> String {
        let written: Vec<String> = alternatives.iter().map(|items| self.sequence(items)).collect();
        written.join(" | ")
    }

    fn sequence(&mut self, items: &[Item]) -> String {
        let mut out = Vec::new();
        let mut at = 0;
        while at < items.len() {
            let run = items[at..].iter().take_while(|item| self.is_regular(item)).count();
            if run > 0 {
                let name = format!("L{}", self.lexemes);
                self.lexemes += 1;
                let parts: Vec<String> =
                    items[at..at + run].iter().map(|item| self.one_regular(item)).collect();
                self.lines.push(format!("{name}: {}", parts.join(" ")));
                out.push(name);
                at += run;
                continue;
            }
            let item = &items[at];
            let part = match &item.part {
                Part::Group(inner) => format!("({})", self.alternatives(inner)),
                other => self.atom(other),
            };
            out.push(repeated(&part, item));
            at += 1;
        }
        if out.is_empty() { "\"\"".to_owned() } else { out.join(" ") }
    }

    fn one_regular(&self, item: &Item) -> String {
        let part = match &item.part {
            Part::Group(inner) => format!("({})", self.regular(inner)),
            other => self.atom(other),
        };
        repeated(&part, item)
    }

    fn atom(&self, part: &Part) -> String {
        match part {
            Part::Literal(text) => quoted(text),
            Part::Class(inside) => format!("/[{inside}]/"),
            Part::Any => "/(?s:.)/".to_owned(),
            Part::Rule(name) => self.name(name),
            Part::Token(token) => token.clone(),
            Part::Group(inner) => format!("({})", self.regular(inner)),
        }
    }
}

fn repeated(part: &str, item: &Item) -> String {
    match (item.least, item.most) {
        (1, Some(1)) => part.to_owned(),
        (0, Some(1)) => format!("{part}?"),
        (0, None) => format!("{part}*"),
        (1, None) => format!("{part}+"),
        (least, Some(most)) => format!("{part}{{{least},{most}}}"),
        (least, None) => format!("{part}{{{least},}}"),
    }
}

struct Parser<'a> {
    letters: Peekable<Chars<'a>>,
    line: usize,
    depth: usize,
    mark: &'a dyn Fn(&str) -> String,
}

impl Parser<'_> {
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

    fn rules(mut self) -> Result<Vec<(String, Vec<Alternative>)>, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn lark(grammar: &str) -> Result<String, String> {
        to_lark(grammar, &quoted)
    }

    #[test]
    fn regular_rules_are_lexemes_and_others_are_not() {
        let grammar = "root ::= list # a comment\nlist ::= \"[\" ws (list | word (\",\" ws word)*)? \"]\"\n\
                       word ::= [a-c\\n] [^\"]{2,3} | .\nws ::= |\n  \" \"\n";
        let expected = "start: r0\nr0: r1\nL0: \"[\" R3\nL1: R2 (\",\" R3 R2)*\nL2: \"]\"\n\
                        r1: L0 (r1 | L1)? L2\nR2: /[\\x{61}-\\x{63}\\x{a}]/ /[^\\x{22}]/{2,3} | \
                        /(?s:.)/\nR3: \"\" | \" \"";
        assert_eq!(lark(grammar).as_deref(), Ok(expected));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (grammar, expected) in [
            ("", "it has no rule \"root\""),
            ("root ::= a", "the rule \"root\" needs the rule \"a\", which is not there"),
            ("root = \"a\"", "line 1: expected \"::=\", found '='"),
            ("root ::= \"a", "line 1: expected the end of a text, '\"', found its end"),
            ("root ::= \"a\"\nx ::= [b", "line 2: expected the end of a class, ']', found its end"),
            ("root ::= (\"a\"", "line 1: expected \")\", found its end"),
            ("root ::= \"a\" )", "line 1: expected the end of the rule, found ')'"),
            ("root ::= \"a\"{3,2}", "line 1: at least 3 and fewer are no number"),
            ("root ::= \"a\"{9999}", "line 1: expected at most 2000 repetitions, found 9999"),
            ("root ::= \"\\q\"", "line 1: \"\\q\" is no escape"),
            ("root ::= \"a\"\nroot ::= \"b\"", "line 2: there are two rules \"root\""),
            ("root ::= [b-a]", "line 1: 'b'-'a' is no range"),
            ("root ::= []", "line 1: a class without letters"),
            (
                "root ::= !<think>",
                "line 1: \"!<think>\": a token that may not come is said by its id, !<[id]>",
            ),
        ] {
            assert_eq!(lark(grammar), Err(expected.to_owned()), "{grammar}");
        }
    }
}
