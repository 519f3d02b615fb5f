//! Grammars in terms of one model's tokens.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use defrost_model::{Constraint, Error as ModelError, TokenMask};
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{InferenceCapabilities, TokEnv};
use llguidance::{Matcher, ParserFactory};

use super::vocabulary::{self, Specials, Tokenize, VocabularyToken};
use super::{Grammar, lark, of_format, of_tool, schema};
use crate::Error;
use crate::message::{ResponseFormat, Tool};

/// How many compiled grammars are kept: an agent asks again and again for the few that it has.
const KEPT: usize = 32;
/// The longest message of the library that is passed on.
const LONGEST_MESSAGE: usize = 400;

/// Compiles grammars for one model. Making one takes a while for large vocabularies, so it is made when it is first needed;
/// it is then for all requests.
pub struct GrammarCompiler {
    factory: ParserFactory,
    specials: Specials,
    vocab: usize,
    /// By their text, the last used at the end.
    kept: Mutex<Vec<(String, Matcher)>>,
}

impl fmt::Debug for GrammarCompiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrammarCompiler").field("vocab", &self.vocab).finish_non_exhaustive()
    }
}

impl GrammarCompiler {
    /// For a model whose tokens are these, by id, some of which end a text. With its tokenizer, tokens that must come are
    /// known ([`Constraint::forced`]).
    ///
    /// # Errors
    /// If none of the tokens ends a text: the model's fault.
    pub fn new(
        tokens: &[VocabularyToken<'_>],
        ends: &[u32],
        tokenize: Option<Tokenize>,
    ) -> Result<Self, ModelError> {
        let forces = tokenize.is_some();
        let (environment, specials) = vocabulary::environment(tokens, ends, tokenize)
            .map_err(|message| ModelError::Model(format!("the model's vocabulary: {message}")))?;
        let environment: TokEnv = Arc::new(environment);
        let capabilities = InferenceCapabilities { ff_tokens: forces, ..Default::default() };
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&environment, capabilities, &slices)
            .map_err(|error| ModelError::Model(format!("the model's vocabulary: {error}")))?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        Ok(Self { factory, specials, vocab: tokens.len(), kept: Mutex::new(Vec::new()) })
    }

    /// The constraint of a reply.
    ///
    /// # Errors
    /// [`Error::Grammar`] if it cannot be enforced; it says what and why.
    pub fn compile(&self, grammar: &Grammar) -> Result<TokenConstraint, Error> {
        let mark = |text: &str| match self.specials.get(text) {
            Some(id) => format!("<[{id}]>"),
            None => lark::quoted(text),
        };
        let text = grammar.lark(&mark, &|_| false)?;
        if let Ok(matcher) = self.matcher(&text) {
            return Ok(self.constraint(matcher));
        }
        // Which part is it? Those that must be followed are told; others are followed as far as they can be.
        self.find_fault(grammar)?;
        let is_loose = |tool: &Tool| !tool.strict && self.fault_of(tool).is_some();
        let text = grammar.lark(&mark, &is_loose)?;
        let matcher =
            self.matcher(&text).map_err(|message| of_format(&grammar.answer.format, &message))?;
        Ok(self.constraint(matcher))
    }

    fn constraint(&self, matcher: Matcher) -> TokenConstraint {
        TokenConstraint { matcher, vocab: self.vocab }
    }

