//! Metrics as JSON, for dashboards that read no Prometheus text.
//!
//! Made from the text, so that there is one list of metrics: each sample line becomes an element of
//! its name's list.

use serde_json::{Map, Value, json};

/// `{"defrost_requests_total": [{"labels": {"route": "/v1/rerank", "code": "200"}, "value": 3.0}],
/// …}`
pub(super) fn from_text(text: &str) -> Value {
    let mut metrics: Map<String, Value> = Map::new();
    for (name, labels, value) in text.lines().filter_map(sample) {
        let samples = metrics.entry(name).or_insert_with(|| json!([]));
        if let Value::Array(samples) = samples {
            samples.push(json!({"labels": labels, "value": value}));
        }
    }
    Value::Object(metrics)
}

/// `name{label="value",…} number`; `None` for comments.
fn sample(line: &str) -> Option<(&str, Map<String, Value>, f64)> {
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Map::new(), rest),
    };
    Some((name, labels, rest.split_ascii_whitespace().next()?.parse().ok()?))
}

/// The labels up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> Option<(Map<String, Value>, &str)> {
    let mut labels = Map::new();
    loop {
        rest = rest.trim_start_matches(',');
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        let end = loop {
            match characters.next()? {
                (end, '"') => break end,
                (_, '\\') => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.to_owned(), value.into());
        rest = &quoted[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_line() {
        let text = "# HELP a Things.\n# TYPE a counter\na_total{x=\"1\",y=\"a \\\"b\\\" \\\\ c\\nd,}\"} 3 # {} 1\n\
                    a_total{x=\"2\"} 0.5\nb 7\nh_bucket{le=\"+Inf\"} 1\n# EOF\n";
        let expected = json!({
            "a_total": [
                {"labels": {"x": "1", "y": "a \"b\" \\ c\nd,}"}, "value": 3.0},
                {"labels": {"x": "2"}, "value": 0.5},
            ],
            "b": [{"labels": {}, "value": 7.0}],
            "h_bucket": [{"labels": {"le": "+Inf"}, "value": 1.0}],
        });
        assert_eq!(from_text(text), expected);
    }

    #[test]
    fn broken_lines_are_left_out() {
        assert_eq!(from_text("a{x=\"1\na{x=1} 2\na\na x\n"), json!({}));
    }
}
