//! Server-sent events.

use serde::Serialize;

/// What clients skip.
pub(super) const COMMENT: &[u8] = b": keep-alive\n\n";

/// The event after which `OpenAI`'s clients read no more.
pub(super) const DONE: &[u8] = b"data: [DONE]\n\n";

/// Writes one event.
pub(super) fn event(name: Option<&str>, data: &impl Serialize, out: &mut Vec<u8>) {
    if let Some(name) = name {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
    let start = out.len();
    json(data, out);
    escape_line_ends(start, out);
    out.extend_from_slice(b"\n\n");
}

/// Writes JSON.
pub(super) fn json(data: &impl Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(out, data).expect("answers are json: their keys are texts");
}

/// Characters at which some clients split lines, in UTF-8, with their escapes. All others that
/// Python's `splitlines` knows are control characters, which JSON escapes.
const LINE_ENDS: [(&[u8], &[u8]); 3] =
    [(b"\xC2\x85", b"\\u0085"), (b"\xE2\x80\xA8", b"\\u2028"), (b"\xE2\x80\xA9", b"\\u2029")];

/// They can only stand inside of strings, where an escape says the same.
fn escape_line_ends(start: usize, out: &mut Vec<u8>) {
    let ends_at = |at: usize, out: &[u8]| {
        LINE_ENDS.iter().find(|(end, _)| out[at..].starts_with(end)).copied()
    };
    let first = (start..out.len()).find(|&at| ends_at(at, out).is_some());
    let Some(first) = first else { return };
    let rest = out.split_off(first);
    let mut at = 0;
    while at < rest.len() {
        if let Some((end, escape)) = ends_at(at, &rest) {
            out.extend_from_slice(escape);
            at += end.len();
        } else {
            out.push(rest[at]);
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_however_lines_are_split() {
        let text = "a\u{85}b\u{2028}\u{2029}ü\r\n\u{b}\u{c}\u{1c}\u{1d}\u{1e}。\u{2027}";
        let mut out = b"before\xE2\x80\xA8".to_vec();
        event(Some("e"), &text, &mut out);
        let sent = String::from_utf8(out).expect("text");
        let line = sent.strip_prefix("before\u{2028}event: e\ndata: ").expect("an event");
        let line = line.strip_suffix("\n\n").expect("an empty line");
        let ends = ['\u{85}', '\u{2028}', '\u{2029}', '\n', '\r', '\u{b}', '\u{c}', '\u{1c}'];
        assert!(!line.contains(ends), "{line}");
        assert_eq!(serde_json::from_str::<String>(line).expect("json"), text);
    }
}
