//! Schemas of others, with documents that are valid and documents that are not, against the grammars made of them.
//!
//! A schema is refused by name, or it is kept: every valid document comes through in one of the ways in which it may be
//! written, no invalid one does in any, and whatever comes through by chance is valid.
//!
//! A grammar fixes what JSON leaves open: white space, the order of the properties that a schema names, integers without
//! a fraction. So a document is tried in many [`forms`].

use defrost_chat::{Error, Grammar, GrammarCompiler, ResponseFormat, TokenConstraint};
use serde::Deserialize;
use serde_json::Value;

use crate::walking::{Chance, Vocabulary};

/// The most ways in which a document is written.
const MOST_FORMS: usize = 600;

/// A schema of a suite.
#[derive(Deserialize)]
pub(crate) struct Case {
    /// Which one it is.
    pub(crate) id: String,
    pub(crate) schema: Value,
    #[serde(default)]
    pub(crate) tests: Vec<Document>,
}

/// A document of a suite.
#[derive(Deserialize)]
pub(crate) struct Document {
    pub(crate) description: String,
    pub(crate) data: Value,
    pub(crate) valid: bool,
}

/// What became of a schema.
pub(crate) enum Verdict {
    /// It cannot be enforced, because of this.
    Refused(String),
    /// It can; these are the documents for which that is not so.
    Kept(Vec<Fault>),
}

/// Where a grammar is not the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// It lets an invalid document through: never.
    Accepts,
    /// It lets a valid document through in no form.
    Refuses,
}

#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) what: What,
    pub(crate) document: String,
}

pub(crate) fn compile(
    compiler: &GrammarCompiler,
    schema: &Value,
) -> Result<TokenConstraint, Error> {
    let grammar = Grammar::of_format(&ResponseFormat::JsonSchema(schema.clone()))?;
    compiler.compile(&grammar.expect("a schema restricts"))
}

pub(crate) fn check(
    vocabulary: &Vocabulary,
    compiler: &GrammarCompiler,
    case: &Case,
    walks: usize,
    chance: &mut Chance,
) -> Verdict {
    let start = match compile(compiler, &case.schema) {
        Ok(start) => start,
        Err(error) => return Verdict::Refused(error.to_string()),
    };
    let mut faults = Vec::new();
    for Document { description, data, valid } in &case.tests {
        let mut forms = forms(data).into_iter();
        let come = forms.find(|text| vocabulary.accepts(&mut start.clone(), text));
        let what = match (valid, come) {
            (true, None) => (What::Refuses, data.to_string()),
            (false, Some(text)) => (What::Accepts, text),
            _ => continue,
        };
        faults.push(Fault { what: what.0, document: format!("{description}: {}", what.1) });
    }
    let Ok(validator) = jsonschema::options().should_validate_formats(true).build(&case.schema)
    else {
        // Of a draft of its own, or with parts elsewhere.
        return Verdict::Kept(faults);
    };
    for _ in 0..walks {
        let Some(text) = vocabulary.walk(&mut start.clone(), chance) else { continue };
        let is_valid = parsed(&text).is_ok_and(|value| validator.is_valid(&value));
        if !is_valid && !is_beyond(&case.schema, &text) {
            faults.push(Fault { what: What::Accepts, document: format!("by chance: {text}") });
        }
    }
    Verdict::Kept(faults)
}

/// Whether a document has a number of more digits than those that divide it can read.
fn is_beyond(schema: &Value, text: &str) -> bool {
    let digits = text.split(|letter: char| !letter.is_ascii_digit() && letter != '.');
    schema.to_string().contains("\"multipleOf\"") && digits.map(str::len).any(|len| len > 15)
}

/// The value of a text. Exponents may be of any length, and are cut to what a float holds.
pub(crate) fn parsed(text: &str) -> Result<Value, serde_json::Error> {
    let (mut out, mut is_text, mut is_escape, mut digits) = (String::new(), false, false, None);
    for letter in text.chars() {
        if is_text {
            is_text = letter != '"' || is_escape;
            is_escape = letter == '\\' && !is_escape;
        } else {
            is_text = letter == '"';
            digits = match (digits, letter) {
                (None, 'e' | 'E') | (Some(0), '+' | '-') => Some(0),
                (Some(count), '0'..='9') => Some(count + 1),
                _ => None,
            };
        }
        if digits.is_none_or(|count| count < 3) {
            out.push(letter);
        }
    }
    serde_json::from_str(&out)
}

/// A document as a grammar may want it, with its properties in any order.
pub(crate) fn forms(value: &Value) -> Vec<String> {
    match value {
        Value::Number(number) => {
            let own = number.to_string();
            let whole = number.as_f64().filter(|it| it.fract() == 0.0 && it.abs() < 1e300);
            let whole = whole.map(|it| format!("{it:.0}")).filter(|text| *text != own);
            std::iter::once(own).chain(whole).collect()
        }
        Value::String(text) => {
            let text = Value::from(text.as_str()).to_string();
            vec![text.replace('\u{7f}', "\\u007f")]
        }
        Value::Array(items) => {
            let each: Vec<Vec<String>> = items.iter().map(forms).collect();
            let lists = products(&each).into_iter();
            lists.map(|items| format!("[{}]", items.join(", "))).collect()
        }
        Value::Object(fields) => {
            let named = |(name, value): (&String, &Value)| -> Vec<String> {
                let name = Value::from(name.as_str()).to_string().replace('\u{7f}', "\\u007f");
                forms(value).iter().map(|value| format!("{name}: {value}")).collect()
            };
            let each: Vec<Vec<String>> = fields.iter().map(named).collect();
            let mut texts = Vec::new();
            for order in orders(each.len()) {
                let ordered: Vec<Vec<String>> = order.iter().map(|&at| each[at].clone()).collect();
                let lists = products(&ordered).into_iter();
                texts.extend(lists.map(|fields| format!("{{{}}}", fields.join(", "))));
                if texts.len() >= MOST_FORMS {
                    break;
                }
            }
            texts
        }
        other => vec![other.to_string()],
    }
}

/// One of each, in every way.
fn products(each: &[Vec<String>]) -> Vec<Vec<String>> {
    let mut all: Vec<Vec<String>> = vec![Vec::new()];
    for choices in each {
        let longer = all.iter().flat_map(|begun| {
            choices.iter().map(move |choice| [&begun[..], std::slice::from_ref(choice)].concat())
        });
        all = longer.take(MOST_FORMS).collect();
    }
    all
}

/// Orders of so many things: all of them where they are few.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for next in 0..count {
        let longer = all.iter().flat_map(|begun: &Vec<usize>| {
            (0..=begun.len()).rev().map(move |place| {
                let mut longer = begun.clone();
                longer.insert(place, next);
                longer
            })
        });
        all = longer.take(MOST_FORMS).collect();
    }
    all
}
