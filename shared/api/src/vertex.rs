//! Vertex AI's envelope: a list of instances, each a body of its own.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::checks;
use crate::error::{ErrorStyle, Invalid};
use crate::fields;
use crate::json;

/// Where instances are sent.
pub const VERTEX_PATH: &str = "/vertex";

/// The body of a request to `/vertex`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct VertexBody {
    /// What TEI's own routes take, each answered with a prediction.
    instances: Option<Vec<Map<String, Value>>>,
}

/// One body of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The instance as JSON.
    pub body: String,
    /// Whether it has `inputs`, which are there to be embedded or predicted; else it is one to
    /// rank.
    pub has_inputs: bool,
}

/// All instances of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instances {
    /// The instances, in order.
    pub instances: Vec<Instance>,
    /// Fields beside them that nothing reads, in words for the client.
    pub warnings: Vec<String>,
}

/// The instances of a body, of which there may be `most`.
pub fn read_instances(bytes: &[u8], most: usize) -> Result<Instances, Invalid> {
    let read = |bytes| {
        let body: VertexBody = json::read(bytes, r#"{"instances":[{"inputs":…}]}"#)?;
        checks::counted("instances", body.instances, most, "MAX_DOCUMENTS or MAX_INPUTS")
    };
    let instances = read(bytes).map_err(|invalid: Invalid| invalid.styled(ErrorStyle::Tei))?;
    let instance = |fields: Map<String, Value>| Instance {
        has_inputs: fields.contains_key("inputs"),
        body: Value::Object(fields).to_string(),
    };
    let warnings = fields::Names::of(bytes).unread::<VertexBody>();
    Ok(Instances { instances: instances.into_iter().map(instance).collect(), warnings })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_bodies_of_their_own() {
        let body = br#"{"instances":[{"inputs": "a" },{"query":"q","texts":["a"]}]}"#;
        let Instances { instances, warnings } = read_instances(body, 2).expect("instances");
        assert!(warnings.is_empty());
        let more =
            br#"{"instances":[{"inputs":"a"}],"parameters":{"normalize":false},"labels":null}"#;
        let warnings = read_instances(more, 2).expect("instances").warnings;
        assert_eq!(warnings, ["parameters is not read here and was ignored"]);
        let found: Vec<_> =
            instances.iter().map(|one| (one.body.as_str(), one.has_inputs)).collect();
        assert_eq!(found, [(r#"{"inputs":"a"}"#, true), (r#"{"query":"q","texts":["a"]}"#, false)]);
        for (bad, status) in [
            (&br#"{"instances":[]}"#[..], 400),
            (br#"{"instances":3}"#, 422),
            (br#"{"instances":[3]}"#, 422),
            (b"[]", 422),
            (br#"{"instances":[{},{},{}]}"#, 413),
        ] {
            assert_eq!(read_instances(bad, 2).expect_err("refused").status(), status);
        }
    }
}
