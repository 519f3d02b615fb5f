//! Grammars other than schemas: regular expressions, choices, GBNF, Lark, and the errors of each.

mod walking;

use std::sync::Arc;

use defrost_chat::{Error, Grammar, ResponseFormat};
use defrost_model::Constraint;
use walking::{Chance, Vocabulary, constraint};

fn grammar(format: &ResponseFormat) -> Result<Grammar, Error> {
    Grammar::of_format(format).map(|grammar| grammar.expect("it restricts"))
}

const JSON: &str = r#"
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
# Spaces, but not too many of them.
ws ::= | " " | "\n" [ \t]{0,20}
"#;

const SUMS: &str = r#"root ::= (expr "=" term "\n")+
expr ::= term ([-+*/] term)*
term ::= [a-z]+ | [0-9]+ | "(" expr ")""#;

const LIST: &str =
    "root ::= item+\n\n# Lists\nitem ::= \"- \" [^\\r\\n\\x0b\\x0c\\x85\\u2028\\u2029]+ \"\\n\"\n";

#[test]
fn texts_come_through_that_have_the_form() {
    let vocabulary = Vocabulary::new();
    let compiler = vocabulary.compiler();
    let choice = |choices: &[&str]| {
        ResponseFormat::Choice(choices.iter().map(|&choice| choice.to_owned()).collect())
    };
    let regex = |regex: &str| ResponseFormat::Regex(regex.to_owned());
    let gbnf = |grammar: &str| ResponseFormat::Gbnf(grammar.to_owned());
    let lark = |grammar: &str| ResponseFormat::Lark(grammar.to_owned());
    for (format, good, bad) in [
        (regex("[0-9]{3}-[a-z]+"), vec!["007-ab", "120-x"], vec!["07-ab", "007-", "007-ab "]),
        (regex("^a/b|ü$"), vec!["a/b", "ü"], vec!["a/", "a/bü"]),
        (
            choice(&["yes", "no", "yes, indeed", "\"é\"\n"]),
            vec!["yes", "yes, indeed", "\"é\"\n"],
            vec!["ye", "yes,", ""],
        ),
        (
            gbnf(JSON),
            vec!["{}", "{\"a\": [1, -2.5e3, {\"b\": \"\\u00e9\\n\"}], \"c\":\n  null }", "{ }"],
            vec!["[]", "{\"a\"}", "{\"a\":  1}", "{\"a\": 01}", "{\"a\": \"\\x\"}"],
        ),
        (gbnf(SUMS), vec!["1+2=3\n", "(a+b)*c=d\n12/x=(1+2)\n"], vec!["1+=2\n", "1=2", "(1=2\n"]),
        (gbnf(LIST), vec!["- Grüße\n", "- a\n- b 🙂\n"], vec!["- \n", "a\n", "- a"]),
        (
            gbnf("root ::= (\"a\" | \"b\")? . [^a]{1,2} {0} x\nx ::= |\n  \"!\""),
            vec!["xx", "axx!"],
            vec!["xa"],
        ),
        (gbnf("root ::= <[300]> \"x\""), vec![], vec!["x"]),
        (
            lark("start: (WORD \" \")+ \"end\"\nWORD: /[a-z]+/"),
            vec!["the end", "ab a end"],
            vec!["end", "the the"],
        ),
    ] {
        let Ok(grammar) = grammar(&format) else {
            assert_eq!(
                format,
                gbnf("root ::= (\"a\" | \"b\")? . [^a]{1,2} {0} x\nx ::= |\n  \"!\"")
            );
            continue;
        };
        for (texts, expected) in [(good, true), (bad, false)] {
            for text in texts {
                let mut constraint = constraint(&compiler, &grammar);
                assert_eq!(
                    vocabulary.accepts(&mut constraint, text),
                    expected,
                    "{format:?}: {text:?}"
                );
            }
        }
    }
}

#[test]
fn walks_through_gbnf_are_json() {
    let vocabulary = Vocabulary::new();
    let compiler = vocabulary.compiler();
    let grammar = grammar(&ResponseFormat::Gbnf(JSON.to_owned())).expect("a grammar");
    let mut chance = Chance(77);
    for _ in 0..200 {
        let text = vocabulary.walk(&mut constraint(&compiler, &grammar), &mut chance);
        let text = text.expect("an end");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| {
            panic!("{text:?}: {error}");
        });
        assert!(value.is_object());
    }
}

