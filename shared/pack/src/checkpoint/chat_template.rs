//! Which of the known prompts a chat template is, if it is one of them to the letter.
//!
//! sentence-transformers puts query and document of a pair into the model's chat template, as messages of these roles (and
//! the instruction as one of the role `system`). A template that only looks like a known prompt, with another instruction or
//! a line break less, gives other scores. So its text is read as `transformers` would render it: the blanks that tags take
//! away are taken away, and what remains is text and places for the messages. Of Jinja that takes but
//!
//! ```text
//! {{ NAME }}   {{ MESSAGE }}   {% set NAME = MESSAGE %}
//! MESSAGE      messages | selectattr("role", "eq", ROLE) | map(attribute="content") | first [| default(TEXT)]
//!              (messages | selectattr("role", "eq", ROLE) | first).content
//! ```
//!
//! A template with anything else in it is none of the known ones here, even where it would render to the same.

use std::collections::BTreeMap;

use defrost_tasks::{mxbai_pieces, qwen3_pieces};
use serde_json::Value;

use super::optional_beside_weights;
use crate::Error;
use crate::formats::Checkpoint;

/// What a checkpoint has of chat templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChatTemplate {
    Absent,
    /// The prompt of this name.
    Known(&'static str),
    Other,
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Query,
    Document,
}

/// A token of the template's source.
#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    Text(String),
    Expression(&'a str),
    Statement(&'a str),
}

/// The template of the checkpoint: `chat_template.jinja`, or what `tokenizer_config.json` has.
pub(crate) fn read(checkpoint: &Checkpoint) -> Result<ChatTemplate, Error> {
    let in_file = checkpoint.file_beside_weights("chat_template.jinja")?;
    if let Some(bytes) = in_file {
        return Ok(named(&String::from_utf8_lossy(&bytes)));
    }
    let config: Option<Value> = optional_beside_weights(checkpoint, "tokenizer_config.json")?;
    Ok(match config.map(|config| config["chat_template"].clone()) {
        None | Some(Value::Null) => ChatTemplate::Absent,
        Some(Value::String(template)) => named(&template),
        // Several by name, of which the one called so is used.
        Some(Value::Array(several)) => several
            .iter()
            .find(|one| one["name"] == "default")
            .and_then(|one| one["template"].as_str())
            .map_or(ChatTemplate::Other, named),
        Some(_) => ChatTemplate::Other,
    })
}

fn named(template: &str) -> ChatTemplate {
    let known = |[before, between, after]: [String; 3]| {
        let text = Piece::Text;
        vec![text(before), Piece::Query, text(between), Piece::Document, text(after)]
    };
    match pieces(template) {
        Some(found) if found == known(qwen3_pieces()) => ChatTemplate::Known("qwen3-reranker"),
        Some(found) if found == known(mxbai_pieces()) => ChatTemplate::Known("mxbai-rerank-v2"),
        _ => ChatTemplate::Other,
    }
}

/// What the template renders to; `None` if it has anything but texts and messages.
fn pieces(template: &str) -> Option<Vec<Piece>> {
    let mut names: BTreeMap<&str, Piece> = BTreeMap::new();
    let mut all: Vec<Piece> = Vec::new();
    for token in tokens(template)? {
        let piece = match token {
            Token::Text(text) => Piece::Text(text),
            Token::Expression(text) => match names.get(text) {
                Some(piece) => piece.clone(),
                None => message(text)?,
            },
            Token::Statement(text) => {
                let (name, value) = text.strip_prefix("set ")?.split_once('=')?;
                let name = name.trim();
                let is_name = name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_');
                if !is_name || name == "messages" {
                    return None;
                }
                names.insert(name, message(value)?);
                continue;
            }
        };
        match (all.last_mut(), piece) {
            (Some(Piece::Text(before)), Piece::Text(text)) => before.push_str(&text),
            (_, Piece::Text(text)) if text.is_empty() => {}
            (_, piece) => all.push(piece),
        }
    }
    Some(all)
}

/// The message that an expression takes, or the instruction's own text where no message gives one.
fn message(expression: &str) -> Option<Piece> {
    let (bare, texts) = bare(expression)?;
    let forms = [
        r#"messages|selectattr("","","")|map(attribute="")|first"#,
        r#"(messages|selectattr("","","")|first).content"#,
        r#"(messages|selectattr("","","")|first)[""]"#,
        r#"messages|selectattr("","","")|map(attribute="")|first|default("")"#,
    ];
    let at = forms.iter().position(|form| *form == bare)?;
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    match (at, texts.as_slice()) {
        (0 | 2, ["role", "eq" | "equalto" | "==", role, "content"])
        | (1, ["role", "eq" | "equalto" | "==", role]) => match *role {
            "query" => Some(Piece::Query),
            "document" => Some(Piece::Document),
            _ => None,
        },
        (3, ["role", "eq" | "equalto" | "==", "system", "content", text]) => {
            Some(Piece::Text((*text).to_owned()))
        }
        _ => None,
    }
}

/// An expression without blanks and with its strings taken out, and these; `None` of strings with escapes in them.
fn bare(expression: &str) -> Option<(String, Vec<String>)> {
    let (mut bare, mut texts) = (String::new(), Vec::new());
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        match first {
            '"' | '\'' => {
                let (text, after) = rest.split_once(first)?;
                if text.contains('\\') {
                    return None;
                }
                texts.push(text.to_owned());
                bare.push_str("\"\"");
                rest = after;
            }
            blank if blank.is_whitespace() => {}
            other => bare.push(other),
        }
    }
    Some((bare, texts))
}

