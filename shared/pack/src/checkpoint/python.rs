//! The part of a Python file that a class is made of, for checks that read code without running it.
//!
//! A file of a model's own code mostly holds several classes: attention of two kinds, a model, heads for tasks. What one of
//! them does says nothing about another. So comments and the text of strings are taken out, the file is cut into its
//! top-level statements, and of these are kept the class itself and whatever top-level class, function or variable is named
//! in what is kept already: what it inherits and what it builds. That may keep too much, as a name may be mentioned and not
//! used, but not another model's class.

use std::collections::{BTreeMap, BTreeSet};

/// A top-level statement: its name, if it defines one, and its lines without comments and strings.
#[derive(Debug, Default)]
struct Statement {
    name: Option<String>,
    lines: Vec<String>,
}

/// The lines of the class and of all that is reached from it by name; `None` if the file does not define it.
pub(crate) fn reachable(code: &str, class: &str) -> Option<Vec<String>> {
    let statements = statements(&bare(code));
    let mut named: BTreeMap<&str, Vec<&Statement>> = BTreeMap::new();
    for statement in &statements {
        if let Some(name) = &statement.name {
            named.entry(name).or_default().push(statement);
        }
    }
    let defines =
        |statement: &&Statement| statement.lines.iter().any(|line| line.starts_with("class "));
    named.get(class)?.iter().copied().find(defines)?;
    let mut kept = Vec::new();
    let mut seen = BTreeSet::from([class]);
    let mut next = vec![class];
    while let Some(name) = next.pop() {
        for line in named.get(name).into_iter().flatten().flat_map(|statement| &statement.lines) {
            for word in words(line) {
                if let Some((&name, _)) = named.get_key_value(word)
                    && seen.insert(name)
                {
                    next.push(name);
                }
            }
            kept.push(line.clone());
        }
    }
    Some(kept)
}

/// Words that a line begins with whose block may not be run.
const CONDITIONS: [&str; 9] =
    ["if", "elif", "else", "try", "except", "finally", "while", "match", "case"];

/// Whether a line is under a condition, other than one on the type of a mask that is passed in.
pub(crate) fn is_conditional(lines: &[String], at: usize) -> bool {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let condition = |line: &str| {
        let first = words(line.trim_start()).next().unwrap_or_default();
        let on_type = line.contains("isinstance(") && line.contains("attention_mask");
        CONDITIONS.contains(&first) && !on_type
    };
    let Some(line) = lines.get(at) else { return false };
    let (mut within, mut found) = (depth(line), condition(line));
    for line in lines[..at].iter().rev().filter(|line| !line.trim().is_empty()) {
        if found || within == 0 {
            break;
        }
        // The last line of a header of several lines: its first is as far to the left.
        if depth(line) < within {
            let ends = line.trim_start().starts_with([')', ']', '}']);
            within = depth(line) + usize::from(ends);
            found = condition(line);
        }
    }
    found
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|character: char| !(character.is_alphanumeric() || character == '_'))
}

/// The code without comments and without what stands in strings; lines stay lines.
fn bare(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        match first {
            '#' => rest = &rest[rest.find('\n').unwrap_or(rest.len())..],
            '"' | '\'' => {
                let triple = first.to_string().repeat(3);
                let quote = if rest.starts_with(&triple) { &triple[..] } else { &triple[..1] };
                out.push_str("\"\"");
                rest = after_string(&rest[quote.len()..], quote);
            }
            _ => {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    out
}

/// What follows a string, of which the opening quote is gone.
fn after_string<'a>(text: &'a str, quote: &str) -> &'a str {
    let mut at = 0;
    let bytes = text.as_bytes();
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            // What is not closed ends with its line.
            b'\n' if quote.len() == 1 => return &text[at..],
            _ if bytes[at..].starts_with(quote.as_bytes()) => return &text[at + quote.len()..],
            _ => at += 1,
        }
    }
    ""
}

