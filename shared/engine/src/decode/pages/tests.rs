//! An adversary plays with the pool. What a page would hold is written down beside it: for each token all tokens up to it,
//! which is what its keys and values depend on.

use proptest::prelude::*;

use super::*;

/// A pool, and what its pages hold.
struct Played {
    pages: Pages,
    memory: Vec<Vec<Vec<u32>>>,
    /// The tokens that each open sequence should have.
    open: Vec<(SequenceId, Vec<u32>)>,
}

impl Played {
    fn new(count: usize) -> Self {
        let memory = vec![vec![Vec::new(); PAGE_TOKENS]; count];
        Self { pages: Pages::new(count), memory, open: Vec::new() }
    }

    fn copy(&mut self, copies: impl IntoIterator<Item = PageCopy>) {
        for PageCopy { from, to } in copies {
            self.memory[to as usize] = self.memory[from as usize].clone();
        }
    }

    fn open(&mut self, ids: &[u32]) -> (SequenceId, usize) {
        let (id, cached, copy) = self.pages.open(ids);
        assert!(cached < ids.len());
        self.copy(copy);
        self.open.push((id, ids[..cached].to_vec()));
        self.check();
        (id, cached)
    }

    /// Whether there was room for the tokens.
    fn step(&mut self, at: usize, ids: &[u32]) -> bool {
        let id = self.open[at].0;
        let before = format!("{:?}", self.pages);
        let Some(copies) = self.pages.make_room(&[(id, ids.len())]).unwrap() else {
            assert_eq!(before, format!("{:?}", self.pages), "nothing has changed");
            return false;
        };
        self.copy(copies);
        self.write(at, ids);
        self.check();
        true
    }

    fn write(&mut self, at: usize, ids: &[u32]) {
        let (id, tokens) = &mut self.open[at];
        let own = self.pages.of(*id).unwrap().to_vec();
        for &token in ids {
            let (page, slot) = (own[tokens.len() / PAGE_TOKENS], tokens.len() % PAGE_TOKENS);
            let state = &self.pages.states[page as usize];
            assert!(state.holders == 1 && state.node.is_none(), "written by one, read by none");
            tokens.push(token);
            self.memory[page as usize][slot].clone_from(tokens);
        }
        self.pages.append(*id, ids).unwrap();
    }

    fn truncate(&mut self, at: usize, len: usize) {
        let (id, tokens) = &mut self.open[at];
        tokens.truncate(len);
        self.pages.truncate(*id, len).unwrap();
        self.check();
    }

    fn close(&mut self, at: usize) {
        let (id, _) = self.open.swap_remove(at);
        self.pages.close(id);
        self.check();
    }

