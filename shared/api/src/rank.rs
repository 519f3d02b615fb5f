//! The order of results.

use std::cmp::Ordering;

/// Positions of the scores, best first, ties in input order; at most `top_n` (0 or `None`: all).
pub fn rank(scores: impl IntoIterator<Item = f64>, top_n: Option<usize>) -> Vec<usize> {
    let scores: Vec<f64> = scores.into_iter().collect();
    let mut order: Vec<usize> = (0..scores.len()).collect();
    // The sort is stable; scores are finite, and -0.0 ties with 0.0.
    order.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).unwrap_or(Ordering::Equal));
    match top_n {
        None | Some(0) => {}
        Some(n) => order.truncate(n),
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_first_ties_by_index() {
        assert_eq!(rank([0.1, 0.9, 0.5, 0.9], None), [1, 3, 2, 0]);
        assert_eq!(rank([0.0, -0.0], None), [0, 1]);
        assert_eq!(rank([0.1, 0.9], Some(1)), [1]);
        assert_eq!(rank([0.1, 0.9], Some(0)), [1, 0]);
        assert_eq!(rank([0.1, 0.9], Some(9)), [1, 0]);
        assert!(rank([], Some(1)).is_empty());
    }
}