    fn matcher(&self, lark: &str) -> Result<Matcher, String> {
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut kept = lock();
            if let Some(at) = kept.iter().position(|(text, _)| text == lark) {
                let found = kept.remove(at);
                let matcher = found.1.deep_clone();
                kept.push(found);
                return Ok(matcher);
            }
        }
        let matcher = self.compiled(TopLevelGrammar::from_lark(lark.to_owned()))?;
        let mut kept = lock();
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push((lark.to_owned(), matcher.deep_clone()));
        Ok(matcher)
    }

    fn compiled(&self, grammar: TopLevelGrammar) -> Result<Matcher, String> {
        let parser =
            self.factory.create_parser(grammar).map_err(|error| cleaned(&error.to_string()))?;
        let mut matcher = Matcher::new(Ok(parser));
        // What is too much shows with the first mask.
        match matcher.compute_mask_or_eos() {
            Ok(_) => Ok(matcher),
            Err(error) => Err(cleaned(&error.to_string())),
        }
    }

    /// The part of a grammar that cannot be enforced and must be, by itself.
    fn find_fault(&self, grammar: &Grammar) -> Result<(), Error> {
        for (at, tool) in grammar.strict_tools() {
            if let Some(fault) = self.fault_of(tool) {
                return Err(of_tool(at, tool, &fault));
            }
        }
        let alone = match &grammar.answer.format {
            ResponseFormat::JsonSchema(schema) => {
                TopLevelGrammar::from_json_schema(schema::on_one_line(schema))
            }
            ResponseFormat::Lark(lark) => TopLevelGrammar::from_lark(lark.clone()),
            ResponseFormat::Text => return Ok(()),
            format => match Grammar::of_format(format)? {
                Some(alone) => TopLevelGrammar::from_lark(alone.lark(&lark::quoted, &|_| false)?),
                None => return Ok(()),
            },
        };
        match self.compiled(alone) {
            Ok(_) => Ok(()),
            Err(message) => Err(of_format(&grammar.answer.format, &message)),
        }
    }

    /// What is wrong with the parameters of a tool.
    fn fault_of(&self, tool: &Tool) -> Option<String> {
        let parameters = schema::of_object(tool.parameters.as_ref()?);
        let alone = TopLevelGrammar::from_json_schema(schema::on_one_line(&parameters));
        schema::check(&parameters).err().or_else(|| self.compiled(alone).err())
    }
}

/// A message of the library without the lines of grammar that it quotes.
fn cleaned(message: &str) -> String {
    let quotes = |line: &&str| {
        let number = line.trim_start();
        let rest = number.trim_start_matches(|letter: char| letter.is_ascii_digit());
        let is_marked = number.chars().all(|letter| letter == '^' || letter == ' ');
        let is_numbered = rest.len() < number.len() && rest.starts_with(" |");
        !(number.is_empty() || is_marked || is_numbered)
    };
    let lines: Vec<&str> = message.lines().filter(quotes).map(str::trim).collect();
    lines.join("; ").chars().take(LONGEST_MESSAGE).collect()
}

/// Holds the tokens of one reply to a grammar.
pub struct TokenConstraint {
    matcher: Matcher,
    vocab: usize,
}

impl fmt::Debug for TokenConstraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenConstraint").field("vocab", &self.vocab).finish_non_exhaustive()
    }
}

impl Clone for TokenConstraint {
    fn clone(&self) -> Self {
        Self { matcher: self.matcher.deep_clone(), vocab: self.vocab }
    }
}

impl TokenConstraint {
    /// Nothing can follow. What has stopped for another reason says so when it is asked for a mask.
    fn is_over(&self) -> bool {
        self.matcher.is_stopped() && self.matcher.stop_reason().is_ok()
    }
}

fn too_much(error: &impl fmt::Display) -> ModelError {
    ModelError::Constraint(cleaned(&error.to_string()))
}

impl Constraint for TokenConstraint {
    fn mask(&mut self) -> Result<Option<TokenMask>, ModelError> {
        let mask = self.matcher.compute_mask_or_eos();
        let mask = mask.map_err(|error| too_much(&error))?;
        Ok(Some(TokenMask::from_words(mask.as_slice(), self.vocab)))
    }

    fn accept(&mut self, id: u32) -> Result<(), ModelError> {
        self.matcher.consume_token(id).map_err(|error| too_much(&error))
    }

    fn forced(&mut self) -> Vec<u32> {
        if self.matcher.is_stopped() { Vec::new() } else { self.matcher.compute_ff_tokens() }
    }

    fn may_end(&mut self) -> bool {
        self.is_over() || self.matcher.is_accepting().unwrap_or(false)
    }

    fn is_done(&mut self) -> bool {
        self.is_over()
    }
}
