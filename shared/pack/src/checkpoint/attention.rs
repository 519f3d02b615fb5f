//! Where the attention of a language model departs from the usual, by its config.json: angles that are stretched, layers that
//! see a window only, another factor of scores.
//!
//! ```text
//! rope_scaling     {"rope_type": "linear", "factor": 8}                        `transformers` up to 4
//! rope_parameters  {"rope_type": "llama3", "rope_theta": 5e5, "factor": 32, …}  from 5 on
//!                  {"full_attention": {…}, "sliding_attention": {…}}            with layers of two kinds
//! layer_types      ["sliding_attention", …, "full_attention"]                   or sliding_window_pattern 6
//! ```
//!
//! Kinds of stretching that are not listed (yarn, dynamic, longrope) compute other angles, so a model with them is refused.

use defrost_model::{Attention, Family, LocalLayers, RopeScaling};
use serde_json::{Map, Value};

use super::{RawConfig, refuse, rope_theta};
use crate::Error;

const GLOBAL: &str = "full_attention";
const LOCAL: &str = "sliding_attention";

/// Where it departs, and the base of the rotary frequencies if a file says it.
pub(super) fn read(raw: &RawConfig, family: Family) -> Result<(Attention, Option<f32>), Error> {
    if !family.files.local_layers {
        refuse_windows(raw, family)?;
        let rope = scaling(raw)?;
        return Ok((Attention { rope, ..Attention::PLAIN }, rope_theta(raw, family)?));
    }
    let nested = raw.rope_parameters.as_ref().filter(|rope| rope.contains_key(GLOBAL));
    let (rope, theta, local_theta) = match nested {
        None => {
            let local = positive("rope_local_base_freq", raw.rope_local_base_freq.as_ref())?;
            (scaling(raw)?, rope_theta(raw, family)?, local)
        }
        Some(kinds) => {
            let part = |name: &str| {
                kinds.get(name).and_then(Value::as_object).ok_or_else(|| {
                    let found = Value::Object(kinds.clone()).to_string();
                    refuse("rope_parameters", &found, &format!("one with {GLOBAL} and {LOCAL}"))
                })
            };
            let (global, local) = (part(GLOBAL)?, part(LOCAL)?);
            if let Some(other) = kinds.keys().find(|key| ![GLOBAL, LOCAL].contains(&key.as_str())) {
                return Err(refuse("rope_parameters", &format!("with {other}"), "no such layers"));
            }
            if one_scaling("rope_parameters", local)? != RopeScaling::None {
                let found = Value::Object(local.clone()).to_string();
                return Err(refuse(
                    "rope_parameters",
                    &found,
                    "rope_type default for local layers",
                ));
            }
            let theta = |of: &Map<String, Value>| positive("rope_theta", of.get("rope_theta"));
            (one_scaling("rope_parameters", global)?, Some(theta(global)?), theta(local)?)
        }
    };
    if nested.is_some() && raw.rope_scaling.as_ref().is_some_and(|rope| !rope.is_empty()) {
        return Err(refuse("rope_scaling", "beside rope_parameters of layers", "one of the two"));
    }
    for (key, outer, inner) in [
        ("rope_theta", raw.rope_theta, theta),
        ("rope_local_base_freq", float(raw.rope_local_base_freq.as_ref()), Some(local_theta)),
    ] {
        if let (Some(outer), Some(inner)) = (outer, inner)
            && outer.to_bits() != inner.to_bits()
        {
            return Err(refuse(
                key,
                &outer.to_string(),
                &format!("the {inner} of rope_parameters"),
            ));
        }
    }
    let theta = theta.ok_or_else(|| missing("rope_theta"))?;
    let local = every(raw)?.map(|every| -> Result<LocalLayers, Error> {
        let window = positive("sliding_window", raw.sliding_window.as_ref())?;
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive number; one that is no whole number is refused below"
        )]
        let tokens = window as usize;
        #[allow(clippy::cast_precision_loss, reason = "that is what is looked for")]
        if (tokens as f32).to_bits() != window.to_bits() {
            return Err(refuse("sliding_window", &window.to_string(), "a number of tokens"));
        }
        Ok(LocalLayers { window: tokens, every, theta: local_theta })
    });
    let scalar = positive("query_pre_attn_scalar", raw.query_pre_attn_scalar.as_ref())?;
    let width = raw.head_dim.or(family.files.defaults.head_dim).unwrap_or_default();
    #[allow(clippy::cast_precision_loss, reason = "widths are small")]
    let usual = scalar.to_bits() == (width as f32).to_bits();
    #[allow(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
    let scale = (!usual).then(|| (1.0 / f64::from(scalar).sqrt()) as f32);
    Ok((Attention { scale, rope, local: local.transpose()? }, Some(theta)))
}

