//! To how many dimensions a checkpoint's embeddings may be cut.

use std::collections::BTreeSet;

use defrost_model::Matryoshka;
use serde::Deserialize;

use super::SpecOptions;
use crate::Error;

/// What config.json says about shorter vectors, under the names that vLLM and the models' authors use.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct RawMatryoshka {
    #[serde(default, alias = "matryoshka_dimensions")]
    matryoshka_dims: Option<Vec<usize>>,
    #[serde(default)]
    is_matryoshka: Option<bool>,
}

/// Models of this name may be cut to 32 dimensions or more (their model card), which none of their files says.
const MATRYOSHKA_NAME: &str = "qwen3-embedding";
const MATRYOSHKA_LEAST: usize = 32;

impl RawMatryoshka {
    /// The lengths to which vectors may be cut: as the user says, else as the file says, else as is known of the name.
    pub(crate) fn decide(&self, options: &SpecOptions) -> Result<Matryoshka, Error> {
        let named = || options.name.to_ascii_lowercase().contains(MATRYOSHKA_NAME);
        let dims: BTreeSet<usize> = self.matryoshka_dims.iter().flatten().copied().collect();
        Ok(match (&options.matryoshka, self.is_matryoshka) {
            (Some(said), _) => said.clone(),
            (None, _) if dims.contains(&0) => {
                return Err(Error::Model(
                    "config.json: what vectors may be cut to has a 0: expected numbers of dimensions from 1, or say \
                     --matryoshka none"
                        .to_owned(),
                ));
            }
            (None, _) if !dims.is_empty() => Matryoshka::Only(dims.into_iter().collect()),
            (None, Some(true)) => Matryoshka::From(1),
            (None, None) if named() => Matryoshka::From(MATRYOSHKA_LEAST),
            _ => Matryoshka::No,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_decides_then_the_file_then_the_name() {
        let decide = |json: &str, name: &str, said: Option<&str>| {
            let raw: RawMatryoshka = serde_json::from_str(json).unwrap();
            let matryoshka = said.map(|text| text.parse().unwrap());
            let options = SpecOptions { name: name.into(), matryoshka, ..SpecOptions::default() };
            raw.decide(&options).map_or_else(|error| error.to_string(), |found| found.to_string())
        };
        let qwen = "Qwen/Qwen3-Embedding-0.6B";
        assert_eq!(decide("{}", "BAAI/bge-m3", None), "none");
        assert_eq!(decide("{}", qwen, None), "32..");
        assert_eq!(decide(r#"{"matryoshka_dims":[256,64]}"#, qwen, None), "64,256");
        assert_eq!(decide(r#"{"matryoshka_dimensions":[8]}"#, "m", None), "8");
        assert!(decide(r#"{"matryoshka_dims":[0,8]}"#, "m", None).contains("has a 0"));
        assert_eq!(decide(r#"{"matryoshka_dims":[0]}"#, "m", Some("none")), "none");
        assert_eq!(decide(r#"{"matryoshka_dims":[]}"#, "m", None), "none");
        assert_eq!(decide(r#"{"is_matryoshka":true}"#, "m", None), "1..");
        assert_eq!(decide(r#"{"is_matryoshka":false}"#, qwen, None), "none");
        assert_eq!(decide(r#"{"matryoshka_dims":[8]}"#, qwen, Some("none")), "none");
        assert_eq!(decide(r#"{"matryoshka_dims":null}"#, "m", Some("16..")), "16..");
    }
}