    /// Everything that must hold between calls.
    fn check(&self) {
        let mut holders = vec![0u32; self.memory.len()];
        for (id, tokens) in &self.open {
            let open = &self.pages.open[id];
            assert_eq!(&open.tokens, tokens);
            open.pages.iter().for_each(|&page| holders[page as usize] += 1);
            for at in 0..tokens.len() {
                let page = open.pages[at / PAGE_TOKENS] as usize;
                assert_eq!(self.memory[page][at % PAGE_TOKENS], tokens[..=at]);
            }
            for (at, page) in open.pages.iter().enumerate().take(tokens.len() / PAGE_TOKENS) {
                let node = self.pages.states[*page as usize].node.as_ref().expect("a node");
                assert_eq!(node.parent, at.checked_sub(1).map(|before| open.pages[before]));
            }
        }
        let mut states = [0; 3];
        for (at, page) in self.pages.states.iter().enumerate() {
            assert_eq!(page.holders, holders[at], "holders of page {at}");
            let id = PageId::try_from(at).unwrap();
            let free = self.pages.free.contains(&id);
            assert_eq!(free, page.holders == 0 && page.node.is_none());
            states[if free { 0 } else { 1 + usize::from(page.holders == 0) }] += 1;
            let listed = self.pages.leaves.contains(&(page.used, id));
            let leaf = page.node.as_ref().is_some_and(|node| node.children.is_empty());
            assert_eq!(listed, page.holders == 0 && leaf, "page {at} may be given up");
            let Some(node) = &page.node else { continue };
            assert!(self.pages.children(node.parent).contains(&id));
            assert!(page.holders == 0 || node.tokens.len() == PAGE_TOKENS);
            if let Some(parent) = node.parent {
                let parent = &self.pages.states[parent as usize];
                assert!(parent.holders >= page.holders, "who holds a page holds those before it");
                assert_eq!(parent.node.as_ref().map(|node| node.tokens.len()), Some(PAGE_TOKENS));
            }
            let mut before = Vec::new();
            let mut parent = node.parent;
            while let Some(id) = parent {
                let node = self.pages.states[id as usize].node.as_ref().expect("a parent");
                before.splice(0..0, node.tokens.iter().copied());
                parent = node.parent;
            }
            for slot in 0..node.tokens.len() {
                let whole = [&before[..], &node.tokens[..=slot]].concat();
                assert_eq!(self.memory[at][slot], whole, "token {slot} of page {at}");
            }
        }
        let room = self.pages.room();
        assert_eq!(room.total, self.memory.len() * PAGE_TOKENS);
        assert_eq!([room.held, room.kept], [states[1], states[2]].map(|pages| pages * PAGE_TOKENS));
        assert_eq!(self.pages.leaves.len(), {
            let leaf = |page: &&Page| page.node.as_ref().is_some_and(|n| n.children.is_empty());
            self.pages.states.iter().filter(leaf).filter(|page| page.holders == 0).count()
        });
    }
}

#[derive(Debug, Clone)]
enum Move {
    Open { branch: [u8; 3], len: usize },
    Fork(prop::sample::Index),
    Step { which: prop::sample::Index, branch: u8, len: usize },
    StepBoth { len: usize },
    Truncate { which: prop::sample::Index, to: prop::sample::Index },
    Close(prop::sample::Index),
}

fn moves() -> impl Strategy<Value = Move> {
    let which = any::<prop::sample::Index>;
    prop_oneof![
        3 => (any::<[u8; 3]>(), 1usize..120).prop_map(|(branch, len)| Move::Open { branch, len }),
        1 => which().prop_map(Move::Fork),
        4 => (which(), 0u8..2, 1usize..70)
            .prop_map(|(which, branch, len)| Move::Step { which, branch, len }),
        1 => (1usize..40).prop_map(|len| Move::StepBoth { len }),
        2 => (which(), which()).prop_map(|(which, to)| Move::Truncate { which, to }),
        2 => which().prop_map(Move::Close),
    ]
}

