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
    vec![
        (
            json!({
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "age": {"type": "integer", "minimum": 0, "maximum": 130},
                    "tags": {"type": "array", "items": {"enum": ["a", "b", "é"]}, "maxItems": 3}
                },
                "required": ["name", "age"],
                "additionalProperties": false
            }),
            vec![json!({"name": "Ada", "age": 36}), json!({"name": "", "age": 0, "tags": ["é"]})],
            vec![json!({"name": "Ada"}), json!({"name": "Ada", "age": 131}), json!([])],
        ),
        (json!({"type": "object"}), vec![json!({"a": [1, {}]})], vec![json!([1])]),
        (json!(true), vec![json!(null), json!([{"a": 1.5e3}])], vec![]),
        (json!({}), vec![json!("a")], vec![]),
        (json!({"type": "null"}), vec![json!(null)], vec![json!(0)]),
        (json!({"type": "boolean"}), vec![json!(true)], vec![json!("true")]),
        (json!({"type": ["string", "null"]}), vec![json!(null), json!("x")], vec![json!(1)]),
        (json!({"type": "number"}), vec![json!(-1.5), json!(12)], vec![json!("1")]),
        (
            json!({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}),
            vec![json!(0.5)],
            vec![json!(0), json!(1), json!(1.5)],
        ),
        (
            json!({"type": "integer", "multipleOf": 5, "minimum": -20, "maximum": 20}),
            vec![json!(-15), json!(0)],
            vec![json!(7), json!(25)],
        ),
        (json!({"type": "number", "multipleOf": 0.25}), vec![json!(1.75)], vec![json!(0.3)]),
        (
            json!({"type": "string", "minLength": 2, "maxLength": 4}),
            vec![json!("äöü"), json!("🙂a")],
            vec![json!("a"), json!("abcde")],
        ),
        (
            json!({"type": "string", "pattern": "^[A-Z]{2}-\\d+$"}),
            vec![json!("AB-12")],
            vec![json!("ab-12"), json!("AB-")],
        ),
        (json!({"type": "string", "pattern": "ab"}), vec![json!("xaby")], vec![json!("a-b")]),
        (json!({"type": "string", "format": "date"}), vec![json!("2024-02-28")], vec![json!("x")]),
        (
            json!({"type": "string", "format": "date-time"}),
            vec![json!("2024-02-28T12:00:00Z")],
            vec![json!("2024-02-28")],
        ),
        (json!({"type": "string", "format": "time"}), vec![json!("12:00:00Z")], vec![json!("12")]),
        (
            json!({"type": "string", "format": "uuid"}),
            vec![json!("123e4567-e89b-42d3-a456-426614174000")],
            vec![json!("123")],
        ),
        (
            json!({"type": "string", "format": "ipv4"}),
            vec![json!("10.0.0.1")],
            vec![json!("10.0.0.256")],
        ),
        (
            json!({"type": "string", "format": "email"}),
            vec![json!("a@example.org")],
            vec![json!("a")],
        ),
        (
            json!({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2}),
            vec![json!([1]), json!([1, 2])],
            vec![json!([]), json!([1, 2, 3]), json!(["1"])],
        ),
        (
            json!({
                "type": "array",
                "prefixItems": [{"type": "string"}, {"type": "integer"}],
                "items": false,
                "minItems": 2
            }),
            vec![json!(["a", 1])],
            vec![json!(["a"]), json!(["a", 1, 2])],
        ),
        (
            json!({
                "$schema": "http://json-schema.org/draft-07/schema#",
                "type": "array",
                "items": [{"type": "string"}],
                "additionalItems": {"type": "integer"}
            }),
            vec![json!(["a", 1, 2]), json!([])],
            vec![json!(["a", "b"])],
        ),
        (
            json!({"enum": [1, "one", null, {"a": [true]}]}),
            vec![json!({"a": [true]})],
            vec![json!(2)],
        ),
        (json!({"const": {"a": "\"\n"}}), vec![json!({"a": "\"\n"})], vec![json!({})]),
        (
            json!({"anyOf": [{"type": "string", "maxLength": 3}, {"type": "integer"}]}),
            vec![json!("abc"), json!(7)],
            vec![json!("abcd"), json!(null)],
        ),
        (
            json!({
                "oneOf": [
                    {
                        "type": "object",
                        "properties": {"kind": {"const": "circle"}, "r": {"type": "number"}},
                        "required": ["kind", "r"],
                        "additionalProperties": false
                    },
                    {
                        "type": "object",
                        "properties": {"kind": {"const": "square"}, "a": {"type": "number"}},
                        "required": ["kind", "a"],
                        "additionalProperties": false
                    }
                ]
            }),
            vec![json!({"kind": "circle", "r": 1}), json!({"kind": "square", "a": 2})],
            vec![json!({"kind": "circle", "a": 1})],
        ),
        (
            json!({
                "allOf": [
                    {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
                    {"properties": {"b": {"type": "string"}}, "required": ["b"]}
                ]
            }),
            vec![json!({"a": 1, "b": "x"})],
            vec![json!({"a": 1})],
        ),
        (
            json!({
                "type": "object",
                "properties": {"a": {"$ref": "#/$defs/node"}},
                "required": ["a"],
                "additionalProperties": false,
                "$defs": {
                    "node": {
                        "type": "object",
                        "properties": {
                            "value": {"type": "integer"},
                            "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}
                        },
                        "required": ["value", "next"],
                        "additionalProperties": false
                    }
                }
            }),
            vec![json!({"a": {"value": 1, "next": {"value": 2, "next": null}}})],
            vec![json!({"a": {"value": 1}})],
        ),
        (
            json!({
                "definitions": {"word": {"type": "string", "pattern": "^\\w+$"}},
                "type": "array",
                "items": {"$ref": "#/definitions/word"}
            }),
            vec![json!(["abc"])],
            vec![json!(["a b"])],
        ),
        (
            json!({
                "type": "object",
                "patternProperties": {"^x_[a-z]+$": {"type": "integer"}},
                "additionalProperties": false
            }),
            vec![json!({"x_a": 1, "x_bc": 2}), json!({})],
            vec![json!({"y": 1}), json!({"x_a": "1"})],
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "integer"}}),
            vec![json!({"anything": 1})],
            vec![json!({"anything": "1"})],
        ),
        (
            json!({
                "type": "object",
                "additionalProperties": {"type": "boolean"},
                "minProperties": 1,
                "maxProperties": 1
            }),
            vec![json!({"a": true})],
            vec![json!({})],
        ),
        (
            json!({
                "title": "Answer",
                "description": "What pydantic writes",
                "type": "object",
                "properties": {
                    "Z first": {"title": "Z", "default": 7, "type": "integer"},
                    "a \"quoted\"\nkey": {"anyOf": [{"type": "number"}, {"type": "null"}], "default": null}
                },
                "required": ["Z first"]
            }),
            vec![json!({"Z first": 1, "a \"quoted\"\nkey": null})],
            vec![json!({"a \"quoted\"\nkey": 1})],
        ),
    ]
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
                (None, 'e' | 'E') => Some(0),
                (Some(0), '+' | '-') => Some(0),
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
    let step = move |step: f64| match is_wild {
        true => json!({"multipleOf": step * 1e-7}),
        false => json!({"multipleOf": step, "minimum": 0, "maximum": 100_000}),
    };
    let leaf = prop_oneof![
        Just(json!(true)),
        Just(json!({})),
        proptest::sample::select(vec!["string", "integer", "number", "null", "object", "array"])
            .prop_map(|kind| json!({"type": kind})),
        (number(), number()).prop_map(|(from, to)| json!({"minimum": from, "maximum": to})),
        number().prop_map(|bound| json!({"exclusiveMaximum": bound, "type": "integer"})),
        (0..9u32, number()).prop_map(move |(from, to)| match is_wild {
            true => json!({"minLength": to, "maxItems": to}),
            false => json!({"minLength": from, "minProperties": from % 3}),
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
    #![proptest_config(ProptestConfig::with_cases(300))]

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
