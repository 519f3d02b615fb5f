//! The decisions about products, as one string of the snapshot's metadata, and in one line for people.
//!
//! Per product: layer and name, the exponent of its scales in hundredths (`-` for none), and the
//! relative error in hundredths of a percent before and after; `bf16` in place of the last where the
//! product is not int8 at all. The table of words comes first. For example
//! `words:-:104:104`, `0.qkv:50:1043:98 0.out:-:91:91 0.down:-:2211:bf16`.

use std::collections::BTreeSet;
use std::fmt::{Display, Formatter};

/// The metadata key.
pub(crate) const KEY: &str = defrost_model::stored::QUALITY;

/// What the table of words is called among products.
pub(crate) const WORDS: &str = "words";

/// One entry per product, in execution order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Report(pub(crate) Vec<Entry>);

/// What was decided about one product.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// The product as `LAYER.PRODUCT`, such as `3.down`, or [`WORDS`].
    pub(crate) product: String,
    /// The exponent of the scales in hundredths; `None` if there are no scales.
    pub(crate) exponent: Option<u32>,
    /// The relative error of the plain int8 product, in hundredths of a percent.
    pub(crate) before: u32,
    /// The relative error of what is stored, in the same unit; `None` if the product is stored in bf16.
    pub(crate) after: Option<u32>,
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        for (at, entry) in self.0.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{}:", entry.product)?;
            match entry.exponent {
                Some(exponent) => write!(f, "{exponent}:{}:", entry.before)?,
                None => write!(f, "-:{}:", entry.before)?,
            }
            match entry.after {
                Some(after) => write!(f, "{after}")?,
                None => write!(f, "bf16")?,
            }
        }
        Ok(())
    }
}

impl Report {
    /// Reads what [`Display`] wrote; `None` if it is anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let entry = |text: &str| {
            let [product, exponent, before, after] =
                text.split(':').collect::<Vec<_>>().try_into().ok()?;
            let number = |text: &str, word: &str| {
                if text == word { Some(None) } else { text.parse().ok().map(Some) }
            };
            Some(Entry {
                product: product.to_owned(),
                exponent: number(exponent, "-")?,
                before: before.parse().ok()?,
                after: number(after, "bf16")?,
            })
        };
        text.split_ascii_whitespace().map(entry).collect::<Option<Vec<_>>>().map(Self)
    }

    /// Names of the parts that are stored in bf16 although the model is int8.
    pub(crate) fn bf16_parts(&self) -> BTreeSet<String> {
        let kept = self.0.iter().filter(|entry| entry.after.is_none());
        kept.map(|entry| match entry.product.as_str() {
            WORDS => "embedding.words.weight".to_owned(),
            product => format!("layer.{product}.weight"),
        })
        .collect()
    }
}

/// One line about the decisions that `pack` left in the metadata value `quality.products`.
pub fn summary(text: &str) -> Option<String> {
    let Report(entries) = Report::parse(text)?;
    let worst = entries.iter().max_by_key(|entry| entry.after.unwrap_or(0))?;
    let scaled = entries.iter().filter(|entry| entry.exponent.is_some()).count();
    let bf16: Vec<&str> = entries
        .iter()
        .filter(|entry| entry.after.is_none())
        .map(|entry| entry.product.as_str())
        .collect();
    let percent = |value: f64| format!("{:.2} %", value / 100.0);
    let mean = |values: &mut dyn Iterator<Item = u32>| {
        percent(values.map(f64::from).sum::<f64>() / entries.len() as f64)
    };
    Some(format!(
        "{} products, {scaled} rescaled, mean error {} -> {}, worst {} -> {} ({}), in bf16: {}",
        entries.len(),
        mean(&mut entries.iter().map(|entry| entry.before)),
        mean(&mut entries.iter().map(|entry| entry.after.unwrap_or(0))),
        percent(entries.iter().map(|entry| entry.before).max().map_or(0.0, f64::from)),
        percent(f64::from(worst.after.unwrap_or(0))),
        worst.product,
        if bf16.is_empty() { "none".to_owned() } else { bf16.join(", ") },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let text = "words:-:104:bf16 0.qkv:50:1043:98 0.out:-:91:91 1.down:-:2211:bf16";
        let report = Report::parse(text).unwrap();
        assert_eq!(report.to_string(), text);
        let parts: Vec<String> = report.bf16_parts().into_iter().collect();
        assert_eq!(parts, ["embedding.words.weight", "layer.1.down.weight"]);
        assert_eq!(Report::parse("").unwrap(), Report::default());
        for bad in ["0.qkv", "0.qkv:50:1:2:3", "0.qkv:x:1:2", "0.qkv:1:2:"] {
            assert_eq!(Report::parse(bad), None, "{bad}");
        }
        let line = summary(text).unwrap();
        assert!(line.contains("4 products, 1 rescaled"), "{line}");
        assert!(line.contains("in bf16: words, 1.down"), "{line}");
    }
}
