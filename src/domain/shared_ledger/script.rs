//! Workers that ask at random, for tests of the ledger and of the database's one.

use std::sync::Arc;

use proptest::prelude::*;

use crate::domain::exchange::{
    Answer, Ask, BudgetAsk, BudgetGrant, BudgetName, NO_APP, PlacesAsk, SLOT_LIFE, Settled, ShareTold, Slots,
    Spending, TURN,
};

/// One exchange: who, how long after the one before, in microseconds, and what else chance decides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) worker: usize,
    pub(crate) pause: i64,
    pub(crate) chance: u64,
}

/// So many steps of so many workers.
pub(crate) fn steps(workers: usize, most: usize) -> impl Strategy<Value = Vec<Step>> {
    let pause = prop_oneof![6 => 1_000_i64..120_000, 1 => 0_i64..2, 1 => 100_000_i64..900_000];
    let step = (0..workers, pause, any::<u64>());
    let step = step.prop_map(|(worker, pause, chance)| Step { worker, pause, chance });
    proptest::collection::vec(step, most / 2..most)
}

/// Numbers drawn from one.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn below(&mut self, most: u64) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % most.max(1)
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// A budget of the script.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) name: BudgetName,
    pub(crate) limit: u64,
    pub(crate) spending: Spending,
    /// The most that one call needs.
    pub(crate) heaviest: u64,
}

impl Subject {
    fn is_paced(&self) -> bool {
        matches!(self.spending, Spending::Paced { .. })
    }

    fn due(&self, slots: Slots, unit: u64) -> i64 {
        let Spending::Paced { stretched_us } = self.spending else { return slots.at_us };
        slots.at_us + (unit * stretched_us).div_ceil(self.limit).cast_signed()
    }
}

/// Units that arrived at the provider.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    pub(crate) at: i64,
    pub(crate) units: u64,
}

/// A call that ran, until it is settled.
#[derive(Clone, Debug)]
struct Running {
    /// What it was charged.
    slots: Vec<Slots>,
    arrived: usize,
}

impl Running {
    fn units(&self) -> u64 {
        self.slots.iter().map(|slots| slots.units).sum()
    }

    /// So much of its last units was not used.
    fn less(&self, units: u64) -> Vec<Settled> {
        let mut left = units;
        let less = self.slots.iter().rev().map(|slots| {
            let units = left.min(slots.units);
            left -= units;
            Settled { at_us: slots.at_us, change: -units.cast_signed() }
        });
        less.filter(|settled| settled.change < 0).collect()
    }
}

/// What a worker has of one budget.
#[derive(Clone, Debug, Default)]
struct Holding {
    unused: Vec<Slots>,
    running: Vec<Running>,
}

/// What a script does with what it is granted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// Whether calls may turn out to have used more than was charged.
    pub(crate) grows: bool,
    /// Whether limits change on the way.
    pub(crate) changes: bool,
}

/// Workers that ask, use what they are granted, late as they may be, and give some of it back.
pub(crate) struct Script {
    pub(crate) subjects: Vec<Subject>,
    habits: Habits,
    numbers: Vec<u64>,
    holdings: Vec<Vec<Holding>>,
    /// What arrived, by subject.
    pub(crate) arrived: Vec<Vec<Arrived>>,
}

/// What is told and asked of shares, often nothing.
fn shares(chance: &mut Chance) -> (Vec<Arc<str>>, Vec<ShareTold>) {
    let (mut contended, mut shares) = (Vec::new(), Vec::new());
    for level in ["lane/a/b", "provider/a"] {
        if chance.one_in(2) {
            continue;
        }
        contended.push(level.into());
        for app in [TURN, NO_APP, "app/1", "app/2"] {
            if chance.one_in(3) {
                continue;
            }
            let taken = if app == TURN { chance.below(2) } else { chance.below(3) * chance.below(1_000_000) };
            shares.push(ShareTold {
                level: level.into(),
                app: app.into(),
                base: chance.below(5_000_000),
                taken,
            });
        }
    }
    (contended, shares)
}

impl Script {
    pub(crate) fn new(subjects: Vec<Subject>, workers: usize, habits: Habits) -> Self {
        let holdings = vec![vec![Holding::default(); subjects.len()]; workers];
        let arrived = vec![Vec::new(); subjects.len()];
        Self { subjects, habits, numbers: vec![0; workers], holdings, arrived }
    }

    /// What a worker asks next.
    pub(crate) fn ask(&mut self, step: Step) -> Ask {
        let mut chance = Chance(step.chance);
        self.numbers[step.worker] += 1;
        if self.habits.changes && chance.one_in(40) {
            let subject = chance.below(self.subjects.len() as u64) as usize;
            self.change(subject, &mut chance);
        }
        let budgets = (0..self.subjects.len()).map(|subject| self.budget(step.worker, subject, &mut chance));
        let budgets = budgets.collect();
        let used = chance.below(6) as u32;
        let want = used + chance.below(6) as u32;
        let places = vec![PlacesAsk { level: "lane/a/b".into(), limit: 9, used, want }];
        let (contended, shares) = shares(&mut chance);
        Ask { number: self.numbers[step.worker], budgets, places, contended, shares }
    }

