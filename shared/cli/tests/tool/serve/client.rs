//! What the client library of such services sends, and what it reads of the answers (row C28).

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::running::{Answer, exchange};

/// A client that found the port by itself.
pub(super) struct Client(SocketAddr);

impl Client {
    /// Reads the port from the file `.port` in the service's folder.
    pub(super) fn discover(folder: &Path) -> Self {
        let port = fs::read_to_string(folder.join(".port")).unwrap();
        Self(format!("127.0.0.1:{}", port.trim()).parse().unwrap())
    }

    fn get(&self, path: &str) -> Value {
        exchange(self.0, "GET", path, "", "").json()
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        exchange(self.0, "POST", path, "", &body.to_string())
    }

    pub(super) fn health_check(&self) -> String {
        self.get("/health")["status"].as_str().unwrap().to_owned()
    }

    pub(super) fn list_models(&self) -> Vec<String> {
        let models = self.get("/v1/models");
        let names = models["data"].as_array().unwrap().iter();
        names.map(|model| model["id"].as_str().unwrap().to_owned()).collect()
    }

    fn chat_body(model: &str) -> Value {
        json!({
            "model": model,
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is a chunk?"}],
            "temperature": 0.0,
            "max_tokens": 12,
            "stream": false,
        })
    }

    pub(super) fn chat(&self, model: &str) -> String {
        let answer = self.post("/v1/chat/completions", &Self::chat_body(model)).json();
        answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    }

    pub(super) fn chat_stream(&self, model: &str) -> String {
        let mut body = Self::chat_body(model);
        body["stream"] = json!(true);
        let answer = self.post("/v1/chat/completions", &body);
        let lines = answer.text.lines().filter_map(|line| line.strip_prefix("data: "));
        let chunks = lines.filter(|line| *line != "[DONE]");
        let pieces = chunks.map(|chunk| {
            let chunk: Value = serde_json::from_str(chunk).unwrap();
            chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned()
        });
        pieces.collect()
    }

    pub(super) fn structured_chat(&self, model: &str) -> Value {
        let mut body = Self::chat_body(model);
        let schema = json!({"type": "object", "properties": {"done": {"type": "boolean"}}, "required": ["done"], "additionalProperties": false});
        body["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": true}});
        let answer = self.post("/v1/chat/completions", &body).json();
        serde_json::from_str(answer["choices"][0]["message"]["content"].as_str().unwrap()).unwrap()
    }

    pub(super) fn complete(&self, model: &str) -> String {
        let body =
            json!({"model": model, "prompt": "A snapshot", "max_tokens": 5, "temperature": 0.0});
        let answer = self.post("/v1/completions", &body).json();
        answer["choices"][0]["text"].as_str().unwrap().to_owned()
    }

    pub(super) fn embed(&self, model: &str) -> Vec<usize> {
        let answer =
            self.post("/v1/embeddings", &json!({"model": model, "input": ["one", "two"]})).json();
        let data = answer["data"].as_array().unwrap().iter();
        data.map(|one| one["embedding"].as_array().unwrap().len()).collect()
    }

    /// Indices and scores, which it reads from `data`.
    pub(super) fn rerank(&self, model: &str) -> Vec<(u64, f64)> {
        let body = json!({"model": model, "query": "q", "documents": ["a", "b", "c"], "top_n": 2, "return_documents": true});
        let answer = self.post("/v1/rerank", &body).json();
        let data = answer["data"].as_array().unwrap().iter();
        data.map(|one| {
            (
                one["index"].as_u64().unwrap(),
                one["score"].as_f64().or_else(|| one["relevance_score"].as_f64()).unwrap(),
            )
        })
        .collect()
    }
}
