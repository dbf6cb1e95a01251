//! `completions` and `man`: what a shell and a reader know of the commands, made from their definitions.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::arguments::Arguments;
use super::error::CliError;
use super::exit::Exit;
use super::print;

/// Prints a shell's completions.
#[derive(Clone, Copy, Debug, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// Prints completions, for a shell to read.
pub(super) fn completions(completions: Completions) -> Result<Exit, CliError> {
    let mut text = Vec::new();
    clap_complete::generate(completions.shell, &mut Arguments::command(), "sluicegate", &mut text);
    print(&String::from_utf8_lossy(&text))?;
    Ok(Exit::Success)
}

/// Prints a manual page.
#[derive(Clone, Debug, Args)]
pub struct Man {
    /// The command that it is about, such as `run` or `keys create`; else the program
    #[arg(value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Prints a page of the manual, for `man` to show.
pub(super) fn man(man: &Man) -> Result<Exit, CliError> {
    let mut program = Arguments::command();
    program.build();
    let mut about = &program;
    for name in &man.command {
        let unknown = || {
            let named = man.command.join(" ");
            CliError::Use(format!("there is no command {named:?}; `sluicegate help` lists them"))
        };
        about = about.find_subcommand(name).ok_or_else(unknown)?;
    }
    let mut text = Vec::new();
    clap_mangen::Man::new(about.clone()).render(&mut text).map_err(CliError::Output)?;
    print(&String::from_utf8_lossy(&text))?;
    Ok(Exit::Success)
}
