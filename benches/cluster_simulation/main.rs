//! Many workers, one ledger, in simulated time: how much of a limit they use together, and what each of them gets.
//!
//! The gates are the real ones, and the ledger's laws those that the database's function is held against. Simulated are
//! the clocks, the way to the database, and how long a statement keeps the lane's row there (`--statement`).
//!
//! ```text
//! cargo bench --bench cluster_simulation
//! cargo bench --bench cluster_simulation -- --workers 1000 --limit 60000 --demand 1.0 --statement 300
//! cargo bench --bench cluster_simulation -- --workers 40 --limit 6000 --turn 20 --deaths 30
//! ```
#![expect(clippy::print_stdout, reason = "a benchmark reports on standard output")]

mod cluster;
mod database;
mod event;
mod oracle;
mod outcome;
mod plan;
mod worker;

use std::time::Instant;

use clap::Parser;
use sluicegate::gate::GateError;

use cluster::Cluster;
use outcome::Outcome;
use plan::{Counted, Course, Plan};

/// Many workers, one ledger.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many workers; may be repeated
    #[arg(long, default_values_t = [4, 40, 400, 1_000])]
    workers: Vec<usize>,
    /// Requests per minute, 0 for none; may be repeated
    #[arg(long, default_values_t = [600, 6_000, 60_000, 600_000])]
    limit: Vec<u64>,
    /// Tokens per minute, 0 for none; may be repeated
    #[arg(long, default_values_t = [2_000_000])]
    tokens: Vec<u64>,
    /// The part of the workers that have a backlog; may be repeated
    #[arg(long, default_values_t = [1.0, 0.5, 0.1])]
    demand: Vec<f64>,
    #[command(flatten)]
    course: Course,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    /// Every combination.
    fn plans(&self) -> Vec<Plan> {
        let requests = self.limit.iter().map(|limit| (Counted::Requests, *limit));
        let tokens = self.tokens.iter().map(|limit| (Counted::Tokens, *limit));
        let mut plans = Vec::new();
        for (counted, limit) in requests.chain(tokens).filter(|(_, limit)| *limit > 0) {
            for workers in &self.workers {
                for demand in &self.demand {
                    let active = ((*workers as f64 * demand).ceil() as usize).clamp(1, *workers);
                    plans.push(Plan { counted, limit, workers: *workers, active, course: self.course });
                }
            }
        }
        plans
    }
}

fn main() -> Result<(), GateError> {
    let arguments = Arguments::parse();
    println!("{:?}", arguments.course);
    println!("{}", Outcome::HEADER);
    for plan in arguments.plans() {
        let begun = Instant::now();
        let outcome = Cluster::new(plan)?.run()?;
        println!("{outcome} {:>6.1}", begun.elapsed().as_secs_f64());
    }
    Ok(())
}
