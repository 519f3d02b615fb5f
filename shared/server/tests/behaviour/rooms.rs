//! What a kind of function is, only its service knows: nothing else in the server asks which kind
//! it serves, and the modules of one kind are reached from that kind's service alone, so that a
//! binary links those of its own kind.
//!
//! Read from the sources, as in [`super::circles`].

use std::path::Path;

use super::circles::{Modules, needs, read};

/// The kinds of functions by name, and by the variants that an enum of them would have.
const KINDS: [&str; 8] = [
    "\"embed\"",
    "\"rerank\"",
    "\"chat\"",
    "::Embedder",
    "::Reranker",
    "::Embed",
    "::Rerank",
    "::Completer",
];

/// Families of models, of which only what packs and loads them knows more than the name.
const FAMILIES: [&str; 12] = [
    "\"bert\"",
    "\"camembert\"",
    "\"distilbert\"",
    "\"roberta\"",
    "\"xlm-roberta\"",
    "\"modernbert\"",
    "\"gemma",
    "\"llama",
    "\"mistral",
    "\"qwen2\"",
    "\"qwen3\"",
    "Family::",
];

/// Enums of something else, some of whose variants are called like kinds: routes, by the shape of
/// their bodies, and counters.
const OTHERS: [&str; 3] = ["EmbedRoute", "Route", "TeiCounter"];

/// The modules that belong to one kind of function.
const OF_EMBED: [&str; 3] = ["services::embed", "routes::embed", "openapi::embed"];
const OF_RERANK: [&str; 5] =
    ["services::rerank", "routes::rerank", "routes::predict", "routes::score", "openapi::rerank"];

const OF_CHAT: [&str; 4] = ["services::chat", "routes::chat", "routes::slots", "openapi::chat"];

fn is_within(module: &str, room: &str) -> bool {
    module.strip_prefix(room).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn is_of(module: &str, rooms: &[&str]) -> bool {
    rooms.iter().any(|room| is_within(module, room))
}

/// The places where code compares something with one of these kinds, or matches on one.
fn questions(code: &str, kinds: &[&str]) -> Vec<String> {
    let code: String = code.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut found = Vec::new();
    for kind in kinds {
        for (at, _) in code.match_indices(*kind) {
            let (before, after) = (&code[..at], &code[at + kind.len()..]);
            let is_longer = after.starts_with(|next: char| next.is_alphanumeric() || next == '_');
            if is_longer || OTHERS.iter().any(|other| before.ends_with(other)) {
                continue;
            }
            // Past what may stand around it: a variant's path and fields, `Some(…)`, references.
            let word = |letter: char| letter.is_alphanumeric() || "_:".contains(letter);
            let before = before.trim_end_matches(word).trim_end_matches(['&', '(', ' ', '[']);
            let before = before.trim_end_matches("Some").trim_end_matches(['&', '(', ' ']);
            let fields = after.strip_prefix('(').and_then(|rest| rest.split_once(')'));
            let after = fields.map_or(after, |(_, rest)| rest);
            let after = after.trim_start_matches([')', ' ', ']', '{', '}', '.']);
            let asks = ["==", "!=", "contains", "starts_with", ".eq", "matches!", "let"]
                .iter()
                .any(|sign| before.ends_with(sign))
                || ["==", "!=", "=>", "| ", "if "].iter().any(|sign| after.starts_with(sign));
            let is_of_matches =
                before.rsplit_once("matches!(").is_some_and(|(_, inside)| !inside.contains(')'));
            if asks || is_of_matches {
                let from = code[..at].char_indices().rev().nth(40).map_or(0, |(from, _)| from);
                found.push(code[from..at + kind.len()].to_owned());
            }
        }
    }
    found
}

fn sources() -> Modules {
    let mut modules = Modules::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut modules);
    modules
}

#[test]
fn only_services_know_which_kind_of_function_they_are() {
    let modules = sources();
    assert!(modules.contains_key("services::embed") && modules.len() > 70);
    let mut asked = Vec::new();
    for (module, code) in &modules {
        let of_kinds = if is_within(module, "services") { vec![] } else { questions(code, &KINDS) };
        let of_families = questions(code, &FAMILIES);
        asked.extend(of_kinds.into_iter().chain(of_families).map(|found| (module, found)));
    }
    assert!(asked.is_empty(), "ask the service, or the model, instead: {asked:#?}");
}

#[test]
fn modules_of_one_kind_are_reached_from_their_own_service_alone() {
    let modules = sources();
    for (of_kind, service) in [
        (&OF_EMBED[..], "services::embed"),
        (&OF_RERANK[..], "services::rerank"),
        (&OF_CHAT[..], "services::chat"),
    ] {
        for room in of_kind {
            assert!(modules.contains_key(*room), "{room} is gone; say here what took its place");
        }
        for (module, needed) in needs(&modules).iter().filter(|(module, _)| !is_of(module, of_kind))
        {
            let strangers: Vec<_> = needed.iter().filter(|needed| is_of(needed, of_kind)).collect();
            assert!(
                strangers.is_empty(),
                "{module} needs {strangers:?}, which belong to {service}"
            );
        }
    }
}

/// The check itself sees what it is for.
#[test]
fn questions_about_the_kind_are_seen() {
    for planted in [
        r#"if api.name == "rerank" { a() }"#,
        r#"if "embed" != kind {}"#,
        r#"match kind { "embed" => 1, _ => 2 }"#,
        r#"match kind { "rerank" | "score" => 1, _ => 2 }"#,
        r#"match setting.of { Some("embed") => 1, None => 2 }"#,
        r#"matches!(service.capability, "embed")"#,
        r#"["embed", "x"].contains(&kind) || kinds.contains(&"rerank")"#,
        "let Info::Embedder(info) = &model.info else { return };",
        "match &model.info { Info::Reranker(info) => info.a, Info::Embedder(info) => info.b }",
        "match role { Role::Embed => 1, Role::Rerank if x => 2 }",
        "if service.kind == Kind::Embed {}",
    ] {
        assert!(!questions(planted, &KINDS).is_empty(), "{planted}");
    }
    let family = r#"if info.family == "bert" { 1 }"#;
    assert!(questions(family, &KINDS).is_empty() && !questions(family, &FAMILIES).is_empty());
    for innocent in [
        r#"Setting { of: Some("embed"), ..setting(name) }"#,
        r#""tags": [if path == "/v1/embeddings" { "embed" } else { OTHER_NAMES }],"#,
        r#"let kind = if request.shape == Shape::Score { "score" } else { "rerank" };"#,
        r#"match path { "/v1/rerank" => ("rerank", "Order documents"), _ => (OTHER, "") }"#,
        r#"match route { EmbedRoute::Embed => "Embed", Route::Rerank => "Rerank" }"#,
        "use crate::services::embed::EMBED;",
    ] {
        let found = questions(innocent, &KINDS);
        assert!(found.is_empty(), "{innocent}: {found:?}");
    }
}
