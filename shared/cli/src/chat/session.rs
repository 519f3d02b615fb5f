//! A conversation: what was said, how answers are to be, and the request that says both.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value, json};
use tokio::runtime::Runtime;
use tokio::signal::unix::Signal;

use super::Args;
use super::answer::Answer;
use super::talker::{Show, Talker};

/// The options that can be set, by the names that requests have for them, and whether each is a whole number.
pub(super) const OPTIONS: [(&str, bool); 9] = [
    ("temperature", false),
    ("top_p", false),
    ("top_k", true),
    ("min_p", false),
    ("seed", true),
    ("max_tokens", true),
    ("repetition_penalty", false),
    ("frequency_penalty", false),
    ("presence_penalty", false),
];

/// One thing that was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Message {
    role: String,
    content: String,
}

/// A conversation in a file.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    messages: Vec<Message>,
    /// The options of requests.
    #[serde(default)]
    options: Map<String, Value>,
}

/// What answers took, all together.
#[derive(Debug, Default)]
struct Totals {
    answers: u64,
    tokens: u64,
    prompt: u64,
    last: Option<String>,
}

/// See the module page.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// The server's model, where requests name one.
    pub(super) model: Option<String>,
    system: Option<String>,
    messages: Vec<Message>,
    options: Map<String, Value>,
    /// The form that answers are held to.
    format: Option<Value>,
    totals: Totals,
}

impl Session {
    pub(super) fn new(args: &Args) -> Result<Self> {
        let mut options = Map::new();
        let floats = [
            ("temperature", "--temperature", args.temperature),
            ("top_p", "--top-p", args.top_p),
            ("min_p", "--min-p", args.min_p),
        ];
        for (name, flag, value) in floats {
            if let Some(value) = value {
                let Some(number) = Number::from_f64(value) else {
                    bail!("{flag}: expected a number, found {value}");
                };
                options.insert(name.to_owned(), number.into());
            }
        }
        let counts = [("top_k", args.top_k), ("seed", args.seed), ("max_tokens", args.max_tokens)];
        for (name, value) in counts {
            options.extend(value.map(|value| (name.to_owned(), value.into())));
        }
        let format = args.json_schema.as_deref().map(format_of).transpose()?;
        let system = args.system.clone().filter(|system| !system.is_empty());
        Ok(Self { system, options, format, ..Self::default() })
    }

    /// The request for a reply to this.
    fn request(&self, question: &str) -> Value {
        let mut body = Map::new();
        body.extend(self.model.as_deref().map(|model| ("model".to_owned(), model.into())));
        let system = self.system.as_deref().map(|text| said("system", text));
        let all = system.into_iter().chain(self.messages.iter().cloned());
        let all: Vec<Message> = all.chain([said("user", question)]).collect();
        body.insert("messages".to_owned(), json!(all));
        body.insert("stream".to_owned(), true.into());
        body.insert("stream_options".to_owned(), json!({"include_usage": true}));
        body.extend(self.options.clone());
        body.extend(self.format.clone().map(|format| ("response_format".to_owned(), format)));
        Value::Object(body)
    }

    /// Asks and shows the answer. What came of it stays in the conversation; a question without any answer does not, so that
    /// it can be asked again.
    pub(super) fn ask(
        &mut self,
        talker: &Talker,
        runtime: &Runtime,
        question: String,
        show: Show,
        interrupt: Option<&mut Signal>,
    ) -> Result<Answer> {
        let body = self.request(&question).to_string();
        let (answer, result) = talker.answer(runtime, body, show, interrupt);
        self.note(question, &answer);
        result.map(|()| answer)
    }

    fn note(&mut self, question: String, answer: &Answer) {
        if answer.text.is_empty() && answer.thoughts.is_empty() {
            return;
        }
        self.messages.push(Message { role: "user".into(), content: question });
        self.messages.push(said("assistant", &answer.text));
        self.totals.answers += 1;
        self.totals.tokens += answer.tokens();
        self.totals.prompt += answer.usage.map_or(0, |usage| usage.prompt_tokens);
        self.totals.last = Some(answer.figures());
    }

    /// Begins anew.
    pub(super) fn clear(&mut self) {
        self.messages.clear();
    }

    pub(super) fn system(&self) -> Option<&str> {
        self.system.as_deref()
    }

    /// Sets the system prompt, or takes it away.
    pub(super) fn set_system(&mut self, text: &str) {
        self.system = Some(text.to_owned()).filter(|text| !text.is_empty());
    }

    /// The options that are set, a line each.
    pub(super) fn options(&self) -> Vec<String> {
        self.options.iter().map(|(name, value)| format!("{name} {value}")).collect()
    }

