//! Wire types of the services: requests, answers and the error body. No tokio, no axum.
//!
//! Many services' request shapes arrive on few handlers. They are told apart by the keys of the
//! body more than by the path, so one flat body reads them all and its `into_request` decides which
//! shape it is. The answer then goes back in that shape, and so does an error through
//! [`ErrorBody`].
//!
//! - rerank: [`RerankBody`], [`RerankRequest`] of a [`Shape`], [`answer()`];
//! - score: [`ScoreBody`], and classes of pairs: [`PredictBody`], then as rerank;
//! - embed: [`EmbedBody`], [`EmbedRequest`] of an [`EmbedShape`], [`embed_answer`];
//! - chat and completions: [`ChatRoute::parse`], [`ChatRequest`] or [`CompletionRequest`], and
//!   [`ReplyWriter`] for answers and streams of four APIs;
//! - schemas of all of them, for a document of the API: [`SchemaBook`], [`Form`];
//! - tokens: [`TokenizeBody`] and [`DetokenizeBody`], [`tokenize_answer`], [`detokenize_answer`].
//!
//! ```
//! use defrost_api::{Limits, RerankBody, Route, Shape};
//!
//! let body = RerankBody::parse(br#"{"query":"q","documents":["a","b"],"top_n":null}"#)?;
//! let request = body.into_request(Route::Rerank, &Limits::default())?;
//! assert_eq!(request.shape, Shape::Canonical);
//! # Ok::<(), defrost_api::Invalid>(())
//! ```
//!
//! ```
//! use defrost_api::{EmbedBody, EmbedFacts, EmbedLimits, EmbedRoute, Embedded, embed_answer};
//!
//! let body = EmbedBody::parse_on(EmbedRoute::Embed, br#"{"inputs":"a"}"#)?;
//! let request = body.into_request(EmbedRoute::Embed, &EmbedLimits::default())?;
//! let embedded = [Embedded { dense: Some(&[0.6, 0.8]), tokens: 3, ..Embedded::default() }];
//! let answer = embed_answer(&request, &embedded, &["a"], &EmbedFacts::default());
//! assert_eq!(serde_json::to_string(&answer)?, "[[0.6,0.8]]");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ```
//! use defrost_api::{ChatCall, ChatLimits, ChatRoute, Finish, ReplyDelta, ReplyFacts, ReplyWriter, Usage};
//!
//! let body = br#"{"messages":[{"role":"user","content":"Hi."}],"stream":true}"#;
//! let ChatCall::Chat(request) = ChatRoute::Chat.parse(body, &ChatLimits::default())? else {
//!     unreachable!("chat completions are chat");
//! };
//! let (mut writer, mut sent) = (ReplyWriter::chat(&request, ReplyFacts::default()), Vec::new());
//! writer.begin(&Usage::default(), &mut sent);
//! writer.delta(0, &ReplyDelta::Content("Hello.".to_owned()), &[], &mut sent);
//! writer.finish(0, &Finish::Stop, &[], &mut sent);
//! writer.end(&Usage::default(), None, &mut sent);
//! assert!(sent.ends_with(b"data: [DONE]\n\n"));
//! # Ok::<(), defrost_api::Invalid>(())
//! ```

mod answer;
mod body;
mod chat;
mod checks;
mod embed;
mod error;
mod fields;
mod json;
mod lenient;
mod predict;
mod rank;
mod request;
mod schema;
mod score;
mod tokenize;
mod truncate;
mod vertex;

pub use answer::{
    Answer, BaaiBatch, BaaiQuery, BaaiSingle, Canonical, Mixedbread, RerankFacts, Scored, Scores,
    SglangRank, TeiRank, answer, rerank_warnings,
};
pub use body::{Pair, RerankBody};
pub use chat::{
    Alternative, AppliedTemplate, ChatApi, ChatBody, ChatCall, ChatChunk, ChatCompletion,
    ChatLimits, ChatMessage, ChatRequest, ChatRoute, CompletionApi, CompletionPrompt,
    CompletionRequest, Conversation, CountedTokens, Finish, Generation, LlamaCompletion,
    MessagesAnswer, OutputFormat, ReasoningOutput, RepeatWindow, ReplyDelta, ReplyFacts,
    ReplyWriter, ResponsesAnswer, ResponsesEcho, Role, SamplingOptions, Streaming, TextCompletion,
    Timings, TokenLogprob, Tool, ToolCall, ToolChoice, Usage,
};
pub use embed::answer::{
    BaaiEmbeddings, ByType, CohereEmbeddings, DenseList, EmbedAnswer, EmbedFacts, Embedded,
    HiddenList, LlamaEmbedding, MlxBatchEmbedding, MlxEmbedding, OpenAiEmbeddings, PooledList,
    RawAnswer, Rows, Similarities, SparseList, embed_answer, embed_warnings, first_non_finite,
    raw_answer,
};
pub use embed::{
    Dtype, EmbedBody, EmbedLimits, EmbedRequest, EmbedRoute, EmbedShape, Encoding, Format, Norm,
    Prompt, VectorKinds,
};
pub use error::{ErrorBody, ErrorStyle, Invalid};
pub use lenient::{
    Content, Count, Document, Documents, EmbedInput, Flag, FlagOrName, Inputs, Names, Piece, Text,
    TokenId,
};
pub use predict::{Classes, Pairs, PredictBody, Prediction};
pub use rank::rank;
pub use request::{
    Limits, MAX_CHUNKS_PER_DOC, MAX_RANK_FIELDS, Normalization, PREDICT_PATHS, QueryGroup,
    RERANK_PATHS, RerankRequest, RerankTruncation, Route, SCORE_PATHS, Shape,
};
pub use schema::{
    BATCH_FORMS, CHAT_TOKENIZE_FORMS, ChatRules, DETOKENIZE_FORMS, EmbedRules, Form, PREDICT_FORMS,
    QUERY_FORMS, RERANK_FORMS, RerankRules, SCORE_FORMS, SchemaBook, TOKENIZE_FORMS,
};
pub use score::ScoreBody;
pub use tokenize::answer::{
    DetokenizeAnswer, LlamaTokens, Token, TokenizeAnswer, VllmTokens, detokenize_answer,
    tokenize_answer,
};
pub use tokenize::{
    DetokenizeBody, DetokenizeRequest, ToTokenize, TokenShape, TokenizeBody, TokenizeRequest,
};
pub use truncate::Cut;
pub use vertex::{Instance, Instances, VERTEX_PATH, read_instances};
