//! What a function's binary links: the handlers and describers of its own kind, and of no other. Included by a test of each
//! function, which alone knows where its binary is.

/// Sentences that only handlers and describers of embeddings hold.
pub(crate) const OF_EMBEDDINGS: [&str; 3] = [
    "Texts as vectors, for clients of Cohere v2",
    "Answered with the cosine of the source sentence with each of the others.",
    "the function embeds and its model does not",
];

/// Sentences that only those of rankings hold.
pub(crate) const OF_RANKINGS: [&str; 3] = [
    "Order documents by how well they answer a query",
    "Pairs as classes, of which there is one",
    "the function reranks and its model does not",
];

/// Sentences that only those of chat hold.
pub(crate) const OF_CHAT: [&str; 3] = [
    "a model that generates runs no passes",
    "this model has no template for conversations; send a text to /v1/completions",
    "the function chats and its model does not",
];

/// Sentences of errors and reports that only what packs holds.
const OF_PACKING: [&str; 3] = [
    "whether that key changes results",
    "expected one label, as rerankers have",
    "outliers are planted into decoders",
];

/// A function's package depends on no crate that packs or is for tests, directly or through others, as `cargo tree` says.
pub(crate) fn check_tree(package: &str) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let tree = std::process::Command::new(cargo)
        .args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none"])
        .args(["--package", package])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo tree");
    let text = String::from_utf8_lossy(&tree.stdout);
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let has = |name: &str| text.lines().any(|line| line.split(' ').next() == Some(name));
    assert!(has("defrost-server") && has("defrost-model"), "the check has gone blind: {text}");
    for name in ["defrost-pack", "defrost-cli", "defrost-testing", "defrost-gpu-emulator"] {
        assert!(!has(name), "{package} depends on {name}, of which it needs nothing");
    }
}

/// The binary holds all sentences of `own`, and none of `others` or of what packs.
pub(crate) fn check(binary: &str, own: &[&str], others: &[&str]) {
    let binary = std::fs::read(binary).expect("the binary");
    // Searching a text is many times as fast as searching bytes.
    let binary = String::from_utf8_lossy(&binary);
    for sentence in own {
        assert!(
            binary.contains(sentence),
            "{sentence:?} is not in the binary: the check has gone blind"
        );
    }
    for sentence in others.iter().chain(&OF_PACKING) {
        assert!(
            !binary.contains(sentence),
            "{sentence:?} is in the binary, which needs none of it"
        );
    }
}
