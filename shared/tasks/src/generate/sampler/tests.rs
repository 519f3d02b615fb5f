use proptest::prelude::*;

use super::*;

/// The steps as [`Sampling`] tells them, each over a sorted list of all that is left.
fn reference(logits: &[f32], place: &Place<'_>, random: f64) -> Option<u32> {
    let sampling = place.sampling;
    let completion = &place.tokens[place.tokens.len() - place.position..];
    let window = sampling.repetition_window.unwrap_or(usize::MAX);
    let last = &place.tokens[place.tokens.len().saturating_sub(window)..];
    let mut left: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    for (id, logit) in &mut left {
        if last.contains(id) {
            let by = sampling.repetition_penalty;
            *logit = if *logit > 0.0 { *logit / by } else { *logit * by };
        }
        let count = completion.iter().filter(|&other| other == id).count();
        if count > 0 {
            let each = sampling.frequency_penalty * count as f32;
            *logit -= each + sampling.presence_penalty;
        }
        for (_, bias) in sampling.logit_bias.iter().filter(|(biased, _)| biased == id) {
            *logit += bias;
        }
    }
    let of_all = place.allowed.map_or(logits.len(), TokenMask::count);
    let may = |id: u32| place.allowed.is_none_or(|mask| mask.allows(id));
    left.retain(|&(id, logit)| {
        may(id) && !place.forbidden.contains(&id) && logit > f32::NEG_INFINITY
    });
    if sampling.temperature == 0.0 {
        let best = left.iter().map(|&(_, logit)| logit).max_by(f32::total_cmp)?;
        return left.iter().find(|&&(_, logit)| logit >= best).map(|&(id, _)| id);
    }
    // Stable, so that equals stay in the order of their ids.
    left.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap());
    let best = left.first()?.1;
    let mut left: Vec<(u32, f64)> = left
        .into_iter()
        .map(|(id, logit)| (id, f64::from(exp::exp((logit - best) / sampling.temperature))))
        .collect();
    let total = |left: &[(u32, f64)]| left.iter().map(|(_, weight)| weight).sum::<f64>();
    let until = |left: &[(u32, f64)], part: f64| {
        let (all, mut sum) = (total(left), 0.0);
        let reaches = |(_, weight): &(u32, f64)| {
            sum += weight;
            sum >= part * all
        };
        left.iter().position(reaches).map_or(left.len(), |at| at + 1)
    };
    if sampling.top_k > 0 {
        left.truncate(sampling.top_k);
    }
    if sampling.typical_p < 1.0 {
        let all = total(&left);
        let surprise = |weight: f64| -libm::log(weight / all);
        let mean: f64 = left
            .iter()
            .filter(|(_, weight)| *weight > 0.0)
            .map(|&(_, weight)| weight / all * surprise(weight))
            .sum();
        let mut order = left.clone();
        order.sort_by(|a, b| {
            let distance = |weight: f64| (surprise(weight) - mean).abs();
            distance(a.1).total_cmp(&distance(b.1))
        });
        order.truncate(until(&order, f64::from(sampling.typical_p)));
        left.retain(|kept| order.contains(kept));
    }
    if sampling.top_p < 1.0 {
        left.truncate(until(&left, f64::from(sampling.top_p)));
    }
    let least = f64::from(sampling.min_p) * left.first()?.1;
    left.retain(|&(_, weight)| weight >= least);
    let Sampling { top_k, top_p, min_p, typical_p, .. } = *sampling;
    if (top_k == 0 || top_k >= of_all) && top_p >= 1.0 && min_p <= 0.0 && typical_p >= 1.0 {
        left.sort_by_key(|&(id, _)| id);
    }
    let (all, mut sum) = (total(&left), 0.0);
    left.iter()
        .find(|(_, weight)| {
            sum += weight;
            sum > random * all
        })
        .map(|&(id, _)| id)
}

fn a_sampling() -> impl Strategy<Value = Sampling> {
    let off_or = |off: f32, range: std::ops::Range<f32>| prop_oneof![Just(off), range];
    let limits = (
        prop_oneof![Just(0.0), Just(1.0), 0.05f32..3.0],
        prop_oneof![Just(0usize), 1usize..40],
        off_or(1.0, 0.05..1.0),
        off_or(0.0, 0.0..1.0),
        off_or(1.0, 0.05..1.0),
    );
    let penalties = (
        off_or(1.0, 0.5..3.0),
        prop::option::of(0usize..12),
        off_or(0.0, -2.0..2.0),
        off_or(0.0, -2.0..2.0),
        prop::collection::vec((0u32..40, prop_oneof![Just(f32::NEG_INFINITY), -5.0f32..5.0]), 0..4),
        any::<u64>(),
    );
    (limits, penalties).prop_map(|(limits, penalties)| {
        let (temperature, top_k, top_p, min_p, typical_p) = limits;
        let (repetition_penalty, repetition_window, frequency_penalty, ..) = penalties;
        let (.., presence_penalty, logit_bias, seed) = penalties;
        Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            typical_p,
            repetition_penalty,
            repetition_window,
            frequency_penalty,
            presence_penalty,
            logit_bias,
            seed,
        }
    })
}

