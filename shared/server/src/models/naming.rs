//! Which model a name means.
//!
//! With `MODELS` a name is one that was given to a model, or the model's own, exactly. Where models
//! stand for tiers (`LIGHT`, `EMBEDDING` …) their clients send whatever name they were written with,
//! so a name is also taken in any case, as one that holds a model's name (`my-light-model`) or is
//! part of the model's own (`qwen3` of `Qwen/Qwen3-0.6B`), and one that is nothing of all this means
//! the default.

use std::sync::Arc;

use crate::models::slot::Slot;

/// How names are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    Exact,
    Near {
        /// Whether unknown names are refused.
        is_strict: bool,
    },
}

/// How well a name fits a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Likeness {
    /// It is the model's.
    Same,
    /// It holds the model's, or is a part of it.
    Part,
}

impl Naming {
    /// Whether a name that no model has means the default.
    pub(crate) fn takes_any(self) -> bool {
        self == Self::Near { is_strict: false }
    }

    /// The model of this name: one that was given to it before its own, and what fits well before
    /// what fits in part.
    pub(crate) fn pick<'a>(
        self,
        slots: &[&'a Arc<Slot>],
        name: &str,
    ) -> Option<(&'a Arc<Slot>, Likeness)> {
        let given = |fits: &dyn Fn(&str) -> bool| {
            slots.iter().copied().find(|slot| slot.names().iter().any(|own| fits(own)))
        };
        let full = |fits: &dyn Fn(&str) -> bool| {
            slots.iter().copied().find(|slot| slot.full_name().is_some_and(fits))
        };
        let exact = |own: &str| own == name;
        let same = given(&exact).or_else(|| full(&exact));
        if let Some(slot) = same {
            return Some((slot, Likeness::Same));
        }
        if self == Self::Exact {
            return None;
        }
        let name = name.to_lowercase();
        let any_case = |own: &str| own.to_lowercase() == name;
        if let Some(slot) = given(&any_case).or_else(|| full(&any_case)) {
            return Some((slot, Likeness::Same));
        }
        let within = |own: &str| !own.is_empty() && name.contains(&own.to_lowercase());
        let holds = |own: &str| !name.is_empty() && own.to_lowercase().contains(&name);
        let part = given(&within).or_else(|| full(&within)).or_else(|| full(&holds));
        part.map(|slot| (slot, Likeness::Part))
    }
}
