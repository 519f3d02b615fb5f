//! Regular expressions of schemas, which are ECMA's, in the dialect of Rust's crates.
//!
//! Most of what is written means the same in both. What does not is rewritten: `[`, `&`, `~` and `-` make sets of classes
//! within a class in Rust's and stand for themselves in ECMA's; `\s` is another set of letters; a name of a group is only a
//! name (llguidance gives one a meaning). What Rust's cannot, look-around and backreferences, its own error tells.

/// White space, as ECMA has it.
const SPACE: &str = "\\t-\\r \\xa0\\u{1680}\\u{2000}-\\u{200a}\\u{2028}\\u{2029}\\u{202f}\\u{205f}\\u{3000}\\u{feff}";

/// The same regular expression for llguidance.
pub(super) fn in_rust(pattern: &str) -> String {
    let (mut out, mut is_class) = (String::with_capacity(pattern.len()), false);
    let mut letters = pattern.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some((_, 's')) if is_class => out.push_str(SPACE),
                Some((_, 's')) => out.extend(["[", SPACE, "]"]),
                // Within a class, a class of its own.
                Some((_, 'S')) => out.extend(["[^", SPACE, "]"]),
                Some((_, other)) => out.extend(['\\', other]),
                None => out.push('\\'),
            },
            '[' if is_class => out.push_str("\\["),
            '&' | '~' if is_class => out.extend(['\\', letter]),
            '-' if is_class && letters.peek().is_some_and(|(_, next)| *next == '-') => {
                out.push_str("\\-");
            }
            '[' => {
                is_class = true;
                out.push('[');
                if letters.next_if(|(_, next)| *next == '^').is_some() {
                    out.push('^');
                }
                // To ECMA this is the end already: the empty class, or any letter.
                if letters.peek().is_some_and(|(_, next)| *next == ']') {
                    letters.next();
                    is_class = false;
                    let is_any = out.ends_with('^');
                    out.truncate(out.len() - 1 - usize::from(is_any));
                    out.push_str(if is_any { "(?s:.)" } else { "[a&&b]" });
                }
            }
            ']' if is_class => {
                is_class = false;
                out.push(']');
            }
            '(' if !is_class => {
                out.push('(');
                let rest = &pattern[at + 1..];
                let named = rest.strip_prefix("?<").or_else(|| rest.strip_prefix("?P<"));
                let name = named.filter(|name| !name.starts_with(['=', '!']));
                if let Some((name, _)) = name.and_then(|name| name.split_once('>')) {
                    out.push_str("?:");
                    let len = rest.len() - named.map_or(0, str::len) + name.len() + 1;
                    while letters.next_if(|(next, _)| *next < at + 1 + len).is_some() {}
                }
            }
            other => out.push(other),
        }
    }
    out
}

/// What the counted repetitions multiply to where they are within each other, as the largest such product; `None` beyond
/// all numbers. Braces that are no repetition count for nothing.
pub(super) fn repeats(pattern: &str) -> Option<u64> {
    // Of each open group, the largest product within it; and that of the part that a repetition would repeat.
    let (mut groups, mut last) = (vec![1u64], 1u64);
    let (mut letters, mut is_class) = (pattern.chars().peekable(), false);
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => {
                letters.next();
                last = 1;
            }
            '[' if !is_class => is_class = true,
            ']' if is_class => {
                is_class = false;
                last = 1;
            }
            _ if is_class => {}
            '(' => groups.push(1),
            ')' => {
                last = groups.pop().unwrap_or(1);
                if groups.is_empty() {
                    groups.push(1);
                }
            }
            '{' => {
                let mut inside = String::new();
                while let Some(inner) = letters.next_if(|next| *next != '}') {
                    inside.push(inner);
                }
                letters.next();
                let counts = inside.split(',').filter_map(|count| count.trim().parse::<u64>().ok());
                last = last.checked_mul(counts.max().unwrap_or(1).max(1))?;
            }
            '?' | '*' | '+' => {}
            _ => last = 1,
        }
        if let Some(group) = groups.last_mut() {
            *group = (*group).max(last);
        }
    }
    groups.into_iter().max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_have_no_sets() {
        for (ecma, rust) in [
            ("^[a-z]+\\d$", "^[a-z]+\\d$"),
            ("[[a]]", "[\\[a]]"),
            ("[a&&b~~c--d]", "[a\\&\\&b\\~\\~c\\--d]"),
            ("[^]|[]", "(?s:.)|[a&&b]"),
            ("(?<stop>a)(?P<b>c)(?:d)(?<=e)\\(?<x>", "(?:a)(?:c)(?:d)(?<=e)\\(?<x>"),
            ("[(?<a>]\\[[\\]a]", "[(?<a>]\\[[\\]a]"),
        ] {
            assert_eq!(in_rust(ecma), rust, "{ecma}");
        }
        assert_eq!(in_rust("\\s[\\s]\\S"), format!("[{SPACE}][{SPACE}][^{SPACE}]"));
    }

    #[test]
    fn repetitions_multiply_within_each_other() {
        for (pattern, expected) in [
            ("a{3}b{4,}", Some(4)),
            ("((a{10}b){20}c{5}){2,30}", Some(6000)),
            ("a{2}{3}", Some(6)),
            ("[a{9}]\\{7}{", Some(1)),
            ("(((a{9999999999}){9999999999}){9}", None),
            ("a{99999999999999999999999}", Some(1)),
        ] {
            assert_eq!(repeats(pattern), expected, "{pattern}");
        }
    }
}
