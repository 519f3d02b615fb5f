//! What the binary links: its own kind of function, and nothing that packs.

#[path = "../../../shared/testing/support/links.rs"]
mod links;

#[test]
fn no_describer_of_embeddings_or_chat_is_linked() {
    let others = [links::OF_EMBEDDINGS, links::OF_CHAT].concat();
    links::check(env!("CARGO_BIN_EXE_rerank-cpu-int8"), &links::OF_RANKINGS, &others);
}

#[test]
fn nothing_that_packs_is_depended_on() {
    links::check_tree(env!("CARGO_PKG_NAME"));
}