/// Tokens of which few differ, so that many begin alike: a choice of two in each third.
fn text(branch: [u8; 3], len: usize) -> Vec<u32> {
    (0..len).map(|at| u32::from(branch[at * 3 / 120] % 2) * 1000 + at as u32).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_token_stays_where_its_sequences_find_it(
        count in 1usize..14,
        moves in prop::collection::vec(moves(), 1..60),
    ) {
        let mut played = Played::new(count);
        for move_ in moves {
            let open = played.open.len();
            match move_ {
                Move::Open { branch, len } => {
                    let ids = text(branch, len);
                    let (_, cached) = played.open(&ids);
                    let at = played.open.len() - 1;
                    if !played.step(at, &ids[cached..]) {
                        played.close(at);
                    }
                }
                Move::Fork(which) if open > 0 => {
                    let (id, tokens) = played.open[which.index(open)].clone();
                    let fork = played.pages.fork(id).unwrap();
                    played.open.push((fork, tokens));
                    played.check();
                }
                Move::Step { which, branch, len } if open > 0 => {
                    let at = which.index(open);
                    let from = played.open[at].1.len();
                    let ids = text([branch; 3], 120);
                    let ids: Vec<u32> = (from..from + len).map(|at| ids[at % 120]).collect();
                    played.step(at, &ids);
                }
                // Two forks may share the page that both write to.
                Move::StepBoth { len } if open > 1 => {
                    let wanted = [(played.open[open - 2].0, len), (played.open[open - 1].0, len)];
                    if let Some(copies) = played.pages.make_room(&wanted).unwrap() {
                        played.copy(copies);
                        played.write(open - 2, &vec![7; len]);
                        played.write(open - 1, &vec![8; len]);
                    }
                    played.check();
                }
                Move::Truncate { which, to } if open > 0 => {
                    let at = which.index(open);
                    let len = to.index(played.open[at].1.len() + 1);
                    played.truncate(at, len);
                }
                Move::Close(which) if open > 0 => played.close(which.index(open)),
                _ => {}
            }
        }
        while !played.open.is_empty() {
            played.close(0);
        }
        prop_assert_eq!(played.pages.room().held, 0);
        // All of it can be had again.
        let ids: Vec<u32> = (5000..).take(count * PAGE_TOKENS).collect();
        let (id, cached) = played.open(&ids);
        prop_assert_eq!(cached, 0);
        prop_assert!(played.step(0, &ids));
        prop_assert!(played.pages.make_room(&[(id, 1)]).unwrap().is_none());
    }

    /// With room enough, a sequence that begins as another did reuses every token but its last.
    #[test]
    fn what_was_computed_is_reused_to_the_token(len in 1usize..150, shared in 0usize..150, more in 1usize..50) {
        let shared = shared.min(len);
        let mut played = Played::new(20);
        let first: Vec<u32> = (0..len as u32).collect();
        played.open(&first);
        prop_assert!(played.step(0, &first));
        let mut second = first[..shared].to_vec();
        second.extend((0..more as u32).map(|at| 9000 + at));
        // While the first is open, its whole pages; when it is closed, all.
        let (_, cached) = played.open(&second);
        prop_assert_eq!(cached, if shared == len { shared / PAGE_TOKENS * PAGE_TOKENS } else {
            // Tokens of a full page that begins alike are copied.
            if shared / PAGE_TOKENS < len / PAGE_TOKENS { shared } else { shared / PAGE_TOKENS * PAGE_TOKENS }
        });
        played.close(1);
        played.close(0);
        let (_, cached) = played.open(&second);
        prop_assert_eq!(cached, shared);
        let (_, cached) = played.open(&first);
        prop_assert_eq!(cached, len - 1);
    }
}

#[test]
fn what_was_used_last_is_kept_longest() {
    let mut played = Played::new(2);
    let text = |base: u32| (base..=base + 32).collect::<Vec<u32>>();
    for base in [1000, 2000] {
        played.open(&text(base));
        assert!(played.step(0, &text(base)[..32]));
        played.close(0);
    }
    // The first is used again, a third needs a page: the second's goes.
    assert_eq!(played.open(&text(1000)).1, 32);
    played.close(0);
    played.open(&text(3000));
    assert!(played.step(0, &text(3000)[..32]));
    played.close(0);
    assert_eq!(played.open(&text(1000)).1, 32);
    assert_eq!(played.open(&text(2000)).1, 0);
}

#[test]
fn guesses_that_are_taken_back_cost_no_page() {
    let mut played = Played::new(2);
    let ids: Vec<u32> = (0..30).collect();
    played.open(&ids);
    assert!(played.step(0, &ids));
    for guess in 0..5 {
        assert!(played.step(0, &[100 + guess; 5]));
        played.truncate(0, 30);
        assert_eq!(played.pages.room().held, PAGE_TOKENS);
        assert_eq!(played.pages.room().kept, 0);
    }
}

#[test]
fn sequences_that_are_not_open() {
    let mut pages = Pages::new(2);
    let (id, ..) = pages.open(&[1]);
    pages.close(id);
    pages.close(id);
    let gone = NotOpen(id);
    assert_eq!(pages.fork(id), Err(gone));
    assert_eq!(pages.make_room(&[(id, 0)]), Err(gone));
    assert_eq!(pages.make_room(&[(id, 3)]), Err(gone));
    assert_eq!(pages.append(id, &[1]), Err(gone));
    assert_eq!(pages.truncate(id, 0), Err(gone));
    assert_eq!(pages.len(id), Err(gone));
}
