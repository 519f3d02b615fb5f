//! A model that answers with the words of the last message, a byte a token, so that a test writes down what it says.
//!
//! Its tokens are the 256 bytes and a few marks; its template puts a mark before each message and one after it.
//! Logits depend on the tokens of a sequence alone, as those of every model do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use bytes::Bytes;
use defrost_model::spec::ChatSpec;
use defrost_model::{
    Answers, Decoder, Error as ModelError, Logits, LogitsOf, OpenedSequence, Piece, Planned, Room,
    SequenceId, Wanted,
};
use defrost_server::{
    App, BootError, CHAT, Completer, Config, Info, Loaded, Offer, PhaseRecorder, Pipeline, router,
    start,
};
use defrost_tasks::{Error, GenerationLimits, Pieces, Prepared, TextToken, TextTokenizer};
use serde_json::{Map, json};

use super::super::toy::{FUNCTION, config};

/// Marks, whose ids follow those of the bytes.
const MARKS: [&str; 7] = [
    "<|end|>",
    "<|system|>",
    "<|developer|>",
    "<|user|>",
    "<|assistant|>",
    "<|tool|>",
    "<|tools|>",
];

const END: u32 = 256;
const USER: u32 = 259;
const ASSISTANT: u32 = 260;

/// Tokens of a conversation.
pub(crate) const CONTEXT: usize = 2048;

/// Calls are written as Hermes writes them; a system's message may forbid the roles of a conversation.
const TEMPLATE: &str = r#"{%- if tools %}<|tools|>{{ tools | tojson }}<|end|>{% endif -%}
{%- for m in messages -%}
{%- if m.role == "system" and m.content == "refuse" %}{{ raise_exception("this conversation is refused") }}{% endif -%}
<|{{ m.role }}|>{{ m.content }}
{%- for call in m.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor -%}
<|end|>
{%- endfor -%}
{%- if add_generation_prompt %}<|assistant|>{% if enable_thinking %}<think>
{% endif %}{% endif -%}
{#- </think> -#}"#;

type Hook = dyn Fn(usize) -> Result<(), ModelError> + Send + Sync;

/// See the module page.
pub(crate) struct Echo {
    decoder: EchoDecoder,
    tokenizer: TextTokenizer,
    pieces: Pieces,
    spec: ChatSpec,
}

impl Echo {
    pub(crate) fn new() -> Self {
        Self::with_hook(|_| Ok(()))
    }

    /// One whose steps first call `hook` with the number of sequences in them.
    pub(crate) fn with_hook(
        hook: impl Fn(usize) -> Result<(), ModelError> + Send + Sync + 'static,
    ) -> Self {
        let file = tokenizer_file();
        let image = Pieces::compile(&file).expect("a vocabulary");
        let special_tokens = BTreeMap::from([("eos_token".to_owned(), "<|end|>".to_owned())]);
        Self {
            decoder: EchoDecoder { state: Arc::default(), room: 1 << 16, hook: Box::new(hook) },
            tokenizer: TextTokenizer::from_json(&file).expect("a tokenizer"),
            pieces: Pieces::open(Bytes::from(image)).expect("an image"),
            spec: ChatSpec {
                template: Some(TEMPLATE.to_owned()),
                special_tokens,
                ends: [END].into(),
                ..ChatSpec::default()
            },
        }
    }

    /// How many tokens are held, as far as it is asked later.
    pub(crate) fn held(&self) -> impl Fn() -> usize + use<> {
        let state = Arc::clone(&self.decoder.state);
        move || state.lock().expect("no panic").held()
    }

    /// The same, with memory for so many tokens.
    pub(crate) fn with_room(mut self, tokens: usize) -> Self {
        self.decoder.room = tokens;
        self
    }
}

/// GPT-2's letter for a byte.
fn letter(byte: u8) -> char {
    let is_itself = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    if is_itself(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&other| !is_itself(other)).count();
    char::from_u32(256 + u32::try_from(before).expect("fewer than bytes")).expect("a letter")
}

fn tokenizer_file() -> Vec<u8> {
    let vocabulary: Map<_, _> =
        (0..=255u8).map(|byte| (letter(byte).to_string(), json!(byte))).collect();
    let mark = |(at, mark): (usize, &&str)| {
        json!({
            "id": 256 + at, "content": mark, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        })
    };
    let marks: Vec<_> = MARKS.iter().enumerate().map(mark).collect();
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": marks, "normalizer": null,
        "pre_tokenizer": bytes, "post_processor": null, "decoder": bytes,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": [],
        },
    });
    file.to_string().into_bytes()
}