/// Refuses layers with windows.
fn refuse_windows(raw: &RawConfig, family: Family) -> Result<(), Error> {
    refuse_keys(raw, family)?;
    let mut kinds = raw.layer_types.iter().flatten();
    match kinds.find(|kind| *kind != GLOBAL) {
        None => Ok(()),
        Some(found) => Err(refuse("layer_types", found, "full_attention for every layer")),
    }
}

/// Refuses keys that only families with windows have.
pub(super) fn refuse_keys(raw: &RawConfig, family: Family) -> Result<(), Error> {
    let keys = [
        ("query_pre_attn_scalar", &raw.query_pre_attn_scalar),
        ("rope_local_base_freq", &raw.rope_local_base_freq),
        ("sliding_window_pattern", &raw.sliding_window_pattern),
        ("_sliding_window_pattern", &raw.own_sliding_window_pattern),
    ];
    if let Some((key, Some(value))) = keys.into_iter().find(|(_, value)| value.is_some()) {
        let expected = format!("no such key of a {} model", family.name);
        return Err(refuse(key, &value.to_string(), &expected));
    }
    Ok(())
}

/// Every how many layers one sees all; `None`: all do.
fn every(raw: &RawConfig) -> Result<Option<usize>, Error> {
    let pattern = raw.own_sliding_window_pattern.as_ref().or(raw.sliding_window_pattern.as_ref());
    let Some(kinds) = &raw.layer_types else {
        let number = pattern.ok_or_else(|| missing("layer_types and no sliding_window_pattern"))?;
        let number = number.as_u64().and_then(|number| usize::try_from(number).ok());
        return match number.filter(|&number| number > 0) {
            Some(number) => Ok(Some(number)),
            None => Err(refuse(
                "sliding_window_pattern",
                &pattern.map(ToString::to_string).unwrap_or_default(),
                "a number of layers from 1",
            )),
        };
    };
    if let Some(other) = kinds.iter().find(|kind| ![GLOBAL, LOCAL].contains(&kind.as_str())) {
        return Err(refuse("layer_types", other, &format!("{GLOBAL} or {LOCAL}")));
    }
    if kinds.iter().all(|kind| kind == GLOBAL) {
        return Ok(None);
    }
    // One more than there are layers: all see a window.
    let first = kinds.iter().position(|kind| kind == GLOBAL).unwrap_or(kinds.len()) + 1;
    let local = LocalLayers { window: 1, every: first, theta: 1.0 };
    let same = |(layer, kind): (usize, &String)| local.is_local(layer) == (kind == LOCAL);
    if kinds.iter().enumerate().all(same) {
        return Ok(Some(first));
    }
    Err(refuse(
        "layer_types",
        &format!("{kinds:?}"),
        &format!("{GLOBAL} at every {first}th layer, as the first one is, and {LOCAL} elsewhere"),
    ))
}

/// The scaling of a configuration with one kind of layers.
fn scaling(raw: &RawConfig) -> Result<RopeScaling, Error> {
    let named = [("rope_scaling", &raw.rope_scaling), ("rope_parameters", &raw.rope_parameters)];
    let mut found = Vec::new();
    for (key, rope) in named {
        if let Some(rope) = rope.as_ref().filter(|rope| !rope.is_empty()) {
            found.push(one_scaling(key, rope)?);
        }
    }
    match found[..] {
        [] => Ok(RopeScaling::None),
        [one] => Ok(one),
        [one, other, ..] if one == other => Ok(one),
        _ => Err(refuse("rope_scaling", "another than in rope_parameters", "one of the two")),
    }
}