/// The source's tokens, blanks taken away as `transformers` has Jinja do it: a `-` takes all on its side, a line break
/// after a statement goes, blanks before one at the beginning of a line go, and so does a line break at the end of all.
fn tokens(template: &str) -> Option<Vec<Token<'_>>> {
    let template = template.strip_suffix('\n').unwrap_or(template);
    let mut all = Vec::new();
    let (mut rest, mut strips, mut after_statement) = (template, false, false);
    // Whether what is left stands at the beginning of a line.
    let mut at_margin = true;
    loop {
        let open = rest.find("{{").into_iter().chain(rest.find("{%")).chain(rest.find("{#")).min();
        let mut text = &rest[..open.unwrap_or(rest.len())];
        let whole = text;
        if strips {
            text = text.trim_start();
        } else if after_statement {
            text = text.strip_prefix('\n').unwrap_or(text);
        }
        let Some(open) = open else {
            all.push(Token::Text(text.to_owned()));
            return Some(all);
        };
        let is_statement = rest[open..].starts_with("{%");
        let close = if is_statement { "%}" } else { "}}" };
        let inside = &rest[open + 2..];
        // Comments and what a string may hide are not worth reading.
        let end = inside.find(close).filter(|_| !rest[open..].starts_with("{#"))?;
        let (inner, after) = (&inside[..end], &inside[end + 2..]);
        if inner.starts_with('-') {
            text = text.trim_end();
        } else if is_statement && !inner.starts_with('+') {
            let blanks = |line: &str| line.chars().all(|char| char == ' ' || char == '\t');
            let line = whole.rfind('\n').map(|at| &whole[at + 1..]);
            let line = line.or_else(|| at_margin.then_some(whole));
            if let Some(line) = line.filter(|line| blanks(line)) {
                text = text.strip_suffix(line).unwrap_or_default();
            }
        }
        all.push(Token::Text(text.to_owned()));
        strips = inner.ends_with('-');
        after_statement = is_statement && !inner.ends_with('+');
        at_margin = is_statement && after.starts_with('\n');
        let inner = inner.trim_matches(['-', '+']).trim();
        all.push(if is_statement { Token::Statement(inner) } else { Token::Expression(inner) });
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n<Query>: {{ messages | selectattr(\"role\", \"eq\", \"query\") | map(attribute=\"content\") | first }}\n<Document>: {{ messages | selectattr(\"role\", \"eq\", \"document\") | map(attribute=\"content\") | first }}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n\n";
    const INSTRUCTION: &str =
        "Given a web search query, retrieve relevant passages that answer the query";

    /// Each piece of these matters, as sentence-transformers scores them otherwise.
    #[test]
    fn a_template_is_known_to_the_letter() {
        let query = r#"{{ messages | selectattr("role", "eq", "query") | map(attribute="content") | first }}"#;
        let document = query.replace("\"query\"", "\"document\"");
        let system = r#"messages | selectattr("role", "eq", "system") | map(attribute="content") | first | default("Given a web search query, retrieve relevant passages that answer the query")"#;
        let set = |name: &str, value: &str| {
            let value = value.trim_start_matches("{{").trim_end_matches("}}");
            format!("{{%- set {name} = {value} -%}}\n")
        };
        let named_first = [
            set("instruction", system),
            set("query_text", query),
            set("document_text", &document),
            OWN.replace(INSTRUCTION, "{{ instruction }}")
                .replace(query, "{{ query_text }}")
                .replace(&document, "{{- document_text }}")
                .replace("<Document>: {{-", "<Document>: {{"),
        ];
        for same in [
            OWN.to_owned(),
            named_first.concat(),
            named_first.concat().replace("-%}", "%}").replace("{%-", "{%"),
            OWN.replace(INSTRUCTION, &format!("{{{{ {system} }}}}")),
            OWN.replace(
                query,
                "{{ (messages|selectattr('role','equalto','query')|first).content }}",
            ),
            OWN.replace(query, "{{(messages|selectattr('role','eq','query')|first)['content']}}"),
        ] {
            assert_eq!(named(&same), ChatTemplate::Known("qwen3-reranker"), "{same}");
        }
        for other in [
            OWN.replace("retrieve", "find"),
            OWN.replace("<think>\n\n</think>\n\n", ""),
            OWN.replace(query, "{{ }}").replace(&document, query).replace("{{ }}", &document),
            OWN.strip_suffix('\n').unwrap().to_owned(),
            format!("{OWN}\n"),
            OWN.replace(&format!("<Instruct>: {INSTRUCTION}\n"), ""),
            OWN.replace("<Query>", "Hello\n<Query>"),
            OWN.replace("first }}\n", "first | upper }}\n"),
            OWN.replace("first }}\n", "first -}}\n"),
            OWN.replace("<Query>: {{", "<Query>: {{-"),
            OWN.replace("system\nJudge", "system\nFoo"),
            OWN.replace(query, "{{ query_text }}"),
            OWN.replace("\"content\"", "\"text\""),
            format!("{{% if true %}}{OWN}{{% endif %}}"),
            format!("{{# a comment #}}{OWN}"),
            format!("{OWN}{{{{"),
            "{% for m in messages %}{{ m.content }}{% endfor %}".to_owned(),
            String::new(),
        ] {
            assert_eq!(named(&other), ChatTemplate::Other, "{other}");
        }
    }

    /// As Jinja renders them with `trim_blocks` and `lstrip_blocks`.
    #[test]
    fn blanks_go_as_in_jinja() {
        let query = r#"(messages|selectattr("role","eq","query")|first).content"#;
        for (template, expected) in [
            ("a\n", "a"),
            ("a\n\n", "a\n"),
            ("a {%- set x = Q -%} b", "ab"),
            ("a\n  {% set x = Q %}\nb", "a\nb"),
            ("a  {% set x = Q %}\nb", "a  b"),
            ("  {% set x = Q %}b", "b"),
            ("a\n  {%+ set x = Q %}\nb", "a\n  b"),
            ("a{% set x = Q +%}\nb", "a\nb"),
            ("{% set x = Q %}  {% set y = Q %}b", "  b"),
        ] {
            let found = pieces(&template.replace('Q', query)).unwrap();
            assert_eq!(found, [Piece::Text(expected.into())], "{template}");
        }
    }
}