struct EchoDecoder {
    state: Arc<Mutex<State>>,
    room: usize,
    hook: Box<Hook>,
}

#[derive(Default)]
struct State {
    next: u64,
    sequences: BTreeMap<SequenceId, Vec<u32>>,
}

impl State {
    fn add(&mut self, ids: Vec<u32>) -> SequenceId {
        self.next += 1;
        let id = SequenceId(self.next);
        self.sequences.insert(id, ids);
        id
    }

    fn held(&self) -> usize {
        self.sequences.values().map(Vec::len).sum()
    }

    fn of(&mut self, id: SequenceId) -> Result<&mut Vec<u32>, ModelError> {
        let unknown = || ModelError::Batch(format!("{id:?} is not open"));
        self.sequences.get_mut(&id).ok_or_else(unknown)
    }
}

impl std::fmt::Debug for EchoDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EchoDecoder")
    }
}

/// What comes after these tokens: the next one of the last user's message, or of a text that is continued the token
/// before last.
fn next(ids: &[u32]) -> u32 {
    let after = |mark: u32, ids: &[u32]| ids.iter().rposition(|&id| id == mark).map(|at| at + 1);
    let Some(reply) = after(ASSISTANT, ids) else {
        return ids.len().checked_sub(2).map_or(END, |at| ids[at]);
    };
    let (before, said) = ids.split_at(reply);
    let Some(user) = after(USER, before) else { return END };
    let message = before[user..].split(|&id| id == END).next().unwrap_or_default();
    // A prompt may open thoughts, which are no part of what is repeated.
    let opened = b"<think>\n".map(u32::from);
    let said = said.strip_prefix(&opened[..]).unwrap_or(said);
    message.get(said.len()).copied().unwrap_or(END)
}

fn row(ids: &[u32]) -> Vec<f32> {
    let mut row = vec![0.0; 256 + MARKS.len()];
    // What it says where it may not say that.
    row[usize::from(b'a')..=usize::from(b'z')].fill(1.0);
    row[next(ids) as usize] = 20.0;
    row
}

impl Decoder for EchoDecoder {
    fn vocab(&self) -> usize {
        256 + MARKS.len()
    }

    fn context(&self) -> usize {
        CONTEXT
    }

    fn room(&self) -> Room {
        let held = self.state.lock().expect("no panic").held();
        Room { total: self.room, held, kept: 0 }
    }

    fn open(&self, ids: &[u32]) -> Result<OpenedSequence, ModelError> {
        assert!(!ids.is_empty(), "a sequence has tokens");
        let id = self.state.lock().expect("no panic").add(Vec::new());
        Ok(OpenedSequence { id, cached: 0 })
    }

    fn fork(&self, sequence: SequenceId) -> Result<SequenceId, ModelError> {
        let mut state = self.state.lock().expect("no panic");
        let ids = state.of(sequence)?.clone();
        Ok(state.add(ids))
    }

    fn make_room(&self, wanted: &[(SequenceId, usize)]) -> Result<bool, ModelError> {
        let more: usize = wanted.iter().map(|(_, tokens)| tokens).sum();
        Ok(self.state.lock().expect("no panic").held() + more <= self.room)
    }

