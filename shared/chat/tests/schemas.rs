//! JSON that comes through the masks of a schema is valid, always; valid JSON comes through; and what cannot be enforced is
//! refused by its name.

mod walking;

use defrost_chat::{Error, Grammar, GrammarCompiler, ResponseFormat};
use proptest::prelude::*;
use serde_json::{Value, json};
use walking::{Chance, Vocabulary, constraint};

/// Walks of each schema.
const WALKS: u64 = 200;

fn compile(
    compiler: &GrammarCompiler,
    schema: &Value,
) -> Result<defrost_chat::TokenConstraint, Error> {
    let grammar = Grammar::of_format(&ResponseFormat::JsonSchema(schema.clone()))?;
    compiler.compile(&grammar.expect("a schema restricts"))
}

/// Schemas that between them have every keyword that is enforced, with JSON that is valid and JSON that is not.
fn schemas() -> Vec<(Value, Vec<Value>, Vec<Value>)> {
    let cases: Vec<Value> = serde_json::from_str(include_str!("schemas.json")).expect("JSON");
    let list = |case: &Value, key: &str| case[key].as_array().cloned().expect("a list");
    let of = |case: &Value| (case["schema"].clone(), list(case, "valid"), list(case, "invalid"));
    cases.iter().map(of).collect()
}

