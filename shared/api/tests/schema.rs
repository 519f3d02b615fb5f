//! Schemas of requests against the readers of requests.

use std::collections::BTreeSet;

use defrost_api::{
    BATCH_FORMS, DETOKENIZE_FORMS, DetokenizeBody, EmbedBody, EmbedRoute, Form, PREDICT_FORMS,
    PredictBody, QUERY_FORMS, RERANK_FORMS, RerankBody, TOKENIZE_FORMS, TokenizeBody,
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
    let mut expected = fields::<TokenizeBody>();
    // For chat models, which no function serves yet.
    expected.retain(|field| !["messages", "add_generation_prompt"].contains(&field.as_str()));
    assert_eq!(expected, described(&TOKENIZE_FORMS));
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
        .chain(&DETOKENIZE_FORMS)
        .chain(EmbedRoute::PATHS.into_iter().flat_map(|(_, route)| route.forms()));
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
