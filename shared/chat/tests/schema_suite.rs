//! Grammars against the JSON Schema Test Suite (`data/golden/json-schema`), and against what evades grammars.

mod suite;
#[allow(dead_code, reason = "other tests use the rest")]
mod walking;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use suite::{Case, Document, Fault, Verdict, What, check};
use walking::{Chance, Vocabulary};

/// Walks of each schema.
const WALKS: usize = 5;

/// Where valid documents do not come, and why that is so. `format` is kept to, which the suite's usual part has as an
/// annotation; a schema of a dialect of its own is read as one of 2020-12.
const NARROWER: [&str; 2] = ["draft2020-12/format.json: ", "draft2020-12/vocabulary.json: "];

/// What is refused of the suite, and how many schemas for it.
const REFUSED: &str = "data/golden/json-schema/refused.json";

fn root() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What an error names: the keyword in quotes, or the words before it.
fn named(refused: &str) -> String {
    let message = refused.split_once("cannot be enforced: ").expect("a reason").1;
    match message.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
        Some((keyword, _)) => keyword.to_owned(),
        None => message.split([' ', ':']).take(2).collect::<Vec<_>>().join(" "),
    }
}

#[test]
fn schemas_of_the_suite_are_kept_or_refused_by_name() {
    let vocabulary = Vocabulary::new();
    let compiler = vocabulary.compiler();
    let mut chance = Chance(0x5DEE_CE66_D1A4_B5C9);
    let text = std::fs::read_to_string(root().join("data/golden/json-schema/suite.jsonl"));
    let (mut refused, mut kept) = (BTreeMap::<String, usize>::new(), 0);
    for line in text.expect("the suite").lines() {
        let case: Case = serde_json::from_str(line).expect("a schema a line");
        match check(&vocabulary, &compiler, &case, WALKS, &mut chance) {
            Verdict::Refused(why) => *refused.entry(named(&why)).or_default() += 1,
            Verdict::Kept(faults) => {
                kept += 1;
                let is_narrow = NARROWER.iter().any(|known| case.id.starts_with(known));
                let faults =
                    faults.iter().filter(|fault| fault.what == What::Accepts || !is_narrow);
                let wrong: Vec<_> =
                    faults.map(|Fault { what, document }| (what, document)).collect();
                assert!(wrong.is_empty(), "{}: {wrong:?}", case.id);
            }
        }
    }
    let found = serde_json::to_value((kept, refused)).expect("JSON");
    let expected = std::fs::read_to_string(root().join(REFUSED)).expect("what is refused");
    let expected: Value = serde_json::from_str(&expected).expect("JSON");
    assert_eq!(found, expected, "{REFUSED} is to be:\n{found}");
}

/// Ways around a schema that are in no suite: names in other letters, keywords that are parted, sets in classes, names of
/// groups, numbers that are none of a float's.
#[test]
fn nothing_evades_a_schema() {
    let vocabulary = Vocabulary::new();
    let compiler = vocabulary.compiler();
    let mut chance = Chance(7);
    let case = |schema: Value, valid: Vec<Value>, invalid: Vec<Value>| {
        let document = |data, valid| Document { description: String::new(), data, valid };
        let valid = valid.into_iter().map(|data| document(data, true));
        let tests = valid.chain(invalid.into_iter().map(|data| document(data, false))).collect();
        Case { id: schema.to_string(), schema, tests }
    };
    for case in [
        case(
            json!({"patternProperties": {"^x": {"type": "integer"}}, "allOf": [{"minProperties": 1}], "additionalProperties": false}),
            vec![json!({"x1": 1})],
            vec![json!({"y": 1}), json!({"x1": "a"}), json!({})],
        ),
        case(
            json!({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}], "allOf": [{"maxItems": 3}], "additionalItems": false}),
            vec![json!(["a"])],
            vec![json!(["a", 1])],
        ),
        case(
            json!({"type": "string", "pattern": "^[[a]]$"}),
            vec![json!("[]"), json!("a]")],
            vec![json!("a"), json!("[")],
        ),
        case(
            json!({"type": "string", "pattern": "^[a-z&&b]$"}),
            vec![json!("&"), json!("c")],
            vec![json!("-")],
        ),
        case(
            json!({"type": "string", "pattern": "^(?<stop>a)b$"}),
            vec![json!("ab")],
            vec![json!("a")],
        ),
        case(
            json!({"allOf": [{"multipleOf": 0.01}, {"multipleOf": 3}], "type": "number"}),
            vec![json!(3), json!(6)],
            vec![json!(0.5), json!(4)],
        ),
        case(
            json!({"format": "date"}),
            vec![json!("2024-02-29"), json!(7)],
            vec![json!("2023-02-29"), json!("1900-02-29")],
        ),
    ] {
        match check(&vocabulary, &compiler, &case, 50, &mut chance) {
            Verdict::Kept(faults) => assert!(faults.is_empty(), "{}: {faults:?}", case.id),
            Verdict::Refused(why) => panic!("{}: {why}", case.id),
        }
    }
    // The same name in other letters is the same name.
    for (schema, text) in [
        (json!({"properties": {"a": {"type": "integer"}}}), r#"{"\u0061": "x"}"#),
        (json!({"patternProperties": {"^x": {"type": "integer"}}}), r#"{"\u0078": "x"}"#),
        (json!({"properties": {"a\t": {"type": "integer"}}}), r#"{"a\u0009": "x"}"#),
    ] {
        let mut constraint = suite::compile(&compiler, &schema).expect("it is enforced");
        assert!(!vocabulary.accepts(&mut constraint, text), "{schema}: {text}");
    }
    for (schema, named) in [
        (json!({"minProperties": 2}), "\"minProperties\""),
        (json!({"const": 9_007_199_254_740_993_i64}), "\"const\""),
        (json!({"enum": [u64::MAX]}), "\"enum\""),
        (json!({"multipleOf": 99_991, "anyOf": [{"multipleOf": 0.00007}]}), "\"multipleOf\""),
        (json!({"multipleOf": 1e-300}), "\"multipleOf\""),
        (json!({"prefixItems": [{}], "additionalItems": false}), "\"additionalItems\""),
        (json!({"$defs": {"a/b": {}}, "$ref": "#/$defs/a~1b"}), "\"$ref\""),
        (json!({"pattern": "((a{60}){60}){60}"}), "\"pattern\""),
        (json!({"pattern": "a".repeat(5_000)}), "\"pattern\""),
    ] {
        let refused = suite::compile(&compiler, &schema).expect_err("it cannot be enforced");
        assert!(refused.to_string().contains(named), "{schema}: {refused}");
    }
}