    fn change(&mut self, subject: usize, chance: &mut Chance) {
        let subject = &mut self.subjects[subject];
        // Downwards, and a longer ramp: what was granted before may still be in the window.
        if let Spending::Paced { stretched_us } = &mut subject.spending {
            *stretched_us += chance.below(*stretched_us / 4);
        }
        subject.limit -= chance.below(subject.limit / 4);
        subject.heaviest = subject.heaviest.min(subject.limit / 5).max(1);
    }

    fn budget(&mut self, worker: usize, number: usize, chance: &mut Chance) -> BudgetAsk {
        let subject = &self.subjects[number];
        let holding = &mut self.holdings[worker][number];
        let mut settled = Vec::new();
        let arrived = &mut self.arrived[number];
        let grows = self.habits.grows;
        let is_settled = subject.name.dimension.is_settled();
        holding.running.retain(|call| {
            if !chance.one_in(3) {
                return true;
            }
            let less = chance.below(call.units() + 1);
            if grows && chance.one_in(4) {
                settled.push(Settled { at_us: call.slots[0].at_us, change: less.cast_signed() });
            } else if is_settled {
                arrived[call.arrived].units -= less;
                settled.extend(call.less(less));
            }
            false
        });
        let need = if chance.one_in(8) { 0 } else { 1 + chance.below(subject.heaviest) };
        let want = need + if chance.one_in(3) { 0 } else { chance.below(subject.limit / 3 + 2) };
        BudgetAsk {
            name: subject.name.clone(),
            limit: subject.limit,
            spending: subject.spending,
            need,
            want,
            unused: std::mem::take(&mut holding.unused),
            settled,
        }
    }

    /// Takes what was answered and uses it, or not.
    pub(crate) fn take(&mut self, step: Step, ask: &Ask, answer: &Answer) {
        let mut chance = Chance(!step.chance);
        for (number, (asked, granted)) in ask.budgets.iter().zip(&answer.budgets).enumerate() {
            self.use_up((step.worker, number), (asked, granted), answer.now_us, &mut chance);
        }
    }

    fn use_up(
        &mut self,
        (worker, number): (usize, usize),
        (asked, granted): (&BudgetAsk, &BudgetGrant),
        now: i64,
        chance: &mut Chance,
    ) {
        if granted.slots.is_empty() {
            return;
        }
        let holding = &mut self.holdings[worker][number];
        if chance.one_in(6) {
            holding.unused.extend(granted.slots.iter().copied());
            return;
        }
        let (subject, arrived) = (&self.subjects[number], &mut self.arrived[number]);
        let alike = !subject.name.dimension.is_settled() && subject.is_paced();
        let mut arrive = |slots: Vec<Slots>, chance: &mut Chance| {
            let late = chance.below(SLOT_LIFE as u64 + 50_000) as i64;
            let running = Running { slots, arrived: arrived.len() };
            let at = now.max(running.slots[0].at_us + late.min(SLOT_LIFE));
            arrived.push(Arrived { at, units: running.units() });
            holding.running.push(running);
        };
        let mut head = if alike { 0 } else { asked.need };
        let mut left = head;
        let of_head = granted.slots.iter().map(|slots| {
            let units = left.min(slots.units);
            left -= units;
            Slots { units, ..*slots }
        });
        let of_head: Vec<_> = of_head.filter(|slots| slots.units > 0).collect();
        if head > 0 {
            arrive(of_head, chance);
        }
        for slots in &granted.slots {
            let of_head = head.min(slots.units);
            head -= of_head;
            let mut next = of_head;
            let kept =
                if chance.one_in(2) { slots.units } else { next + chance.below(slots.units - next + 1) };
            while next < kept {
                let units = if alike { 1 } else { (1 + chance.below(subject.heaviest)).min(kept - next) };
                arrive(vec![Slots { at_us: subject.due(*slots, next), units }], chance);
                next += units;
            }
            if next < slots.units {
                let rest = Slots { at_us: subject.due(*slots, next), units: slots.units - next };
                holding.unused.push(rest);
            }
        }
    }
}

/// The most units that arrived within any period, and when it began.
pub(crate) fn fullest(arrived: &[Arrived], period: i64, from: i64) -> u64 {
    let mut all: Vec<_> = arrived.iter().filter(|call| call.at >= from).collect();
    all.sort_by_key(|call| call.at);
    let (mut oldest, mut sum, mut most) = (0, 0, 0);
    for call in &all {
        sum += call.units;
        while all[oldest].at <= call.at - period {
            sum -= all[oldest].units;
            oldest += 1;
        }
        most = most.max(sum);
    }
    most
}