/// As the grammar writes it: on one line, with spaces.
fn on_one_line(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            format!("[{}]", items.iter().map(on_one_line).collect::<Vec<_>>().join(", "))
        }
        Value::Object(fields) => {
            let fields = fields.iter();
            let fields = fields.map(|(key, value)| {
                format!("{}: {}", Value::from(key.as_str()), on_one_line(value))
            });
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// The value of a text. Exponents may be of any length, and are cut to what a float holds.
fn parsed(text: &str) -> Result<Value, serde_json::Error> {
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

fn validator(schema: &Value) -> jsonschema::Validator {
    jsonschema::options().should_validate_formats(true).build(schema).expect("a valid schema")
}

#[test]
fn all_that_comes_through_is_valid() {
    let vocabulary = Vocabulary::new();
    let compiler = vocabulary.compiler();
    let mut chance = Chance(0x5DEE_CE66_D1A4_B5C9);
    for (schema, _, _) in schemas() {
        let validator = validator(&schema);
        for walk in 0..WALKS {
            let mut constraint = compile(&compiler, &schema).expect("a schema that is enforced");
            let text = vocabulary.walk(&mut constraint, &mut chance);
            let text = text.unwrap_or_else(|| panic!("{schema}: walk {walk} does not end"));
            let value = parsed(&text)
                .unwrap_or_else(|error| panic!("{schema}: {text:?} is no JSON: {error}"));
            let errors: Vec<String> =
                validator.iter_errors(&value).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{schema}: {text}: {errors:?}");
        }
    }
}

#[test]
fn valid_json_comes_through_and_other_does_not() {
    let vocabulary = Vocabulary::new();
    let compiler = vocabulary.compiler();
    for (schema, valid, invalid) in schemas() {
        let validator = validator(&schema);
        for (values, expected) in [(valid, true), (invalid, false)] {
            for value in values {
                assert_eq!(validator.is_valid(&value), expected, "{schema}: {value}");
                let mut constraint = compile(&compiler, &schema).expect("it is enforced");
                let text = on_one_line(&value);
                assert_eq!(
                    vocabulary.accepts(&mut constraint, &text),
                    expected,
                    "{schema}: {text}"
                );
            }
        }
    }
}

#[test]
fn json_objects_are_objects() {
    let vocabulary = Vocabulary::new();
    let compiler = vocabulary.compiler();
    let grammar = Grammar::of_format(&ResponseFormat::JsonObject).expect("a form");
    let grammar = grammar.expect("it restricts");
    let mut chance = Chance(42);
    for _ in 0..WALKS {
        let text = vocabulary.walk(&mut constraint(&compiler, &grammar), &mut chance);
        let text = text.expect("an end");
        let value = parsed(&text).expect("JSON");
        assert!(value.is_object(), "{text}");
    }
}

#[test]
fn what_cannot_be_enforced_is_refused_by_name() {
    let compiler = Vocabulary::new().compiler();
    for (schema, named) in [
        (json!({"not": {"type": "string"}}), "\"not\""),
        (json!({"if": {}, "then": {}}), "\"if\""),
        (json!({"type": "array", "uniqueItems": true}), "\"uniqueItems\""),
        (json!({"type": "array", "contains": {}}), "\"contains\""),
        (json!({"propertyNames": {"maxLength": 3}}), "\"propertyNames\""),
        (json!({"dependentRequired": {"a": ["b"]}}), "\"dependentRequired\""),
        (json!({"unevaluatedProperties": false}), "\"unevaluatedProperties\""),
        (json!({"type": "string", "nullable": true}), "\"nullable\""),
        (json!({"type": "string", "maxlength": 3}), "\"maxLength\""),
        (json!({"type": "string", "format": "credit-card"}), "format: credit-card"),
        (json!({"type": "string", "pattern": "(?=a)b"}), "look-around"),
        (json!({"type": "string", "pattern": "(a)\\1"}), "backreferences"),
        (json!({"$ref": "#/$defs/missing"}), "missing"),
        (json!({"$ref": "https://example.org/schema"}), "https://example.org/schema"),
        (json!({"oneOf": [{"type": "string"}, {"minLength": 1}]}), "oneOf"),
        (json!(false), "nsatisfiable"),
        (json!({"type": "integer", "minimum": 3, "maximum": 2}), "minimum"),
        (json!({"type": "integer", "minimum": "é".repeat(90)}), "minimum"),
        (json!({"enum": "x"}), "\"enum\""),
    ] {
        match compile(&compiler, &schema) {
            Ok(_) => panic!("{schema} is enforced"),
            Err(Error::Grammar { field, message }) => {
                assert_eq!(field, "response_format");
                assert!(message.contains(named) && message.len() < 600, "{schema}: {message}");
            }
            Err(other) => panic!("{schema}: {other}"),
        }
    }
}

/// Schemas of all keywords. Numbers that are too large for a float's digits, and values that are wrong, only where it is asked
/// for.
fn any_schema(is_wild: bool) -> impl Strategy<Value = Value> {
    let wild = prop_oneof![
        any::<f64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        Just(json!("é".repeat(120))),
        Just(json!(null)),
        Just(json!([])),
    ];
    let tame = (-1_000_000..1_000_000i32).prop_map(|it| Value::from(f64::from(it) / 8.0));
    let number = if is_wild { wild.boxed() } else { tame.boxed() };
    let number = move || number.clone();
    let step = move |step: f64| {
        let tame = json!({"multipleOf": step, "minimum": 0, "maximum": 100_000});
        if is_wild { json!({"multipleOf": step * 1e-7}) } else { tame }
    };
    let leaf = prop_oneof![
        Just(json!(true)),
        Just(json!({})),
        proptest::sample::select(vec!["string", "integer", "number", "null", "object", "array"])
            .prop_map(|kind| json!({"type": kind})),
        (number(), number()).prop_map(|(from, to)| json!({"minimum": from, "maximum": to})),
        number().prop_map(|bound| json!({"exclusiveMaximum": bound, "type": "integer"})),
        (0..9u32, number()).prop_map(move |(from, to)| {
            let tame = json!({"minLength": from, "minProperties": from % 3});
            if is_wild { json!({"minLength": to, "maxItems": to}) } else { tame }
        }),
        (0..5u32, 0..9u32).prop_map(|(from, to)| json!({"minLength": from, "maxLength": to})),
        (0..5u32, 0..9u32).prop_map(|(from, to)| json!({"minItems": from, "maxItems": to})),
        "[a-c.*+?^$|()\\[\\]\\\\]{0,6}".prop_map(|pattern| json!({"pattern": pattern})),
        Just(json!({"$ref": "#"})),
        Just(json!({"const": "é"})),
        Just(json!({"enum": [1, "a", null]})),
        (1..200u32).prop_map(move |at| step(f64::from(at))),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let several = proptest::collection::vec(inner.clone(), 1..3);
        let word = proptest::sample::select(vec!["anyOf", "allOf", "oneOf", "prefixItems"]);
        let one = proptest::sample::select(vec!["items", "additionalProperties", "not"]);
        let named = proptest::collection::btree_map("[a-b]", inner.clone(), 0..3);
        prop_oneof![
            (word, several).prop_map(|(word, several)| json!({word: several})),
            (one, inner).prop_map(|(word, schema)| json!({word: schema})),
            named.prop_map(|named| json!({"type": "object", "properties": named})),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// No schema makes anything panic, and one that is accepted is enforced.
    #[test]
    fn every_schema_is_enforced_or_refused(schema in any_schema(false), seed in 1..u64::MAX) {
        let vocabulary = Vocabulary::new();
        thread_local! {
            static COMPILER: GrammarCompiler = Vocabulary::new().compiler();
        }
        let compiled = COMPILER.with(|compiler| compile(compiler, &schema));
        let Ok(mut constraint) = compiled else { return Ok(()) };
        if let Some(text) = vocabulary.walk(&mut constraint, &mut Chance(seed)) {
            let value = parsed(&text).expect("JSON");
            if let Ok(validator) = jsonschema::validator_for(&schema) {
                prop_assert!(validator.is_valid(&value), "{}: {}", schema, text);
            }
        }
    }

    #[test]
    fn no_schema_makes_anything_panic(schema in any_schema(true), seed in 1..u64::MAX) {
        let vocabulary = Vocabulary::new();
        thread_local! {
            static COMPILER: GrammarCompiler = Vocabulary::new().compiler();
        }
        let compiled = COMPILER.with(|compiler| compile(compiler, &schema));
        match compiled {
            Ok(mut constraint) => drop(vocabulary.walk(&mut constraint, &mut Chance(seed))),
            Err(error) => {
                let message = error.to_string();
                prop_assert!(!message.contains("panic"), "{}: {}", schema, message);
            }
        }
    }
}
