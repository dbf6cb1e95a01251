//! The `sluicegate` binary.

use std::process::ExitCode;

use sluicegate::cli;

// glibc's allocator keeps what was freed in arenas per thread; bodies wander between threads here.
// Without huge pages (its feature `no_thp`), or each arena touched takes 2 MiB at a time: measured 84 MB
// at most with them, 57 MB without (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A variable that is not UTF-8 can be none of ours.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    cli::main(std::env::args_os(), environment.collect()).into()
}
