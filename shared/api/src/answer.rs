//! From scores to the answer in the shape of the request.

mod shapes;

use crate::embed::answer::fewer_than_least;
use crate::predict;
use crate::rank::rank;
use crate::request::{RerankRequest, Shape};
use shapes::{
    ApiVersion, BilledUnits, DataEntry, Document, DocumentText, Meta, MetaInfo, MetaTokens,
    MixedbreadRank, Original, RankedDocument, RankedPassage, ScoreEntry, Usage,
};

pub use shapes::{
    Answer, BaaiBatch, BaaiQuery, BaaiSingle, Canonical, Mixedbread, Scores, SglangRank, TeiRank,
};

/// One document's score as it is returned.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Scored {
    /// The score after normalisation; finite.
    pub score: f64,
    /// Tokens of the pair as run.
    pub tokens: usize,
    /// Whether the document was cut to fit.
    pub truncated: bool,
    /// Whether the query was cut to fit.
    pub query_truncated: bool,
}

/// What an answer says beside the scores.
#[derive(Debug, Clone, Default)]
pub struct RerankFacts<'a> {
    /// The answer's id.
    pub id: &'a str,
    /// Unix time in seconds.
    pub created: u64,
    /// The served model's name.
    pub model: &'a str,
    /// What the scores are: `sigmoid`, `logit` and so on.
    pub score_type: &'a str,
    /// Whether scores were mapped into `[0, 1]`.
    pub normalized: bool,
    /// Most results unless the request says otherwise; canonical and mixedbread shapes only.
    pub default_top_n: Option<usize>,
    /// Add `data` to every canonical answer.
    pub always_data: bool,
    /// Whether results are also as an older service gave them: see `LEGACY_RESULTS`.
    pub legacy: bool,
    /// Characters of the query and of the first document, for [`Shape::BaaiSingle`].
    pub lengths: (usize, usize),
}

/// Puts scores, given in the order of the request's documents, into the request's shape. `texts`
/// are the documents in the same order; they are read only where they are returned.
pub fn answer<'a>(
    request: &'a RerankRequest,
    scored: &[Scored],
    texts: &[&'a str],
    facts: &RerankFacts<'a>,
) -> Answer<'a> {
    let draft = Draft { request, scored, texts, facts };
    match request.shape {
        Shape::Canonical => Answer::Canonical(draft.canonical()),
        Shape::Tei => Answer::Tei(draft.tei()),
        Shape::BaaiSingle => Answer::BaaiSingle(draft.single()),
        Shape::BaaiBatch => Answer::BaaiBatch(draft.batch()),
        Shape::BaaiQuery => Answer::BaaiQuery(draft.query()),
        Shape::Mixedbread => Answer::Mixedbread(draft.mixedbread()),
        Shape::Sglang => Answer::Sglang(draft.sglang()),
        Shape::Score => Answer::Scores(draft.scores()),
        Shape::Prediction => Answer::Prediction(predict::prediction(scored)),
        Shape::Predictions => Answer::Predictions(predict::predictions(scored)),
        Shape::Classification => {
            Answer::Classes(predict::classes(scored, facts, rerank_warnings(request, scored)))
        }
    }
}

struct Draft<'r, 'a> {
    request: &'a RerankRequest,
    scored: &'r [Scored],
    texts: &'r [&'a str],
    facts: &'r RerankFacts<'a>,
}