fn one_scaling(key: &str, rope: &Map<String, Value>) -> Result<RopeScaling, Error> {
    let kind = match (rope.get("rope_type"), rope.get("type")) {
        (Some(one), Some(other)) if one != other => {
            return Err(refuse(key, &format!("with rope_type {one} and type {other}"), "one kind"));
        }
        (one, other) => one.or(other),
    };
    let number = |name: &str| positive(&format!("{key}: {name}"), rope.get(name));
    let (scaling, own): (RopeScaling, &[&str]) = match kind.map(Value::as_str) {
        None | Some(Some("default")) => {
            // Files have these beside `default`, which does not read them.
            (RopeScaling::None, &["factor", "original_max_position_embeddings"])
        }
        Some(Some("linear")) => (
            RopeScaling::Linear { factor: number("factor")? },
            &["factor", "original_max_position_embeddings"],
        ),
        Some(Some("llama3")) => (
            RopeScaling::Llama3 {
                factor: number("factor")?,
                low: number("low_freq_factor")?,
                high: number("high_freq_factor")?,
                original: number("original_max_position_embeddings")?,
            },
            &["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"],
        ),
        Some(_) => {
            let found = Value::Object(rope.clone()).to_string();
            return Err(refuse(key, &found, "rope_type default, linear or llama3"));
        }
    };
    let known =
        |name: &str| ["rope_type", "type", "rope_theta"].contains(&name) || own.contains(&name);
    match rope.keys().find(|name| !known(name)) {
        Some(other) if kind.is_some() => {
            Err(refuse(key, &format!("with {other}"), "no such key beside its rope_type"))
        }
        Some(_) => {
            let found = Value::Object(rope.clone()).to_string();
            Err(refuse(key, &found, "rope_type default, linear or llama3"))
        }
        None => Ok(scaling),
    }
}

#[allow(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
fn float(value: Option<&Value>) -> Option<f32> {
    value.and_then(Value::as_f64).map(|number| number as f32)
}

fn positive(name: &str, value: Option<&Value>) -> Result<f32, Error> {
    let Some(value) = value else { return Err(missing(name)) };
    float(Some(value))
        .filter(|number| number.is_finite() && *number > 0.0)
        .ok_or_else(|| refuse(name, &value.to_string(), "a number above 0"))
}

