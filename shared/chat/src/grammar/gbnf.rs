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

mod parser;

use std::collections::HashMap;

use super::lark::quoted;
use parser::Parser;

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
    let rules = Parser::new(grammar, mark).rules()?;
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
