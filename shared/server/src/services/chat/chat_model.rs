//! What conversations need of a model beside its numbers: the template, ready to run, and grammars over its tokens.
//! The template is made beside the rest of boot, what makes grammars when it is first asked for: most requests need none.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use defrost_api::{Conversation, OutputFormat};
use defrost_chat::{
    Grammar, GrammarCompiler, Prompt, ReplyForm, SpecialTexts, Templates, Tokenize, VocabularyToken,
};
use defrost_model::spec::ChatSpec;
use defrost_model::{Constraint, Decoder, Room};
use defrost_tasks::{Error, GenerationLimits, Pieces};

use super::completer::Completer;
use super::slot_list::{Slot, Slots};
use super::translate;

/// The name under which models keep a template for conversations with tools.
const WITH_TOOLS: &str = "tool_use";

/// See the module page.
pub(crate) struct ChatModel {
    completer: Arc<dyn Completer>,
    slots: Mutex<Slots>,
    templates: OnceLock<Result<Templates, defrost_chat::Error>>,
    /// What makes grammars of the model's tokens, or why none can be made.
    compiler: OnceLock<Result<GrammarCompiler, String>>,
}

impl ChatModel {
    pub(crate) fn new(completer: Arc<dyn Completer>) -> Self {
        let (templates, compiler) = (OnceLock::new(), OnceLock::new());
        Self { completer, slots: Mutex::default(), templates, compiler }
    }

    pub(crate) fn spec(&self) -> &ChatSpec {
        self.completer.spec()
    }

    pub(crate) fn limits(&self) -> GenerationLimits {
        self.completer.limits()
    }

    pub(crate) fn pieces(&self) -> &Pieces {
        self.completer.pieces()
    }

    pub(crate) fn room(&self) -> Room {
        self.decoder().map(Decoder::room).unwrap_or_default()
    }

    pub(crate) fn decoder(&self) -> Result<&dyn Decoder, Error> {
        self.completer.decoder()
    }

    /// What runs, or ran, in each slot that was ever used.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).list()
    }

    pub(crate) fn note_slots(&self, note: impl FnOnce(&mut Slots)) {
        note(&mut self.slots.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The tokens of a text, as [`Completer::ids`].
    pub(crate) fn ids(&self, text: &str, add_special: bool) -> Result<Vec<u32>, Error> {
        self.completer.ids(text, add_special)
    }

    /// Makes the template ready to run.
    pub(crate) fn prepare(&self) {
        if let Err(error) = self.templates()
            && self.spec().template.is_some()
        {
            tracing::error!("conversations will be refused: {error}");
        }
    }

    /// How the model writes calls of tools, if its template shows them.
    pub(crate) fn calls(&self) -> Option<&'static str> {
        let templates = self.templates().ok()?;
        templates.of(true).habits().calls.map(defrost_chat::FormatKind::as_str)
    }

    /// The prompt that a conversation makes, what its reply is to be read as, and what it must be.
    ///
    /// # Errors
    /// What is wrong with the conversation, or with the model's template.
    pub(crate) fn prompt(
        &self,
        conversation: &Conversation,
        format: &OutputFormat,
        now: Duration,
    ) -> Result<Prompt, Error> {
        let conversation = translate::conversation(conversation, format, now);
        self.templates()?.prompt(&conversation).map_err(|error| fault(&error, format))
    }

    /// What holds completions to a form, one for each; none where there is none.
    ///
    /// # Errors
    /// What of the form cannot be enforced.
    pub(crate) fn constraints(
        &self,
        grammar: Option<&Grammar>,
        format: &OutputFormat,
        count: usize,
    ) -> Result<Vec<Box<dyn Constraint>>, Error> {
        let Some(grammar) = grammar else { return Ok(Vec::new()) };
        let compiler = self.compiler.get_or_init(|| self.grammar_compiler());
        let compiler = compiler.as_ref().map_err(|message| Error::Model(message.clone()))?;
        let constraint = compiler.compile(grammar).map_err(|error| fault(&error, format))?;
        let one = |_| -> Box<dyn Constraint> { Box::new(constraint.clone()) };
        Ok((0..count).map(one).collect())
    }

    fn grammar_compiler(&self) -> Result<GrammarCompiler, String> {
        let (pieces, vocab) = (self.pieces(), self.limits().vocab);
        let names: Vec<Option<String>> = (0..)
            .take(vocab)
            .map(|id| pieces.is_special(id).then(|| pieces.text(&[id], false)))
            .collect();
        let tokens: Vec<VocabularyToken<'_>> = (0..)
            .zip(&names)
            .map(|(id, name)| match (name, pieces.bytes(id)) {
                (_, []) => VocabularyToken::None,
                (Some(name), _) => VocabularyToken::Special(name),
                (None, bytes) => VocabularyToken::Bytes(bytes),
            })
            .collect();
        let ends: Vec<u32> = self.spec().ends.iter().copied().collect();
        let completer = Arc::clone(&self.completer);
        // A text that cannot be tokenised forces nothing.
        let tokenize: Tokenize =
            Arc::new(move |text| completer.ids(text, false).unwrap_or_default());
        GrammarCompiler::new(&tokens, &ends, Some(tokenize)).map_err(|error| error.to_string())
    }

    /// As [`ChatModel::constraints`], of a text that is continued.
    pub(crate) fn constraints_of_text(
        &self,
        format: &OutputFormat,
        count: usize,
    ) -> Result<Vec<Box<dyn Constraint>>, Error> {
        let grammar = Grammar::of_format(&translate::format(format));
        let grammar = grammar.map_err(|error| fault(&error, format))?;
        self.constraints(grammar.as_ref(), format, count)
    }

    /// Whether a reply of this form is read from texts of special tokens, which other replies do without.
    pub(crate) fn has_special(&self, form: &ReplyForm) -> bool {
        let special = |mark: &&str| {
            // A mark of one token: the only one that its text makes.
            let ids = self.completer.ids(mark, false);
            ids.is_ok_and(|ids| matches!(ids[..], [id] if self.pieces().is_special(id)))
        };
        form.marks().iter().any(special)
    }

    fn templates(&self) -> Result<&Templates, Error> {
        let spec = self.spec();
        let Some(template) = &spec.template else {
            let message = "messages: this model has no template for conversations; send a text to /v1/completions";
            return Err(Error::InvalidInput { param: "messages", message: message.to_owned() });
        };
        let made = self.templates.get_or_init(|| {
            let text = |name: &str| spec.special_tokens.get(name).cloned().unwrap_or_default();
            let texts = SpecialTexts { bos: text("bos_token"), eos: text("eos_token") };
            let with_tools = spec.named_templates.get(WITH_TOOLS).map(String::as_str);
            Templates::new(template, with_tools, &texts)
        });
        made.as_ref().map_err(|error| fault(error, &OutputFormat::Text))
    }
}

/// The error by the field of the request that is at fault; without one, the model is.
fn fault(error: &defrost_chat::Error, format: &OutputFormat) -> Error {
    let message = error.to_string();
    let Some(field) = error.field() else { return Error::Model(message) };
    // Forms come in many fields; the request says in which.
    let param = match (error, translate::field_of(format)) {
        (defrost_chat::Error::Grammar { .. }, Some(own)) => own,
        _ => field,
    };
    Error::InvalidInput { param, message }
}
