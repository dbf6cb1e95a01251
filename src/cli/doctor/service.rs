//! A running service, seen from outside.

use serde_json::Value;

use super::Finding;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;

/// Looks at whether it is there, takes new work, and takes the key.
pub(super) async fn look(client: &Client) -> Vec<Finding> {
    let about = format!("service {}", client.base());
    let alive: Result<Value, CliError> = client.get("/livez").await;
    if let Err(error) = alive {
        return vec![failed(about, &error)];
    }
    let mut findings = vec![Finding::ok(about, "answers")];
    findings.push(match client.get::<Value>("/readyz").await {
        Ok(_) => Finding::ok("new work", "is taken"),
        Err(error) => Finding::fail(
            "new work",
            format!("is not taken: {error}"),
            "the service's log says why; /readyz names the reason",
            Exit::Unreachable,
        ),
    });
    findings.push(match client.get::<Value>("/v1/batches?limit=1").await {
        Ok(_) => Finding::ok("key", "good, or none is needed"),
        Err(error) => failed("key".to_owned(), &error),
    });
    if let Ok(budget) = client.get::<Value>("/v1/budget").await {
        findings.extend(lanes(&budget));
    }
    findings
}

fn failed(about: String, error: &CliError) -> Finding {
    Finding::fail(about, error.to_string(), "", error.exit())
}

/// Lanes that let nothing through.
fn lanes(budget: &Value) -> Vec<Finding> {
    let limits = budget["data"].as_array().into_iter().flatten();
    let mut found: Vec<(String, String)> = Vec::new();
    for limit in limits.filter(|limit| limit["level"] == "lane") {
        let text = |field: &str| limit[field].as_str().unwrap_or_default().to_owned();
        let lane = (text("name"), text("state"));
        if !found.contains(&lane) {
            found.push(lane);
        }
    }
    let finding = |(name, state): (String, String)| {
        let about = format!("lane {name}");
        match state.as_str() {
            "open" => Finding::ok(about, "open"),
            "stopped" => Finding::fail(
                about,
                "stopped: the provider refuses its key, or its quota is used up",
                "mend the key or the account; the lane tries again by itself",
                Exit::KeyRefused,
            ),
            "breaker" => Finding::fail(
                about,
                "closed: its calls fail",
                "the provider has trouble; the lane tries again by itself",
                Exit::Unreachable,
            ),
            "paused" => Finding::warn(about, "paused", "POST /admin/v1/lanes/resume ends the pause"),
            other => Finding::warn(about, other, ""),
        }
    };
    found.into_iter().map(finding).collect()
}