/// Cuts bare code where a line begins at the margin outside of all brackets.
fn statements(code: &str) -> Vec<Statement> {
    let mut all: Vec<Statement> = Vec::new();
    let (mut depth, mut decorated, mut continued) = (0_usize, false, false);
    for line in code.lines() {
        let at_margin = line.starts_with(|character: char| !character.is_whitespace());
        if at_margin && depth == 0 && !decorated && !continued {
            all.push(Statement::default());
        }
        if at_margin && depth == 0 && !continued {
            decorated = line.starts_with('@');
            if let Some(last) = all.last_mut().filter(|_| !decorated) {
                last.name = defined(line).map(str::to_owned);
            }
        }
        continued = line.ends_with('\\');
        for character in line.chars() {
            match character {
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        if let Some(last) = all.last_mut() {
            last.lines.push(line.to_owned());
        }
    }
    all
}

/// The name that a top-level statement defines.
fn defined(line: &str) -> Option<&str> {
    let rest = ["class ", "async def ", "def "].iter().find_map(|word| line.strip_prefix(word));
    if let Some(rest) = rest {
        return words(rest.trim_start()).next().filter(|name| !name.is_empty());
    }
    // `NAME = …` or `NAME: type = …`; what is assigned to a part of something defines nothing.
    let end = line.find(|character: char| !(character.is_alphanumeric() || character == '_'))?;
    let (name, rest) = line.split_at(end);
    let rest = rest.trim_start();
    let assigns = rest.starts_with('=') && !rest.starts_with("==") || rest.starts_with(": ");
    assigns.then_some(name).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = r#"
"""A docstring with text
at the margin, and class Other: x.is_causal = False"""
from transformers import Base
TABLE = {
    "eager": Attention,
}

class Attention(Base):
    def __init__(self):
        self.kind = 'self.is_causal = False'  # self.is_causal = False
        self.left = 1

@decorated(
    with_arguments,
)
class Own(
    Middle,
):
    """Unlike
Other, which is at the margin in here."""
    def build(self):
        return TABLE["eager"](helper())

class Middle(Base):
    middle = 1

def helper():
    return 2

class Other(Base):
    other = Own
"#;

    #[test]
    fn a_class_is_kept_with_what_it_inherits_and_builds() {
        let kept = |class: &str| reachable(CODE, class).map(|lines| lines.join("\n"));
        let own = kept("Own").unwrap();
        for part in
            ["class Own", "class Middle", "self.left", "TABLE = {", "return 2", "@decorated"]
        {
            assert!(own.contains(part), "{part}: {own}");
        }
        assert!(!own.contains("other = Own") && !own.contains("is_causal"), "{own}");
        assert!(kept("Other").unwrap().contains("middle = 1"));
        assert!(!kept("Middle").unwrap().contains("self.left"));
        for absent in ["Base", "helper", "TABLE", "Absent", ""] {
            assert_eq!(kept(absent), None, "{absent}");
        }
    }

    #[test]
    fn a_line_under_a_condition_is_known() {
        for (code, expected) in [
            ("class A:\n  def f(s):\n    HERE", false),
            ("class A:\n  def f(s):\n    for l in s:\n      HERE", false),
            ("class A:\n  def f(\n    s, HERE\n  ): pass", false),
            ("class A:\n  def f(s):\n    if False:\n      pass\n    HERE", false),
            ("if x:\n  pass\nclass A:\n  HERE", false),
            ("  if not isinstance(m := attention_mask, dict):\n    HERE", false),
            ("class A:\n  def f(s):\n    if False:\n      for l in s:\n\n        HERE", true),
            ("class A:\n  def f(s):\n    if (\n      x\n    ):\n      HERE", true),
            ("class A:\n  def f(s):\n    if False: HERE", true),
            ("try:\n  HERE", true),
            ("  else:\n    HERE", true),
            ("  iffy()\n    HERE", false),
        ] {
            let lines: Vec<String> = code.lines().map(str::to_owned).collect();
            let at = lines.iter().position(|line| line.contains("HERE")).unwrap();
            assert_eq!(is_conditional(&lines, at), expected, "{code}");
        }
        assert!(!is_conditional(&[], 0));
    }

    /// Anything may stand in a folder under that name.
    #[test]
    fn code_that_is_none_is_read_to_its_end() {
        for code in [
            "class",
            "class A",
            "'",
            "\"\"\"",
            "class A:\n  '\\",
            "((((",
            "\\",
            "@",
            "class A:\n  x = 'é\\é",
            "a:",
            "=",
        ] {
            assert!(reachable(code, "A").is_none_or(|lines| lines.len() <= 2), "{code}");
        }
        assert_eq!(reachable("class A(B):\n  x = f'''{\n'''\n  y = 1", "A").unwrap().len(), 3);
    }
}
