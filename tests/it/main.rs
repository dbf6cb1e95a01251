//! The service as its clients and operators meet it: real HTTP, a real database file, a scripted upstream
//! that is a real server. What needs a process of its own (signals, crashes) runs the built binary.

#[cfg(test)]
mod harness;

#[cfg(test)]
mod access;
#[cfg(test)]
mod answered_errors;
#[cfg(test)]
mod apps;
#[cfg(test)]
mod backup;
#[cfg(test)]
mod behaviours;
#[cfg(test)]
mod budget;
#[cfg(test)]
mod bytes;
#[cfg(test)]
mod canaries;
#[cfg(test)]
mod coming_back;
#[cfg(test)]
mod command_line;
#[cfg(test)]
mod completion;
#[cfg(test)]
mod creation;
#[cfg(test)]
mod crowd;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod endings;
#[cfg(test)]
mod idle_replicas;
#[cfg(test)]
mod interactive;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod kinds;
#[cfg(test)]
mod main_path;
#[cfg(test)]
mod observing;
#[cfg(test)]
mod on_postgres;
#[cfg(test)]
mod order;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod replicas;
#[cfg(test)]
mod restarts;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod shares;
#[cfg(test)]
mod stopped_lanes;
#[cfg(test)]
mod store_copy;
#[cfg(test)]
mod store_upkeep;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod token_kills;
#[cfg(test)]
mod tokens;
#[cfg(all(test, feature = "otel"))]
mod traces;
