//! `defrost chat`: piped, against the real function, and in a terminal.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use defrost_server::{
    Action, CHAT, Config, Function, Offer, PhaseRecorder, restore_completer, serve, start,
};
use defrost_testing::golden;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::server::{Answer, Server, nowhere};
use super::support::{command, pack, run, run_with_input};

const QUESTION: &str = "What is a snapshot?";
/// What the tiny model has read about it.
const KNOWN: &str = "weights in the layout of the kernels";

fn gguf() -> String {
    golden::repository("data/tiny-chat").join("model.gguf").display().to_string()
}

fn packed(dir: &Path) {
    run(dir, &["pack", &gguf(), "--name", "defrost/tiny-chat", "--out", "tiny.snap"]).text();
}

#[test]
fn a_piped_question_is_answered_and_a_gguf_file_packed_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = gguf();
    let args = ["chat", &file, "--temperature", "0", "--cache-dir", "cache"];
    let first = run_with_input(dir.path(), &args, "What is a snapshot?\n");
    assert!(
        first.err.contains("into cache/packed/model-") && first.err.contains(", once"),
        "{first:?}"
    );
    let figures = first.err.lines().last().unwrap().to_owned();
    assert!(
        figures.contains(" tokens, ") && figures.contains(" tokens/s, first after "),
        "{figures}"
    );
    let text = first.text();
    assert!(text.contains(KNOWN) && text.ends_with('\n') && !text.ends_with("\n\n"), "{text:?}");

    let again = run(dir.path(), &[&args[..], &["--prompt", QUESTION]].concat());
    assert!(!again.err.contains("pack"), "{again:?}");
    assert_eq!(again.text(), text, "the same question");
    let limited = ["--prompt", QUESTION, "--max-tokens", "5", "--system", "Be brief."];
    let cut = run(dir.path(), &[&args[..], &limited].concat());
    assert!(cut.err.contains("5 tokens, ") && cut.err.contains("cut off"), "{cut:?}");
    assert!(cut.text().len() < text.len());
}

#[test]
fn an_answer_is_held_to_a_schema() {
    let dir = tempfile::tempdir().unwrap();
    packed(dir.path());
    let schema = json!({
        "type": "object", "properties": {"size": {"enum": [17, 23]}}, "required": ["size"],
        "additionalProperties": false,
    });
    std::fs::write(dir.path().join("schema.json"), schema.to_string()).unwrap();
    let args = ["chat", "tiny.snap", "--json-schema", "schema.json", "--prompt", "How large?"];
    let answer = run(dir.path(), &args).json();
    assert!(answer == json!({"size": 17}) || answer == json!({"size": 23}), "{answer}");
}

/// The function `chat` as it is, on a port of loopback.
struct Chatting {
    url: String,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
}

const FUNCTION: Function = Function {
    name: "chat",
    version: "0",
    about: "chats in a test",
    runtimes: &[&defrost_engine::RUNTIME],
};

impl Chatting {
    fn start(snapshot: &Path, key: &str) -> Self {
        let words = ["chat", "--model", snapshot.to_str().unwrap(), "--api-keys", key];
        let Ok(Action::Serve(config)) =
            Config::from_lookup(&FUNCTION, &["chat"], words, |_| None, [])
        else {
            panic!("settings")
        };
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        let serving = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                let phases = Arc::new(PhaseRecorder::start());
                let offer = Offer::new(&CHAT, restore_completer);
                let app = start(FUNCTION, *config, phases, [offer]).unwrap();
                let stopped = async {
                    let _ = stopped.await;
                };
                assert!(serve(listener, app, stopped).await);
            });
        });
        let url = format!("http://{}", told.recv().unwrap());
        Self { url, stop: Some(stop), serving: Some(serving) }
    }
}

impl Drop for Chatting {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.serving.take().map(JoinHandle::join);
    }
}

#[test]
fn a_running_function_says_what_a_model_here_does() {
    let dir = tempfile::tempdir().unwrap();
    packed(dir.path());
    let function = Chatting::start(&dir.path().join("tiny.snap"), "a-key");
    let with_url = format!("{}/v1/", function.url);
    let here = ["chat", "tiny.snap", "--temperature", "0", "--prompt", QUESTION];
    let here = run(dir.path(), &here).text();
    for url in [&function.url, &with_url] {
        for name in [&[][..], &["defrost/tiny-chat"]] {
            let asked = ["--url", url, "--api-key", "a-key", "--temperature", "0"];
            let args = [&["chat"], name, &asked, &["--prompt", QUESTION]].concat();
            let there = run(dir.path(), &args);
            assert!(there.err.contains(" tokens/s"), "{there:?}");
            assert_eq!(there.text(), here);
        }
    }
    let url = &function.url;
    let long = "word ".repeat(4000);
    for (more, says) in [
        (&["--prompt", "x"][..], "401: "),
        (&["--prompt", "x", "--api-key", "other"], "(the key was not taken)"),
        (
            &["--prompt", "x", "--api-key", "a-key", "--temperature", "9"],
            "400: temperature: expected",
        ),
        (&["--prompt", &long, "--api-key", "a-key"], "tokens"),
    ] {
        let done = run(dir.path(), &[&["chat", "--url", url], more].concat());
        assert!(done.failure().contains(says), "{more:?}: {done:?}");
    }
}