    fn step(&self, pieces: &[Piece<'_>]) -> Result<Vec<Logits>, ModelError> {
        (self.hook)(pieces.len())?;
        let mut state = self.state.lock().expect("no panic");
        let mut answers = Vec::new();
        for piece in pieces {
            let ids = state.of(piece.sequence)?;
            let before = ids.len();
            ids.extend_from_slice(piece.ids);
            let mut rows: Vec<Vec<f32>> = match piece.logits {
                LogitsOf::None => Vec::new(),
                LogitsOf::Last => vec![row(ids)],
                LogitsOf::All => (before + 1..=ids.len()).map(|len| row(&ids[..len])).collect(),
            };
            if let (Some(allowed), Some(last)) = (piece.allowed, rows.last_mut()) {
                for (id, logit) in (0..).zip(last) {
                    if !allowed.allows(id) {
                        *logit = f32::NEG_INFINITY;
                    }
                }
            }
            answers.push(Logits(rows));
        }
        Ok(answers)
    }

    fn truncate(&self, sequence: SequenceId, len: usize) -> Result<(), ModelError> {
        self.state.lock().expect("no panic").of(sequence)?.truncate(len);
        Ok(())
    }

    fn close(&self, sequence: SequenceId) {
        self.state.lock().expect("no panic").sequences.remove(&sequence);
    }
}

impl Completer for Echo {
    fn decoder(&self) -> Result<&dyn Decoder, Error> {
        Ok(&self.decoder)
    }

    fn pieces(&self) -> &Pieces {
        &self.pieces
    }

    fn limits(&self) -> GenerationLimits {
        GenerationLimits { vocab: self.decoder.vocab(), context: CONTEXT }
    }

    fn spec(&self) -> &ChatSpec {
        &self.spec
    }

    fn ids(&self, text: &str, _: bool) -> Result<Vec<u32>, Error> {
        let ids = self.tokenizer.ids(text, CONTEXT)?;
        if ids.len() > CONTEXT {
            let (limit, prompt) = (CONTEXT, ids.len());
            return Err(Error::ContextExceeded { limit, prompt, completion: None });
        }
        Ok(ids)
    }
}

impl Pipeline for Echo {
    fn info(&self) -> Info {
        Info {
            name: "toy/echo".into(),
            family: "llama".into(),
            precision: "f32".into(),
            hidden: 16,
            layers: 2,
            max_length: CONTEXT,
            vocab: self.decoder.vocab(),
            takes_instruction: false,
            backend: "engine",
            kernel: "portable",
            threads: 1,
            snapshot: "00ec".into(),
            bytes: 100,
            room_bytes: 0,
        }
    }

    fn run(&self, _: &[Planned<'_>], _: Wanted) -> Result<Vec<Answers>, Error> {
        unreachable!("it runs no passes")
    }

    fn sample(&self) -> Result<Prepared<()>, Error> {
        unreachable!("it runs no passes")
    }

    fn tokenize(&self, text: &str, _: bool) -> Result<Vec<TextToken>, Error> {
        let token = |id| {
            let piece = String::from_utf8_lossy(self.pieces.bytes(id)).into_owned();
            TextToken { id, piece, bytes: None, chars: None, special: id >= END }
        };
        Ok(self.tokenizer.ids(text, usize::MAX)?.into_iter().map(token).collect())
    }

    fn detokenize(&self, ids: &[u32], skip_special: bool) -> Result<String, Error> {
        Ok(self.pieces.text(ids, skip_special))
    }
}

/// A function that chats, with this model.
pub(crate) fn start_with(
    vars: &[(&str, &str)],
    load: impl FnOnce() -> Result<Echo, BootError> + Send + 'static,
) -> Arc<App> {
    let load = Mutex::new(Some(load));
    let load = move |_: &Config, _: &PhaseRecorder| {
        let load = load.lock().expect("no panic").take().expect("loaded once");
        load().map(Loaded::completer)
    };
    let phases = Arc::new(PhaseRecorder::start());
    start(FUNCTION, config(vars), phases, [Offer::new(&CHAT, load)]).expect("a thread starts")
}

/// The router of a function that is ready.
pub(crate) async fn ready(vars: &[(&str, &str)]) -> Router {
    ready_with(vars, Echo::new()).await
}

/// The same, of this model.
pub(crate) async fn ready_with(vars: &[(&str, &str)], model: Echo) -> Router {
    let app = start_with(vars, || Ok(model));
    app.booted().await;
    router(app)
}
