//! A template's source before it is compiled: two kinds of tags are written otherwise.
//!
//! * `{% generation %}` and its end become conditions that hold, with the same control of spaces.
//! * `{% set x = … %}` becomes `{% set x = (…)|… %}`: what is put into a variable is weighed. A template builds values without
//!   end no other way, lists within lists or a namespace within itself, and what prints, compares or drops such a value
//!   recurses, so that the stack would end where work is bounded.
//!
//! Texts in quotes, comments and raw blocks stay as they are.

use std::fmt::Write as _;

/// The filter of what is put into a variable.
pub(super) const ASSIGNED: &str = "__assigned";
/// The filter of what is put into a namespace.
pub(super) const KEPT: &str = "__kept";

/// The source for the compiler.
pub(super) fn prepared(source: &str) -> String {
    let mut out = String::with_capacity(source.len() + source.len() / 8);
    let mut rest = source;
    let mut is_raw = false;
    while let Some(at) = rest.find('{') {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let end = match tag.as_bytes().get(1) {
            Some(b'#') if !is_raw => tag[2..].find("#}").map(|end| end + 4),
            Some(b'{') if !is_raw => end_of(tag, "}}"),
            Some(b'%') if is_raw => tag.find("%}").map(|end| end + 2),
            Some(b'%') => end_of(tag, "%}"),
            _ => Some(1),
        };
        let Some(end) = end else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(end);
        rest = after;
        if !tag.starts_with("{%") {
            out.push_str(tag);
            continue;
        }
        let inside = tag[2..end - 2]
            .trim_matches(|letter: char| letter.is_whitespace() || "-+".contains(letter));
        match inside {
            "endraw" => is_raw = false,
            _ if is_raw => {
                // Within raw text a tag may begin that is none.
                out.push_str("{%");
                rest = &source[source.len() - after.len() - end + 2..];
                continue;
            }
            "raw" => is_raw = true,
            "generation" | "endgeneration" => {
                let word = if inside == "generation" { "if true" } else { "endif" };
                out.push_str(&tag.replacen(inside, word, 1));
                continue;
            }
            _ => {}
        }
        match assignment(inside) {
            Some((target, value)) => {
                let filter = if target.contains('.') { KEPT } else { ASSIGNED };
                let (open, close) =
                    (&tag[..2 + edge(&tag[2..])], &tag[end - 2 - edge_back(&tag[..end - 2])..]);
                // Writing to a String does not fail.
                let _ = write!(out, "{open} {target}=({value})|{filter} {close}");
            }
            None => out.push_str(tag),
        }
    }
    out.push_str(rest);
    out
}

fn edge(inside: &str) -> usize {
    usize::from(inside.starts_with(['-', '+']))
}

fn edge_back(tag: &str) -> usize {
    usize::from(tag.ends_with(['-', '+']))
}

/// Where a tag ends, past texts in quotes.
fn end_of(tag: &str, mark: &str) -> Option<usize> {
    outside_texts(tag, 2, |rest, _| rest.starts_with(mark.as_bytes())).map(|at| at + mark.len())
}

/// `set NAMES` and the value of an assignment.
fn assignment(inside: &str) -> Option<(&str, &str)> {
    let names = inside.strip_prefix("set")?;
    if !names.starts_with(|letter: char| letter.is_whitespace() || letter == '(') {
        return None;
    }
    let at = outside_texts(inside, 3, |rest, _| rest[0] == b'=')?;
    let (target, value) = (&inside[..at], &inside[at + 1..]);
    (!value.trim().is_empty()).then_some((target, value))
}

/// The first place from `begin` on, outside of texts in quotes, where this holds for what follows.
fn outside_texts(text: &str, begin: usize, holds: impl Fn(&[u8], usize) -> bool) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut quote) = (begin, None);
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (None, byte @ (b'"' | b'\'')) => quote = Some(byte),
            (None, _) if holds(&bytes[at..], at) => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_training_are_conditions_that_hold() {
        for (source, expected) in [
            ("a{%- generation -%}b{% endgeneration %}", "a{%- if true -%}b{% endif %}"),
            ("{% if generation %}x{% endif %}", "{% if generation %}x{% endif %}"),
            ("{% generation", "{% generation"),
            ("{%}{% generation %}", "{%}{% generation %}"),
            ("{# {% generation %} #}", "{# {% generation %} #}"),
            ("{{ '{% generation %}' }}", "{{ '{% generation %}' }}"),
            (
                "{% raw %}{% generation %}{% x {% endraw %}",
                "{% raw %}{% generation %}{% x {% endraw %}",
            ),
        ] {
            assert_eq!(prepared(source), expected);
        }
    }

    #[test]
    fn what_is_put_into_variables_is_weighed() {
        for (source, expected) in [
            ("é{% set x = '%}' %}", "é{% set x =( '%}')|__assigned %}"),
            ("{%- set ns.x = ns.x + [1] -%}", "{%- set ns.x =( ns.x + [1])|__kept -%}"),
            ("{%set x='=\\'%}' if a == b%}", "{% set x=('=\\'%}' if a == b)|__assigned %}"),
            ("{% set x, ns.y = 1, 2 +%}", "{% set x, ns.y =( 1, 2)|__kept +%}"),
            ("{% set x %}a{% endset %}", "{% set x %}a{% endset %}"),
            ("{% set x | upper %}a{% endset %}", "{% set x | upper %}a{% endset %}"),
            ("{% settle x = 1 %}", "{% settle x = 1 %}"),
            ("{% set x = %}", "{% set x = %}"),
            (
                "{% raw %}{% set x = 1 %}{% endraw %}{% set x = 1 %}",
                "{% raw %}{% set x = 1 %}{% endraw %}{% set x =( 1)|__assigned %}",
            ),
            ("{ {% set x = {'a': {}} %}", "{ {% set x =( {'a': {}})|__assigned %}"),
        ] {
            assert_eq!(prepared(source), expected);
        }
    }
}