impl<'a> Draft<'_, 'a> {
    fn canonical(&self) -> Canonical<'a> {
        let order = self.order();
        let entry = |&index: &usize| RankedDocument {
            index,
            relevance_score: self.scored[index].score,
            score: self.facts.legacy.then(|| self.scored[index].score),
            document: if self.facts.legacy {
                self.texts.get(index).copied().map(Document::Text)
            } else {
                self.original(index).map(|original| match original {
                    Original::Fields(fields) => Document::Fields(fields),
                    Original::Text(text) => Document::Object(DocumentText { text }),
                })
            },
        };
        let data_entry = |&index: &usize| DataEntry {
            index,
            relevance_score: self.scored[index].score,
            score: self.scored[index].score,
            document: self.text(index),
        };
        let with_data = self.request.wants_data || self.facts.always_data;
        let usage = self.usage();
        Canonical {
            id: self.facts.id,
            object: "rerank",
            created: self.facts.created,
            model: self.facts.model,
            results: order.iter().map(entry).collect(),
            data: with_data.then(|| order.iter().map(data_entry).collect()),
            score_type: self.facts.score_type,
            meta: Meta {
                api_version: ApiVersion { version: "2" },
                billed_units: BilledUnits { search_units: 1 },
                tokens: MetaTokens { input_tokens: usage.prompt_tokens, output_tokens: 0 },
            },
            usage,
            warnings: self.warnings(),
        }
    }

    fn tei(&self) -> Vec<TeiRank<'a>> {
        let entry = |index: usize| TeiRank {
            index,
            score: self.scored[index].score,
            text: self.text(index),
        };
        self.order().into_iter().map(entry).collect()
    }

    fn single(&self) -> BaaiSingle {
        BaaiSingle {
            score: self.scored.first().map_or(0.0, |one| one.score),
            normalized: self.facts.normalized,
            query_length: self.facts.lengths.0,
            passage_length: self.facts.lengths.1,
        }
    }

    fn batch(&self) -> BaaiBatch {
        BaaiBatch {
            scores: self.scored.iter().map(|one| one.score).collect(),
            normalized: self.facts.normalized,
            pairs_count: self.scored.len(),
        }
    }

    fn query(&self) -> BaaiQuery<'a> {
        let entry = |index: usize| RankedPassage {
            passage: self.texts.get(index).copied().unwrap_or_default(),
            score: self.scored[index].score,
        };
        BaaiQuery { re_ranked: self.order().into_iter().map(entry).collect() }
    }

    fn mixedbread(&self) -> Mixedbread<'a> {
        let entry = |index: usize| MixedbreadRank {
            index,
            score: self.scored[index].score,
            input: self.original(index),
            object: "rank_result",
        };
        let data: Vec<_> = self.order().into_iter().map(entry).collect();
        Mixedbread {
            usage: self.usage(),
            model: self.facts.model,
            top_k: data.len(),
            data,
            object: "list",
            return_input: self.request.return_documents,
            score_type: self.facts.score_type,
            warnings: self.warnings(),
        }
    }

    fn sglang(&self) -> Vec<SglangRank<'a>> {
        let entry = |index: usize| SglangRank {
            score: self.scored[index].score,
            document: self.original(index),
            index,
            meta_info: MetaInfo { id: self.facts.id, prompt_tokens: self.scored[index].tokens },
        };
        self.order().into_iter().map(entry).collect()
    }

    fn scores(&self) -> Scores<'a> {
        let entry = |(index, one): (usize, &Scored)| ScoreEntry {
            index,
            object: "score",
            score: one.score,
        };
        Scores {
            id: self.facts.id,
            object: "list",
            created: self.facts.created,
            model: self.facts.model,
            data: self.scored.iter().enumerate().map(entry).collect(),
            score_type: self.facts.score_type,
            usage: self.usage(),
            warnings: self.warnings(),
        }
    }

    /// Positions of the documents to return, best first. The server's own limit holds only for
    /// clients that know one: TEI's and BAAI's read every document's score.
    fn order(&self) -> Vec<usize> {
        let default = match self.request.shape {
            Shape::Canonical | Shape::Mixedbread => self.facts.default_top_n,
            _ => None,
        };
        rank(self.scored.iter().map(|one| one.score), self.request.top_n.or(default))
    }

    fn text(&self, index: usize) -> Option<&'a str> {
        self.texts.get(index).copied().filter(|_| self.request.return_documents)
    }

    /// The document as it came.
    fn original(&self, index: usize) -> Option<Original<'a>> {
        let fields = self.request.originals.get(index).and_then(Option::as_ref);
        self.text(index).map(|text| fields.map_or(Original::Text(text), Original::Fields))
    }

    fn usage(&self) -> Usage {
        let tokens = self.scored.iter().map(|one| one.tokens).sum();
        Usage { prompt_tokens: tokens, total_tokens: tokens }
    }

    fn warnings(&self) -> Vec<String> {
        rerank_warnings(self.request, self.scored)
    }
}

/// What the client is to know: parts of its request that were not honoured, texts that were cut.
/// Shapes without a place for it leave it to a header.
pub fn rerank_warnings(request: &RerankRequest, scored: &[Scored]) -> Vec<String> {
    let mut warnings = request.warnings.clone();
    if scored.iter().any(|one| one.query_truncated) {
        warnings.push("the query was truncated to fit".to_owned());
    }
    let truncated = scored.iter().filter(|one| one.truncated).count();
    if truncated > 0 {
        let all = scored.len();
        warnings.push(format!("{truncated} of {all} documents were truncated to fit"));
    }
    // Of a document in pieces the tokens of all of them are counted.
    if request.truncation.max_chunks_per_doc.is_none() {
        let most = scored.iter().map(|one| one.tokens).max().unwrap_or(0);
        let asked = request.truncation.max_tokens.filter(|&asked| asked < most);
        warnings.extend(asked.map(|asked| fewer_than_least(asked, most)));
    }
    warnings
}