#[test]
fn what_cannot_be_done_is_told_in_words() {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path(), "bert-classifier", "int8", "rank.snap");
    std::fs::write(dir.path().join("list.json"), "[1]").unwrap();
    let gone = nowhere();
    for (args, says) in [
        (&["--prompt", "x"][..], "expected a model, found none"),
        (&["rank.snap", "--prompt", "x"], "expected a language model"),
        (&["gone.snap", "--prompt", "x"], "gone.snap"),
        (&["gone.snap", "--prompt", " "], "--prompt: expected a question"),
        (&["gone.snap"], "expected a question on stdin, found nothing"),
        (
            &["gone.snap", "--json-schema", "none.json"],
            "--json-schema none.json: expected a JSON schema",
        ),
        (&["gone.snap", "--json-schema", "list.json"], "an object such as"),
        (&["gone.snap", "--temperature", "NaN"], "--temperature: expected a number"),
        (&["--url", &gone, "--prompt", "x"], "no answer from http://127.0.0.1:"),
        (&["--url", &gone, "--context-length", "9"], "--context-length beside --url"),
    ] {
        let done = run(dir.path(), &[&["chat"], args].concat());
        assert!(done.failure().contains(says), "{args:?}: {done:?}");
    }
    let args = ["chat", "--url", &gone, "--verify", "eager"];
    let done = run(dir.path(), &args);
    assert!(done.usage().contains("--verify is about a model that this process loads"), "{done:?}");
}

/// A server of another make: its first model talks not, its answers have no counts, and its errors are a text.
#[test]
fn servers_of_other_makes_are_talked_to() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|request| match &*request.path {
        "/v1/models" => Answer::new(
            200,
            json!({"data": [{"id": "vectors", "capabilities": ["embed"]}, {"id": "words"}]})
                .to_string(),
        ),
        _ if request.body.contains("refuse") => Answer::new(418, r#"{"error": "I am a teapot"}"#),
        _ if request.body.contains("cut") => {
            Answer::new(200, "data: {\"choices\":[{\"delta\":{\"content\":\"Hal\"}}]}\n\n")
        }
        _ => Answer::new(
            200,
            "data: {\"choices\":[{\"delta\":{\"reasoning\":\"hm\"}}]}\n\n\
             data: {\"choices\":[{\"delta\":{\"content\":\"Hello\"},\"finish_reason\":\"stop\"}]}\n\n",
        ),
    });
    let ask = |question: &str| {
        run(dir.path(), &["chat", "--url", &server.url(), "--prompt", question, "--seed", "3"])
    };
    let done = ask("hi");
    assert!(done.err.contains("about 2 tokens"), "{done:?}");
    assert_eq!(done.text(), "Hello\n", "thoughts are no part of an answer");
    let body: Value = serde_json::from_str(&server.seen()[1].body).unwrap();
    let expected = json!({
        "model": "words", "messages": [{"role": "user", "content": "hi"}], "stream": true,
        "stream_options": {"include_usage": true}, "seed": 3,
    });
    assert_eq!(body, expected);
    assert!(ask("refuse").failure().contains("418: I am a teapot"));
    let cut = ask("cut");
    assert_eq!((cut.code, &*cut.out), (Some(1), "Hal\n"), "{cut:?}");
    assert!(cut.err.contains("before the answer was complete"), "{cut:?}");
}

/// The tool in a pseudo terminal, which `script` makes.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: ChildStdout,
    seen: String,
    /// Up to where it was looked at.
    looked: usize,
}

impl Terminal {
    fn start(dir: &Path, args: &[&str]) -> Self {
        let tool = command(dir, args);
        let quote = |word: &std::ffi::OsStr| format!("'{}'", word.to_str().unwrap());
        let words: Vec<String> =
            [tool.get_program()].into_iter().chain(tool.get_args()).map(quote).collect();
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--flush", "--command"])
            .arg(format!("exec {}", words.join(" ")))
            .arg("/dev/null")
            .env_clear()
            .envs([("TERM", "xterm"), ("SHELL", "/bin/sh"), ("PATH", "/usr/bin:/bin")])
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`script` of util-linux");
        let (keys, screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, keys, screen, seen: String::new(), looked: 0 }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Reads the screen until this is on it, after what was awaited before.
    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        let mut buffer = [0; 4096];
        loop {
            if let Some(at) = self.seen[self.looked..].find(text) {
                self.looked += at + text.len();
                return;
            }
            let read = self.screen.read(&mut buffer).unwrap();
            assert!(read > 0, "{text:?} never came: {:?}", self.seen);
            self.seen += &String::from_utf8_lossy(&buffer[..read]);
        }
    }