/// Few different values, so that many are equal, or any.
fn some_logits() -> impl Strategy<Value = Vec<f32>> {
    let value = prop_oneof![
        4 => (-3i8..4).prop_map(f32::from),
        4 => -12.0f32..12.0,
        1 => Just(f32::NEG_INFINITY),
        1 => Just(-0.0f32),
        // In every band.
        1 => -120.0f32..12.0,
    ];
    prop::collection::vec(value, 40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_choice_is_that_of_the_plain_reference(
        sampling in a_sampling(),
        logits in some_logits(),
        tokens in prop::collection::vec(0u32..40, 1..20),
        prompt in 1usize..20,
        choice in 0usize..3,
        mask in prop::option::of(prop::collection::vec(0u32..40, 1..10)),
        forbidden in prop::collection::vec(0u32..40, 0..3),
    ) {
        let (prompt, completion) = tokens.split_at(prompt.min(tokens.len()));
        let mut seen = Seen::new(&sampling, prompt);
        for &id in completion {
            seen.push(id);
        }
        let mask = mask.map(|ids| {
            let mut mask = TokenMask::none(40);
            for id in ids {
                mask.allow(id);
            }
            mask
        });
        let place = Place {
            sampling: &sampling,
            tokens: &tokens,
            seen: &seen,
            choice,
            position: completion.len(),
            allowed: mask.as_ref(),
            forbidden: &forbidden,
        };
        let random = random(sampling.seed, choice, completion.len());
        prop_assert_eq!(choose(logits.clone(), &place).ok(), reference(&logits, &place, random));
    }

    #[test]
    fn candidates_order_as_their_logits_and_ids(a in any::<f32>(), b in any::<f32>(), ids in any::<(u32, u32)>()) {
        prop_assume!(!a.is_nan() && !b.is_nan());
        let (first, second) = (Candidate::new(a, ids.0), Candidate::new(b, ids.1));
        prop_assert_eq!((first.logit(), first.at()), (a, ids.0));
        let expected = a.partial_cmp(&b).unwrap().then(ids.1.cmp(&ids.0));
        prop_assert_eq!(first.cmp(&second), expected);
    }
}

fn place<'a>(sampling: &'a Sampling, seen: &'a Seen, position: usize) -> Place<'a> {
    Place { sampling, tokens: &[0], seen, choice: 0, position, allowed: None, forbidden: &[] }
}

/// 20,000 draws by chi-square: of 5 tokens, with the 0.999 quantile of 4 degrees of freedom, which is 18.5.
#[test]
fn draws_have_the_probabilities_of_the_model() {
    let parts = [0.4f64, 0.3, 0.15, 0.1, 0.05];
    #[allow(clippy::cast_possible_truncation, reason = "f32 is what logits have")]
    let logits: Vec<f32> = parts.iter().map(|part| part.ln() as f32).collect();
    for (seed, choice) in [(0, 0), (0, 1), (u64::MAX, 0), (0x9e37_79b9_7f4a_7c15, 5)] {
        let sampling = Sampling { seed, ..Sampling::default() };
        let seen = Seen::new(&sampling, &[]);
        let mut counts = [0usize; 5];
        for position in 0..20_000 {
            let place = Place { choice, ..place(&sampling, &seen, position) };
            counts[choose(logits.clone(), &place).unwrap() as usize] += 1;
        }
        let distance: f64 = counts
            .iter()
            .zip(parts)
            .map(|(&count, part)| (count as f64 - 20_000.0 * part).powi(2) / (20_000.0 * part))
            .sum();
        assert!(distance < 18.5, "{distance} {counts:?}");
    }
}

#[test]
fn what_is_no_number_is_no_choice() {
    for sampling in [Sampling::GREEDY, Sampling::default()] {
        let seen = Seen::new(&sampling, &[]);
        let of = |logits: &[f32]| choose(logits.to_vec(), &place(&sampling, &seen, 0));
        for wrong in [f32::NAN, f32::INFINITY] {
            assert_eq!(of(&[0.0, wrong]), Err(NO_NUMBER));
        }
        assert_eq!(of(&[f32::NEG_INFINITY; 3]), Err(NOTHING));
        assert_eq!(of(&[f32::NEG_INFINITY, -3e38]), Ok(1));
    }
    // Divided by so little, all of them are beyond what numbers can be.
    let sampling = Sampling { temperature: 1e-40, ..Sampling::default() };
    let seen = Seen::new(&sampling, &[]);
    assert_eq!(choose(vec![-1.0, 3.0, -7.0], &place(&sampling, &seen, 0)), Ok(1));
}