    /// Sets an option, or without a value leaves it to the model again. Whether it may be so is the server's to say.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let name = if name == "repeat_penalty" { "repetition_penalty" } else { name };
        let Some(&(name, is_whole)) = OPTIONS.iter().find(|(known, _)| *known == name) else {
            let known: Vec<&str> = OPTIONS.iter().map(|(known, _)| *known).collect();
            bail!("/set: expected one of {}, found {name:?}", known.join(", "));
        };
        if value.is_empty() {
            self.options.remove(name);
            return Ok(());
        }
        let number = if is_whole {
            value.parse::<i64>().ok().map(Number::from)
        } else {
            value.parse().ok().and_then(Number::from_f64)
        };
        let Some(number) = number else {
            let kind = if is_whole { "a whole number" } else { "a number" };
            bail!(
                "/set {name}: expected {kind}, found {value:?}; without one it is the model's own again"
            );
        };
        self.options.insert(name.to_owned(), number.into());
        Ok(())
    }

    /// What answers took so far.
    pub(super) fn stats(&self) -> String {
        let Totals { answers, tokens, prompt, last } = &self.totals;
        let Some(last) = last else { return "nothing was answered yet".to_owned() };
        let word = if *answers == 1 { "answer" } else { "answers" };
        format!("{answers} {word}, {tokens} tokens, of prompts {prompt}; the last: {last}")
    }

    /// How many things were said.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Writes the conversation to a file; one that is there must hold one, so that nothing else is lost.
    pub(super) fn save(&self, file: &Path) -> Result<()> {
        if file.exists() && Saved::read(file).is_err() {
            bail!(
                "{}: is there and holds something else than a conversation; give another name",
                file.display()
            );
        }
        let system = self.system.as_deref().map(|text| said("system", text));
        let messages = system.into_iter().chain(self.messages.iter().cloned()).collect();
        let (model, options) = (self.model.clone(), self.options.clone());
        let text = serde_json::to_string_pretty(&Saved { model, messages, options })?;
        let about = || format!("cannot write {}", file.display());
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new("."));
        // Whole or not at all.
        let mut written = tempfile::NamedTempFile::new_in(folder).with_context(about)?;
        writeln!(written, "{text}").with_context(about)?;
        written.persist(file).with_context(about)?;
        Ok(())
    }

    /// Goes on with the conversation of a file, in place of this one.
    pub(super) fn load(&mut self, file: &Path) -> Result<()> {
        let Saved { model: _, mut messages, options } = Saved::read(file)?;
        let is_system = messages.first().is_some_and(|first| first.role == "system");
        self.system = is_system.then(|| messages.remove(0).content);
        (self.messages, self.options) = (messages, options);
        Ok(())
    }
}

fn said(role: &str, content: &str) -> Message {
    Message { role: role.to_owned(), content: content.to_owned() }
}

impl Saved {
    fn read(file: &Path) -> Result<Self> {
        let about = || format!("cannot read {}", file.display());
        let text = std::io::read_to_string(File::open(file).with_context(about)?);
        let text = text.with_context(about)?;
        let read: Self = serde_json::from_str(&text).with_context(|| {
            format!(
                "{}: expected a conversation, as /save writes it: {{\"messages\": [{{\"role\": \"user\", \"content\": \"…\"}}, …]}}",
                file.display()
            )
        })?;
        for (name, _) in &read.options {
            if !OPTIONS.iter().any(|(known, _)| known == name) {
                bail!("{}: {name:?} is no option that can be set; take it out", file.display());
            }
        }
        Ok(read)
    }
}

/// The form of answers that a file's schema asks for.
fn format_of(file: &Path) -> Result<Value> {
    let expected = || format!("--json-schema {}: expected a JSON schema", file.display());
    let text = std::fs::read_to_string(file).with_context(expected)?;
    let schema: Value = serde_json::from_str(&text).with_context(expected)?;
    if !schema.is_object() {
        bail!("{}, an object such as {{\"type\": \"object\"}}, found {schema}", expected());
    }
    Ok(json!({
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": true, "schema": schema},
    }))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn answered(session: &mut Session, question: &str, answer: &str) {
        let mut told = Answer::begin(Instant::now());
        answer.clone_into(&mut told.text);
        session.note(question.to_owned(), &told);
    }

    #[test]
    fn a_request_holds_all_that_was_said_and_set() {
        let mut session = Session { model: Some("m".into()), ..Session::default() };
        session.set_system("be brief");
        answered(&mut session, "one?", "1");
        answered(&mut session, "nothing?", "");
        session.set("temperature", "0.2").unwrap();
        session.set("repeat_penalty", "1.1").unwrap();
        session.set("max_tokens", "9").unwrap();
        session.set("seed", "4").unwrap();
        session.set("seed", "").unwrap();
        let expected = json!({
            "model": "m",
            "messages": [
                {"role": "system", "content": "be brief"}, {"role": "user", "content": "one?"},
                {"role": "assistant", "content": "1"}, {"role": "user", "content": "two?"},
            ],
            "stream": true, "stream_options": {"include_usage": true},
            "temperature": 0.2, "repetition_penalty": 1.1, "max_tokens": 9,
        });
        assert_eq!(session.request("two?"), expected);
        assert_eq!(
            session.options(),
            ["temperature 0.2", "repetition_penalty 1.1", "max_tokens 9"]
        );
        for (name, value, says) in [
            ("temprature", "1", "expected one of temperature, top_p"),
            ("temperature", "warm", "expected a number, found \"warm\""),
            ("temperature", "inf", "expected a number"),
            ("max_tokens", "1.5", "expected a whole number"),
        ] {
            let error = session.set(name, value).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn what_is_saved_is_loaded_and_other_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (file, other) = (dir.path().join("talk.json"), dir.path().join("other.json"));
        let mut session = Session::default();
        session.set_system("be brief");
        session.set("temperature", "0").unwrap();
        answered(&mut session, "one?", "1\n");
        session.save(&file).unwrap();
        answered(&mut session, "two?", "2");
        session.save(&file).unwrap();
        let mut loaded = Session::default();
        loaded.load(&file).unwrap();
        assert_eq!(loaded.request("three?"), session.request("three?"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");

        std::fs::write(&other, "{\"important\": 1}").unwrap();
        let error = session.save(&other).unwrap_err().to_string();
        assert!(error.contains("something else than a conversation"), "{error}");
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "{\"important\": 1}");
        let error = loaded.load(&other).unwrap_err().to_string();
        assert!(error.contains("expected a conversation"), "{error}");
        std::fs::write(&other, "{\"messages\": [], \"options\": {\"tools\": []}}").unwrap();
        assert!(loaded.load(&other).unwrap_err().to_string().contains("\"tools\" is no option"));
        assert_eq!(loaded.len(), 4, "what went wrong changes nothing");
    }
}