fn missing(name: &str) -> Error {
    Error::Model(format!("config.json has no {name}, which decides what the model computes"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn gemma() -> Family {
        Family::all().find(|family| family.files.local_layers).unwrap()
    }

    fn plain() -> Family {
        Family::all().find(|family| family.blueprint.causal && !family.files.local_layers).unwrap()
    }

    fn read_of(family: Family, keys: Value) -> Result<(Attention, Option<f32>), String> {
        let raw: RawConfig = serde_json::from_value(keys).unwrap();
        read(&raw, family).map_err(|error| error.to_string())
    }

    const LLAMA3: RopeScaling =
        RopeScaling::Llama3 { factor: 32.0, low: 1.0, high: 4.0, original: 8192.0 };

    #[test]
    fn angles_are_stretched_as_files_say() {
        let llama3 = json!({"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
                            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
        let mut with_theta = llama3.clone();
        with_theta["rope_theta"] = json!(5e5);
        for (keys, rope, theta) in [
            (json!({}), RopeScaling::None, None),
            (json!({"rope_scaling": null, "rope_theta": 1e6}), RopeScaling::None, Some(1e6)),
            (
                json!({"rope_scaling": {"type": "linear", "factor": 4}}),
                RopeScaling::Linear { factor: 4.0 },
                None,
            ),
            (json!({"rope_scaling": llama3, "rope_theta": 5e5}), LLAMA3, Some(5e5)),
            (json!({"rope_parameters": with_theta}), LLAMA3, Some(5e5)),
            (json!({"rope_parameters": with_theta, "rope_scaling": with_theta}), LLAMA3, Some(5e5)),
        ] {
            let found = read_of(plain(), keys.clone());
            assert_eq!(found, Ok((Attention { rope, ..Attention::PLAIN }, theta)), "{keys}");
        }
        for (keys, part) in [
            (
                json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}),
                "default, linear or llama3",
            ),
            (
                json!({"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}),
                "default, linear or llama3",
            ),
            (json!({"rope_scaling": {"factor": 4.0}}), ""),
            (json!({"rope_scaling": {"rope_type": "linear"}}), "no rope_scaling: factor"),
            (json!({"rope_scaling": {"rope_type": "linear", "factor": -1}}), "a number above 0"),
            (
                json!({"rope_scaling": {"rope_type": "linear", "type": "llama3", "factor": 2}}),
                "one kind",
            ),
            (
                json!({"rope_scaling": {"rope_type": "linear", "factor": 2, "mscale": 1}}),
                "with mscale",
            ),
            (json!({"rope_scaling": {"mscale": 1}}), "mscale"),
            (json!({"rope_scaling": {"rope_type": "llama3", "factor": 8}}), "low_freq_factor"),
            (
                json!({"rope_scaling": {"type": "linear", "factor": 4}, "rope_parameters": {"type": "linear", "factor": 2}}),
                "one of the two",
            ),
            (json!({"query_pre_attn_scalar": 256}), "no such key of a"),
            (json!({"rope_local_base_freq": 1e4}), "no such key of a"),
            (json!({"sliding_window_pattern": 6}), "no such key of a"),
            (json!({"_sliding_window_pattern": 6}), "no such key of a"),
            (
                json!({"layer_types": ["full_attention", "sliding_attention"]}),
                "layer_types is sliding",
            ),
        ] {
            match read_of(plain(), keys.clone()) {
                // Without a kind a factor is what `default` has beside it.
                Ok(found) if part.is_empty() => assert_eq!(found.0, Attention::PLAIN),
                Ok(found) => panic!("{keys}: {found:?}"),
                Err(error) => assert!(error.contains(part), "{keys}: {error}"),
            }
        }
    }

    #[test]
    fn windows_are_where_files_say() {
        let keys = |more: Value| {
            let mut keys = json!({"head_dim": 256, "query_pre_attn_scalar": 256, "rope_theta": 1e6,
                                  "rope_local_base_freq": 1e4, "sliding_window": 512});
            keys.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            keys
        };
        let types = |local: usize, layers: usize| -> Value {
            let kind = |at: usize| if (at + 1).is_multiple_of(local) { GLOBAL } else { LOCAL };
            (0..layers).map(kind).collect::<Vec<_>>().into()
        };
        let local = |every| Some(LocalLayers { window: 512, every, theta: 1e4 });
        let with = |local| Attention { local, ..Attention::PLAIN };
        let nested = json!({GLOBAL: {"rope_type": "default", "rope_theta": 1e6},
                            LOCAL: {"rope_type": "default", "rope_theta": 1e4}});
        for (more, expected) in [
            (json!({"sliding_window_pattern": 6}), with(local(6))),
            (json!({"layer_types": types(6, 12)}), with(local(6))),
            (json!({"_sliding_window_pattern": 6, "layer_types": types(3, 7)}), with(local(3))),
            (json!({"layer_types": types(9, 4)}), with(local(5))),
            (json!({"layer_types": types(1, 4)}), with(None)),
            (
                json!({"layer_types": types(6, 12), "rope_theta": null, "rope_local_base_freq": null,
                       "rope_parameters": nested}),
                with(local(6)),
            ),
            (
                json!({"layer_types": types(6, 12), "query_pre_attn_scalar": 64}),
                Attention { scale: Some(0.125), ..with(local(6)) },
            ),
        ] {
            let found = read_of(gemma(), keys(more.clone()));
            assert_eq!(found, Ok((expected, Some(1e6))), "{more}");
        }
        let mut odd = nested.clone();
        odd[LOCAL]["rope_type"] = json!("linear");
        odd[LOCAL]["factor"] = json!(2);
        for (more, part) in [
            (json!({}), "no layer_types"),
            (json!({"sliding_window_pattern": 0}), "from 1"),
            (json!({"sliding_window_pattern": 6, "sliding_window": null}), "no sliding_window"),
            (json!({"sliding_window_pattern": 6, "sliding_window": 1.5}), "a number of tokens"),
            (json!({"sliding_window_pattern": 6, "rope_theta": null}), "no rope_theta"),
            (json!({"sliding_window_pattern": 6, "query_pre_attn_scalar": null}), "no query_pre"),
            (json!({"layer_types": [GLOBAL, LOCAL, GLOBAL]}), "every 1th layer"),
            (json!({"layer_types": [LOCAL, GLOBAL, GLOBAL]}), "every 2th layer"),
            (json!({"layer_types": ["chunked_attention"]}), "chunked_attention"),
            (json!({"layer_types": types(6, 6), "rope_parameters": odd}), "default for local"),
            (
                json!({"layer_types": types(6, 6), "rope_parameters": nested, "rope_theta": 7.0}),
                "rope_theta is 7, expected the 1000000 of rope_parameters",
            ),
            (
                json!({"layer_types": types(6, 6), "rope_parameters": {GLOBAL: {"rope_theta": 1e6}}}),
                "one with full_attention and sliding_attention",
            ),
        ] {
            let error = read_of(gemma(), keys(more.clone())).unwrap_err();
            assert!(error.contains(part), "{more}: {error}");
        }
    }
}
