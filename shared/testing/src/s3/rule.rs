//! Which requests fail, and when.
//!
//! A rule counts the requests that its [`Which`] fits, whether or not it fires for them, and fires
//! when its [`When`] says so. Where several rules would fire for one request the first one does.
//!
//! Requests come in whatever order the client's tasks run in, so counting them (`Nth`, `Every`)
//! names another request in each run. `Attempt`, `FirstAttempts` and `PerMille` depend only on what
//! is asked and how often it was asked before; a run with these repeats itself.

use std::collections::HashMap;
use std::ops::Range;

use twox_hash::XxHash3_64;

use super::Fault;

/// A fault and the requests it befalls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The requests that count.
    pub on: Which,
    /// The requests, of those that count, that fail.
    pub when: When,
    /// The way in which they fail.
    pub fault: Fault,
}

/// What a rule looks at. Offsets are those of bytes that exist; what `bytes=100-` or no range at
/// all asks for is computed from the size of the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// Every request.
    Any,
    /// GETs of objects.
    Gets,
    /// GETs of objects with a `Range` header that counts.
    RangedGets,
    /// GETs whose first byte lies at this offset or behind it.
    GetsFrom(u64),
    /// GETs that ask for the byte at this offset.
    GetsTouching(u64),
    /// Everything that concerns this key, in any bucket.
    Key(String),
    /// Requests with this method, in capitals.
    Method(String),
    /// Requests that fit all of these.
    All(Vec<Which>),
}

/// When a rule fires. Requests and attempts are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The rule fires for every request.
    Always,
    /// The rule fires for the request of this number.
    Nth(u64),
    /// The rule fires for the request of this number and all later ones.
    From(u64),
    /// The rule fires for this many requests from the first on.
    FirstN(u64),
    /// The rule fires for the n-th request, the 2n-th and so on.
    Every(u64),
    /// The rule fires when the same bytes (or the same operation) are asked for the n-th time.
    Attempt(u64),
    /// The rule fires when the same bytes (or the same operation) are asked for, this many times.
    FirstAttempts(u64),
    /// The rule fires for so many of a thousand requests, drawn from the seed, what is asked and the attempt.
    PerMille {
        /// The number of requests of 1000.
        p: u16,
        /// The seed; another one draws other requests.
        seed: u64,
    },
}

/// Names a rule of a server, to ask how often it fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RuleId(u64);

/// What rules see of a request.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub key: &'a str,
    /// The bytes that a GET of an object that exists asks for.
    pub range: Option<Range<u64>>,
    pub ranged: bool,
}

impl Which {
    fn fits(&self, seen: &Seen<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Gets => seen.method == "GET" && !seen.key.is_empty(),
            Self::RangedGets => seen.ranged && Self::Gets.fits(seen),
            Self::GetsFrom(offset) => {
                seen.range.as_ref().is_some_and(|range| range.start >= *offset)
            }
            Self::GetsTouching(offset) => {
                seen.range.as_ref().is_some_and(|range| range.contains(offset))
            }
            Self::Key(key) => seen.key == key,
            Self::Method(method) => seen.method == method,
            Self::All(all) => all.iter().all(|one| one.fits(seen)),
        }
    }
}

#[derive(Debug)]
struct Armed {
    id: RuleId,
    rule: Rule,
    requests: u64,
    attempts: HashMap<String, u64>,
    fired: u64,
}

impl Armed {
    fn fires(&mut self, seen: &Seen<'_>) -> bool {
        if !self.rule.on.fits(seen) {
            return false;
        }
        self.requests += 1;
        let nth = self.requests;
        match self.rule.when {
            When::Always => true,
            When::Nth(n) => nth == n,
            When::From(n) => nth >= n,
            When::FirstN(n) => nth <= n,
            When::Every(n) => n > 0 && nth.is_multiple_of(n),
            When::Attempt(n) => self.attempt(identity(seen)) == n,
            When::FirstAttempts(n) => self.attempt(identity(seen)) <= n,
            When::PerMille { p, seed } => {
                let identity = identity(seen);
                let draw = format!("{identity} {}", self.attempt(identity.clone()));
                XxHash3_64::oneshot_with_seed(seed, draw.as_bytes()) % 1000 < u64::from(p)
            }
        }
    }

    fn attempt(&mut self, identity: String) -> u64 {
        let attempts = self.attempts.entry(identity).or_default();
        *attempts += 1;
        *attempts
    }
}

fn identity(seen: &Seen<'_>) -> String {
    format!("{} {} {:?}", seen.method, seen.target, seen.range)
}

/// The rules of a server.
#[derive(Debug, Default)]
pub(super) struct Rules {
    rules: Vec<Armed>,
    added: u64,
}

