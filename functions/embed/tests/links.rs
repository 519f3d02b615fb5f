//! What the binary links: the handlers and describers of its own kind of function, and of no other
//! kind.

/// Sentences that only this kind's handlers and describers hold.
const OWN: [&str; 3] = [
    "Texts as vectors, for clients of Cohere v2",
    "Answered with the cosine of the source sentence with each of the others.",
    "the function embeds and its model does not",
];

/// Sentences that only another kind's do.
const OTHERS: [&str; 3] = [
    "Order documents by how well they answer a query",
    "Pairs as classes, of which there is one",
    "the function reranks and its model does not",
];

#[test]
fn no_describer_of_rankings_is_linked() {
    let binary = std::fs::read(env!("CARGO_BIN_EXE_embed")).expect("the binary");
    // Searching a text is many times as fast as searching bytes.
    let binary = String::from_utf8_lossy(&binary);
    for sentence in OWN {
        assert!(
            binary.contains(sentence),
            "{sentence:?} is not in the binary: the check has gone blind"
        );
    }
    for sentence in OTHERS {
        assert!(
            !binary.contains(sentence),
            "{sentence:?} is in the binary, which is for another kind"
        );
    }
}
