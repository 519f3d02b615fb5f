//! Schemas of requests against the readers of requests.

use std::collections::BTreeSet;

use defrost_api::{
    AppliedTemplate, BATCH_FORMS, CHAT_TOKENIZE_FORMS, ChatBody, ChatChunk, ChatCompletion,
    ChatLimits, ChatRoute, ChatRules, CountedTokens, DETOKENIZE_FORMS, DetokenizeBody, EmbedBody,
    EmbedRoute, Form, LlamaCompletion, MessagesAnswer, PREDICT_FORMS, PredictBody, QUERY_FORMS,
    RERANK_FORMS, RerankBody, ResponsesAnswer, SchemaBook, TOKENIZE_FORMS, TextCompletion,
    TokenizeBody,
};
use schemars::{JsonSchema, schema_for};

fn fields<T: JsonSchema>() -> BTreeSet<String> {
    let schema = schema_for!(T);
    schema
        .get("properties")
        .and_then(|fields| fields.as_object())
        .expect("an object")
        .keys()
        .cloned()
        .collect()
}

fn described<'a>(forms: impl IntoIterator<Item = &'a Form>) -> BTreeSet<String> {
    forms.into_iter().flat_map(Form::fields).map(str::to_owned).collect()
}

/// A field that is read and not described is a field that no user finds.
#[test]
fn every_field_is_in_a_form() {
    let rerank = RERANK_FORMS.iter().chain(&BATCH_FORMS).chain(&QUERY_FORMS);
    assert_eq!(fields::<RerankBody>(), described(rerank));
    let embed = EmbedRoute::PATHS.into_iter().flat_map(|(_, route)| route.forms());
    let mut expected = fields::<EmbedBody>();
    // Read to be refused with a reason.
    expected.remove("messages");
    // Of `/similarity`, whose body is one of its own.
    expected.insert("parameters".to_owned());
    assert_eq!(expected, described(embed));
    let tokenize = TOKENIZE_FORMS.iter().chain(&CHAT_TOKENIZE_FORMS);
    assert_eq!(fields::<TokenizeBody>(), described(tokenize));
    let chat = ChatRoute::PATHS.into_iter().flat_map(|(_, route)| route.forms());
    assert_eq!(fields::<ChatBody>(), described(chat));
    assert_eq!(fields::<DetokenizeBody>(), described(&DETOKENIZE_FORMS));
    assert_eq!(fields::<PredictBody>(), described(&PREDICT_FORMS));
}

#[test]
fn forms_have_names_of_their_own() {
    let all = RERANK_FORMS
        .iter()
        .chain(&BATCH_FORMS)
        .chain(&QUERY_FORMS)
        .chain(&PREDICT_FORMS)
        .chain(&TOKENIZE_FORMS)
        .chain(&CHAT_TOKENIZE_FORMS)
        .chain(&DETOKENIZE_FORMS)
        .chain(EmbedRoute::PATHS.into_iter().flat_map(|(_, route)| route.forms()))
        .chain(ChatRoute::PATHS.into_iter().flat_map(|(_, route)| route.forms()));
    let mut titles = std::collections::BTreeMap::new();
    for form in all {
        let fields: Vec<_> = form.fields().collect();
        assert_eq!(
            *titles.entry(form.name).or_insert_with(|| fields.clone()),
            fields,
            "{}",
            form.name
        );
        assert!(!form.examples.is_empty(), "{}", form.name);
        for (_, body) in form.examples {
            serde_json::from_str::<serde_json::Value>(body).expect(form.name);
        }
    }
}

/// What a document shows as an example is what it says is a request, and is read.
#[test]
fn examples_of_chat_are_read_and_have_their_forms_schema() {
    let mut book = SchemaBook::new();
    let rules = ChatRules { vocab: Some(100), ..ChatRules::default() };
    for (_, route) in ChatRoute::PATHS {
        for form in route.forms() {
            let reference = book.chat_form(form, &rules);
            assert_eq!(reference["$ref"], format!("#/components/schemas/{}", form.name));
            for (_, body) in form.examples {
                let read = route.parse(body.as_bytes(), &ChatLimits::default());
                assert!(read.is_ok(), "{body}: {read:?}");
            }
        }
    }
    for form in &CHAT_TOKENIZE_FORMS {
        book.chat_tokenize_form(form);
    }
    let answers = [
        book.answer::<ChatCompletion<'_>>(),
        book.answer::<ChatChunk<'_>>(),
        book.answer::<TextCompletion<'_>>(),
        book.answer::<LlamaCompletion<'_>>(),
        book.answer::<ResponsesAnswer<'_>>(),
        book.answer::<MessagesAnswer<'_>>(),
        book.answer::<CountedTokens>(),
        book.answer::<AppliedTemplate<'_>>(),
    ];
    let schemas = book.finish();
    for answer in answers {
        let name = answer["$ref"].as_str().and_then(|path| path.rsplit('/').next());
        assert!(schemas.contains_key(name.expect("a reference")), "{answer}");
    }
    let chat = &schemas["ChatRequest"];
    assert_eq!(chat["properties"]["temperature"]["maximum"], 2);
    assert_eq!(chat["properties"]["n"]["maximum"], 10);
    assert_eq!(chat["properties"]["messages"]["minItems"], 1);
    assert_eq!(chat["required"], serde_json::json!(["messages"]));
}