#[test]
fn what_must_come_is_known() {
    let vocabulary = Vocabulary::new();
    let compiler = vocabulary.compiler();
    let format = ResponseFormat::JsonSchema(serde_json::json!({
        "type": "object",
        "properties": {"name": {"const": "Zürich"}},
        "required": ["name"],
        "additionalProperties": false
    }));
    let grammar = grammar(&format).expect("a schema");
    let mut constraint = constraint(&compiler, &grammar);
    let mut steps = 0;
    while !constraint.is_done() {
        let forced = constraint.forced();
        assert!(!forced.is_empty() && !constraint.may_end());
        for id in forced {
            constraint.accept(id).expect("it must come");
            steps += 1;
        }
    }
    assert!(steps < 10, "words, not bytes: {steps}");
    assert!(constraint.may_end());
}

/// Tokenizers that put a space before a text, know special tokens in it, or know other tokens than the model has.
#[test]
fn what_must_come_is_the_text_itself() {
    let vocabulary = Vocabulary::new();
    let format = ResponseFormat::Choice(vec!["<|end|> Zürich".to_owned()]);
    let grammar = grammar(&format).expect("a form");
    let end = vocabulary.end();
    let with_space = |text: &str| std::iter::once(32).chain(text.bytes().map(u32::from)).collect();
    let special = move |text: &str| {
        let rest = text.strip_prefix("<|end|>").unwrap_or(text);
        std::iter::once(end).chain(rest.bytes().map(u32::from)).collect()
    };
    let tokenizers: [defrost_chat::Tokenize; 4] =
        [Arc::new(with_space), Arc::new(special), Arc::new(|_| vec![9_999]), Arc::new(|_| vec![])];
    for tokenize in tokenizers {
        let compiler = vocabulary.compiler_with(tokenize);
        let text = vocabulary.walk(&mut constraint(&compiler, &grammar), &mut Chance(3));
        assert_eq!(text.as_deref(), Some("<|end|> Zürich"));
    }
}

#[test]
fn a_token_that_may_not_come_is_an_error() {
    let vocabulary = Vocabulary::new();
    let compiler = vocabulary.compiler();
    let grammar = grammar(&ResponseFormat::Regex("ab".to_owned())).expect("a form");
    let mut constraint = constraint(&compiler, &grammar);
    assert!(constraint.accept(u32::from(b'x')).is_err());
    assert!(constraint.mask().is_err() && !constraint.is_done() && !constraint.may_end());
}

#[test]
fn what_is_wrong_is_said() {
    let compiler = Vocabulary::new().compiler();
    for (format, expected) in [
        (ResponseFormat::Regex("a(".to_owned()), "the regular expression cannot be enforced: "),
        (ResponseFormat::Regex("(?=a)".to_owned()), "look-around"),
        (ResponseFormat::Regex(String::new()), "it is empty"),
        (ResponseFormat::Choice(vec![]), "expected one at least, found none"),
        (ResponseFormat::Gbnf("root ::= a".to_owned()), "needs the rule \"a\""),
        (ResponseFormat::Lark("start: x".to_owned()), "the grammar (Lark) cannot be enforced: "),
        (
            ResponseFormat::Lark("start: } \nx: {".to_owned()),
            "the grammar (Lark) cannot be enforced: ",
        ),
        (ResponseFormat::Lark(String::new()), "start"),
    ] {
        let found = grammar(&format).and_then(|grammar| compiler.compile(&grammar));
        match found {
            Err(Error::Grammar { field: "response_format", message }) => {
                assert!(message.contains(expected) && message.len() < 600, "{format:?}: {message}");
            }
            other => panic!("{format:?}: {other:?}"),
        }
    }
}

#[test]
fn compiled_grammars_do_not_share_their_state() {
    let vocabulary = Vocabulary::new();
    let compiler = vocabulary.compiler();
    let grammar = grammar(&ResponseFormat::Regex("[ab]{2}".to_owned())).expect("a form");
    let mut first = constraint(&compiler, &grammar);
    first.accept(u32::from(b'a')).expect("it may come");
    let mut second = constraint(&compiler, &grammar);
    let mut third = first.clone();
    first.accept(u32::from(b'b')).expect("it may come");
    assert!(first.is_done() && !second.is_done() && !third.is_done());
    assert!(vocabulary.accepts(&mut second, "ba"));
    assert!(vocabulary.accepts(&mut third, "a"));
}
