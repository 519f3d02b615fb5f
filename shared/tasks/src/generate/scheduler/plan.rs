//! How many tokens of each sequence a step computes.
//!
//! Whoever needs few goes on in every step: one token that was just chosen, some that were forced. The others, prompts, share a
//! budget, which is small while anyone waits for the next token, since all of them wait for the longest part of a step. Half
//! of it goes to the oldest prompt, so that every prompt comes to its end; the rest to those that need least, so that a short
//! prompt does not wait for a long one that came before.

/// Tokens that a sequence may need to go on in every step.
pub(super) const FEW: usize = 16;

/// See [`super::SchedulerOptions`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    pub(super) alone: usize,
    pub(super) beside: usize,
}

/// The numbers of tokens to compute for sequences that need so many, oldest first.
pub(super) fn plan(needs: &[usize], budget: Budget) -> Vec<usize> {
    let mut lens: Vec<usize> =
        needs.iter().map(|&need| if need <= FEW { need } else { 0 }).collect();
    let mut prompts: Vec<usize> = (0..needs.len()).filter(|&at| needs[at] > FEW).collect();
    let Some(&oldest) = prompts.first() else { return lens };
    let few: usize = lens.iter().sum();
    let most = if few > 0 { budget.beside } else { budget.alone };
    let mut left = most.max(1);
    let give = |lens: &mut Vec<usize>, at: usize, most: usize, left: &mut usize| {
        let more = (needs[at] - lens[at]).min(most).min(*left);
        lens[at] += more;
        *left -= more;
    };
    give(&mut lens, oldest, most.div_ceil(2), &mut left);
    prompts.sort_by_key(|&at| needs[at]);
    for at in prompts {
        if at != oldest {
            give(&mut lens, at, usize::MAX, &mut left);
        }
    }
    give(&mut lens, oldest, usize::MAX, &mut left);
    lens
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn budgets_are_kept_and_used(
            needs in prop::collection::vec(prop_oneof![1usize..20, 1usize..3000], 0..12),
            alone in 1usize..600,
            beside in 1usize..100,
        ) {
            let lens = plan(&needs, Budget { alone, beside });
            prop_assert_eq!(lens.len(), needs.len());
            let few: Vec<usize> = needs.iter().copied().filter(|&need| need <= FEW).collect();
            let budget = if few.is_empty() { alone } else { beside };
            let (mut of_prompts, mut needed) = (0, 0);
            for (&len, &need) in lens.iter().zip(&needs) {
                prop_assert!(len <= need);
                if need <= FEW {
                    prop_assert_eq!(len, need);
                } else {
                    of_prompts += len;
                    needed += need;
                }
            }
            prop_assert_eq!(of_prompts, budget.min(needed));
            // The oldest prompt has its half.
            if let Some(oldest) = needs.iter().position(|&need| need > FEW) {
                prop_assert!(lens[oldest] >= budget.div_ceil(2).min(needs[oldest]));
            }
        }
    }

    #[test]
    fn short_prompts_go_before_long_ones() {
        let budget = Budget { alone: 512, beside: 64 };
        assert_eq!(plan(&[2000, 100, 40, 900], budget), [256, 100, 40, 116]);
        assert_eq!(plan(&[1, 2000, 100, 20], budget), [1, 32, 12, 20]);
        assert_eq!(plan(&[2000], budget), [512]);
        assert_eq!(plan(&[100, 2000], budget), [100, 412]);
        assert!(plan(&[], budget).is_empty());
    }
}
