//! Wire types of the rerank service: requests, answers and the error body. No tokio, no axum.
//!
//! Five services' request shapes arrive on one handler. They are told apart by the keys of the
//! body, not by the path, so one flat [`RerankBody`] reads them all and
//! [`RerankBody::into_request`] decides which [`Shape`] it is. The answer then goes back in that
//! shape through [`answer`], and so does an error through [`ErrorBody`].
//!
//! ```
//! use defrost_api::{Limits, RerankBody, Route, Shape};
//!
//! let body = RerankBody::parse(br#"{"query":"q","documents":["a","b"],"top_n":null}"#)?;
//! let request = body.into_request(Route::Rerank, &Limits::default())?;
//! assert_eq!(request.shape, Shape::Canonical);
//! # Ok::<(), defrost_api::Invalid>(())
//! ```

mod answer;
mod body;
mod checks;
mod error;
mod json;
mod lenient;
mod rank;
mod request;
mod truncate;

pub use answer::{
    Answer, BaaiBatch, BaaiQuery, BaaiSingle, Canonical, Facts, Mixedbread, Scored, TeiRank, answer,
};
pub use body::{Pair, RerankBody};
pub use error::{ErrorBody, ErrorStyle, Invalid};
pub use lenient::{Count, Document, Documents, Flag, FlagOrName, Text};
pub use rank::rank;
pub use request::{Limits, Normalization, RerankRequest, Route, Shape, Truncation, Work};
pub use truncate::Cut;