    /// Waits until a line is read: what is typed before that may be lost, as in every editor of lines that asks the terminal
    /// for single keys. It says so by asking for pasted text in brackets.
    #[track_caller]
    fn wait_for_the_prompt(&mut self) {
        self.wait_for("\u{1b}[?2004h");
    }

    /// Its exit code, after all it had to say.
    fn end(mut self) -> Option<i32> {
        drop(self.keys);
        let mut rest = Vec::new();
        self.screen.read_to_end(&mut rest).unwrap();
        self.child.wait().unwrap().code()
    }
}

#[test]
fn people_talk_in_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    packed(dir.path());
    let mut terminal = Terminal::start(dir.path(), &["chat", "tiny.snap"]);
    for (line, says) in [
        ("/set temperature 0", "/set temperature 0"),
        ("/set", "temperature 0"),
        ("/set max_tokens many", "expected a whole number"),
        ("/nonsense", "is no command"),
        ("/stats", "nothing was answered yet"),
        ("/help", "Ctrl-C stops an answer"),
        (QUESTION, KNOWN),
    ] {
        terminal.wait_for_the_prompt();
        terminal.press(&format!("{line}\n"));
        terminal.wait_for(says);
    }
    terminal.wait_for(" tokens/s");
    terminal.wait_for_the_prompt();
    terminal.press("/stats\n");
    terminal.wait_for("1 answer, ");
    for (line, says) in [
        ("/save talk.json", "2 messages are saved"),
        ("/clear", "begins anew"),
        ("/load talk.json", "2 messages are loaded"),
    ] {
        terminal.wait_for_the_prompt();
        terminal.press(&format!("{line}\n"));
        terminal.wait_for(says);
    }
    // A line that is thrown away, and the end.
    terminal.wait_for_the_prompt();
    terminal.press("never mind");
    terminal.wait_for("never mind");
    terminal.press("\u{3}");
    terminal.wait_for("Ctrl-D or /quit ends");
    terminal.wait_for_the_prompt();
    terminal.press("\u{4}");
    assert_eq!(terminal.end(), Some(0));
    let saved: Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("talk.json")).unwrap()).unwrap();
    assert_eq!(saved["messages"][0], json!({"role": "user", "content": QUESTION}));
    assert!(saved["messages"][1]["content"].as_str().unwrap().contains(KNOWN), "{saved}");
    assert_eq!(saved["options"], json!({"temperature": 0.0}));
}

/// A server whose answers begin and do not go on until this is dropped.
struct Halting {
    url: String,
    _go_on: mpsc::Sender<()>,
}

impl Halting {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (go_on, wait) = mpsc::channel::<()>();
        thread::spawn(move || {
            // The answers that are begun, whose connections stay open.
            let mut begun: Vec<TcpStream> = Vec::new();
            for stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(&stream);
                let mut length = 0;
                for line in reader.by_ref().lines().map_while(Result::ok) {
                    let line = line.to_ascii_lowercase();
                    if let Some(value) = line.strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    if line.is_empty() {
                        break;
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let event = "data: {\"choices\":[{\"delta\":{\"content\":\"Once upon\"}}]}\n\n";
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
                (&stream).write_all(format!("{head}{event}").as_bytes()).unwrap();
                begun.push(stream);
                if begun.len() == 2 {
                    break;
                }
            }
            let _ = wait.recv();
        });
        Self { url, _go_on: go_on }
    }
}

#[test]
fn ctrl_c_stops_the_answer_and_not_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let server = Halting::start();
    let mut terminal = Terminal::start(dir.path(), &["chat", "words", "--url", &server.url]);
    for round in 1..=2 {
        terminal.wait_for("> ");
        terminal.press("tell me\n");
        terminal.wait_for("Once upon");
        terminal.press("\u{3}");
        terminal.wait_for(", stopped");
        terminal.wait_for("> ");
        terminal.press("/stats\n");
        terminal.wait_for(&format!("{round} answer"));
    }
    terminal.press("/save talk.json\n");
    terminal.wait_for("4 messages are saved");
    terminal.press("/quit\n");
    assert_eq!(terminal.end(), Some(0));
    let saved: Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("talk.json")).unwrap()).unwrap();
    assert_eq!(saved["messages"][1], json!({"role": "assistant", "content": "Once upon"}));
    assert_eq!(saved["messages"].as_array().map(Vec::len), Some(4), "{saved}");
}
