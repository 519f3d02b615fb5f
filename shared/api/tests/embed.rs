//! Embeddings and tokens: requests of every shape, what they mean, what is refused, what comes
//! back. Names begin with the rows of docs/api-rows.md that they prove.

mod embed {
    mod answers;
    mod clients;
    mod common;
    mod numbers;
    mod rules;
    mod tokens;
}