impl Rules {
    pub(super) fn add(&mut self, rule: Rule) -> RuleId {
        self.added += 1;
        let id = RuleId(self.added);
        self.rules.push(Armed { id, rule, requests: 0, attempts: HashMap::new(), fired: 0 });
        id
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    pub(super) fn fired(&self, id: RuleId) -> u64 {
        self.rules.iter().find(|armed| armed.id == id).map_or(0, |armed| armed.fired)
    }

    /// The fault for this request. Every rule counts it.
    pub(super) fn pick(&mut self, seen: &Seen<'_>) -> Option<(RuleId, Fault)> {
        let mut picked = None;
        for armed in &mut self.rules {
            if armed.fires(seen) && picked.is_none() {
                picked = Some((armed.id, armed.rule.fault));
            }
        }
        picked
    }

    /// Counts a fault that was done.
    pub(super) fn done(&mut self, id: RuleId) {
        if let Some(armed) = self.rules.iter_mut().find(|armed| armed.id == id) {
            armed.fired += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(range: Range<u64>) -> Seen<'static> {
        Seen { method: "GET", target: "/b/k", key: "k", range: Some(range), ranged: true }
    }

    fn pattern(when: When, requests: &[Range<u64>]) -> String {
        let mut rules = Rules::default();
        rules.add(Rule { on: Which::Any, when, fault: Fault::SlowDown });
        let fires = |range: &Range<u64>| rules.pick(&seen(range.clone())).is_some();
        requests.iter().map(fires).map(|fires| if fires { 'x' } else { '.' }).collect()
    }

    #[test]
    fn when() {
        let (a, b) = (0..1, 1..2);
        let requests = [a.clone(), b.clone(), a.clone(), a, b.clone(), b];
        for (when, expected) in [
            (When::Always, "xxxxxx"),
            (When::Nth(2), ".x...."),
            (When::From(5), "....xx"),
            (When::FirstN(2), "xx...."),
            (When::Every(3), "..x..x"),
            (When::Every(0), "......"),
            (When::Attempt(2), "..x.x."),
            (When::FirstAttempts(2), "xxx.x."),
            (When::PerMille { p: 0, seed: 7 }, "......"),
            (When::PerMille { p: 1000, seed: 7 }, "xxxxxx"),
        ] {
            assert_eq!(pattern(when, &requests), expected, "{when:?}");
        }
    }

    #[test]
    fn per_mille_depends_on_what_is_asked_and_not_on_the_order() {
        let forwards: Vec<_> = (0..4000).map(|at| at..at + 1).collect();
        let backwards: Vec<_> = forwards.iter().rev().cloned().collect();
        let when = When::PerMille { p: 100, seed: 1 };
        let drawn = pattern(when, &forwards);
        assert_eq!(drawn, pattern(when, &backwards).chars().rev().collect::<String>());
        assert_ne!(drawn, pattern(When::PerMille { p: 100, seed: 2 }, &forwards));
        let share = drawn.matches('x').count();
        assert!((300..500).contains(&share), "{share} of 4000 at 10 %");
    }

    #[test]
    fn which() {
        let get = seen(10..20);
        let put = Seen { method: "PUT", target: "/b/k", key: "k", range: None, ranged: false };
        let list = Seen { method: "GET", target: "/b", key: "", range: None, ranged: false };
        for (on, expected) in [
            (Which::Any, [true, true, true]),
            (Which::Gets, [true, false, false]),
            (Which::RangedGets, [true, false, false]),
            (Which::GetsFrom(10), [true, false, false]),
            (Which::GetsFrom(11), [false; 3]),
            (Which::GetsTouching(19), [true, false, false]),
            (Which::GetsTouching(20), [false; 3]),
            (Which::Key("k".into()), [true, true, false]),
            (Which::Method("PUT".into()), [false, true, false]),
            (
                Which::All(vec![Which::Key("k".into()), Which::Method("PUT".into())]),
                [false, true, false],
            ),
            (Which::All(vec![]), [true; 3]),
        ] {
            assert_eq!([&get, &put, &list].map(|seen| on.fits(seen)), expected, "{on:?}");
        }
    }

    #[test]
    fn the_first_rule_that_fires_wins_and_the_others_count_on() {
        let mut rules = Rules::default();
        let rule = |when, fault| Rule { on: Which::Any, when, fault };
        let first = rules.add(rule(When::Nth(1), Fault::SlowDown));
        let second = rules.add(rule(When::FirstN(2), Fault::Missing));
        assert_eq!(rules.pick(&seen(0..1)), Some((first, Fault::SlowDown)));
        assert_eq!(rules.pick(&seen(0..1)), Some((second, Fault::Missing)));
        assert_eq!(rules.pick(&seen(0..1)), None);
        rules.done(second);
        assert_eq!((rules.fired(first), rules.fired(second)), (0, 1));
        rules.clear();
        assert_eq!(rules.fired(second), 0);
    }
}
