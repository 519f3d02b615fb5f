//! The little XML that S3 speaks: text is escaped on the way out, and the one document that is
//! read, the list of parts of a finished upload, is searched for its elements.

use std::fmt::Write as _;

/// What every document begins with.
pub(super) const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// The namespace of the documents that are not errors.
pub(super) const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// Text as the content of an element. Control characters become references, as S3 does it, although
/// XML 1.0 has no way to write most of them.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            control if control.is_control() => {
                // Writing into a string cannot fail.
                let _ = write!(escaped, "&#x{:X};", u32::from(control));
            }
            other => escaped.push(other),
        }
    }
    escaped
}

/// The text that [`escape`] came from; what is no reference stays as it is.
pub(super) fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        plain.push_str(&rest[..start]);
        rest = &rest[start..];
        let reference = rest.find(';').and_then(|end| Some((character(&rest[1..end])?, end + 1)));
        let (character, len) = reference.unwrap_or(('&', 1));
        plain.push(character);
        rest = &rest[len..];
    }
    plain.push_str(rest);
    plain
}

fn character(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)
        }
    }
}

/// `<name>text</name>`
pub(super) fn element(name: &str, text: &str) -> String {
    format!("<{name}>{}</{name}>", escape(text))
}

/// The contents of all elements of this name, still escaped. Elements of one name do not nest in
/// what S3's clients send, and carry no attributes.
pub(super) fn contents<'a>(document: &'a str, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    document
        .split(&open)
        .skip(1)
        .filter_map(|rest| rest.split_once(&close).map(|(content, _)| content))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes() {
        assert_eq!(escape("a<b>&\"c'\r\u{1}"), "a&lt;b&gt;&amp;&quot;c&apos;&#xD;&#x1;");
        assert_eq!(unescape("&#34;&#x22;&quot;&nbsp;&;&"), "\"\"\"&nbsp;&;&");
    }

    #[test]
    fn finds_elements() {
        let document = "<A><B>1</B><C/><B>2</B><B>open</A>";
        assert_eq!(contents(document, "B"), ["1", "2"]);
        assert!(contents(document, "D").is_empty());
    }

    proptest! {
        #[test]
        fn unescape_undoes_escape(text in any::<String>()) {
            let escaped = escape(&text);
            prop_assert!(!escaped.contains(['<', '>', '"', '\'']));
            prop_assert_eq!(unescape(&escaped), text);
        }

        #[test]
        fn unescape_takes_anything(text in "[&#x;a0-9]{0,20}") {
            unescape(&text);
        }
    }
}
