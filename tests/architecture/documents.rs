//! What the documents promise: every file they name is there, and the README starts a newcomer.

use std::fs;
use std::path::Path;

use crate::source::collect;

/// Folders whose files a document may name in code; anything else in code is not taken for a path.
const FOLDERS: &[&str] =
    &[".ci/", ".config/", "benches/", "deploy/", "docs/", "examples/", "migrations/", "src/", "tests/"];

const TOP_LEVEL: &[&str] = &[
    ".ci/run",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Dockerfile",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "SECURITY.md",
    "benches",
    "deny.toml",
    "deploy",
    "docs",
    "examples",
    "migrations",
    "openapi.yaml",
    "sluicegate.example.toml",
    "tests/run",
];

/// Files and folders of the top level that are missing.
pub(crate) fn missing_top_level(root: &Path) -> Vec<String> {
    TOP_LEVEL.iter().filter(|name| !root.join(name).exists()).map(|name| format!("missing: {name}")).collect()
}

/// Folders and files right below `src` that the architecture's page doesn't name in code.
pub(crate) fn unnamed_parts(root: &Path) -> Vec<String> {
    let page = fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let parts = fs::read_dir(root.join("src")).unwrap().map(|entry| entry.unwrap().file_name());
    let parts = parts.map(|name| format!("src/{}", name.to_string_lossy()));
    let unnamed = parts.filter(|part| !page.contains(&format!("`{part}`")));
    unnamed.map(|part| format!("docs/architecture.md lacks `{part}`")).collect()
}

/// Commands a newcomer needs that the README lacks.
pub(crate) fn readme_gaps(readme: &str) -> Vec<String> {
    let commands = ["cargo run --release -- demo", "bash tests/run"];
    commands
        .iter()
        .filter(|command| !readme.contains(*command))
        .map(|gap| format!("README lacks `{gap}`"))
        .collect()
}

/// Paths named in the Markdown documents that lead nowhere.
pub(crate) fn dead_paths(root: &Path) -> Vec<String> {
    let mut documents = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            documents.push(path);
        }
    }
    collect(&root.join("docs"), "md", &mut documents);
    let mut dead = Vec::new();
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        let folder = document.parent().unwrap();
        let name = document.strip_prefix(root).unwrap().display();
        let links = links_in(&text).filter(|link| !folder.join(link).exists());
        dead.extend(links.map(|link| format!("{name}: link to {link}")));
        let paths = code_in(&text).flat_map(paths_in).filter(|path| !root.join(path).exists());
        dead.extend(paths.map(|path| format!("{name}: `{path}`")));
    }
    dead
}

/// Metrics named in documents and in `deploy/` that the code does not declare.
pub(crate) fn unknown_metrics(root: &Path) -> Vec<String> {
    let read_all = |folder: &str, extensions: &[&str]| {
        let mut paths = Vec::new();
        for extension in extensions {
            collect(&root.join(folder), extension, &mut paths);
        }
        paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect::<String>()
    };
    let declared = read_all("src/metrics", &["rs"]);
    let named = read_all("docs", &["md"]) + &read_all("deploy", &["yml", "yaml", "json"]);
    let unknown = metrics_in(&named).filter(|name| !declared.contains(&format!("\"{name}\"")));
    unknown.map(|name| format!("sluicegate_{name} is not declared")).collect()
}

/// Alerts without a section in `docs/alerts.md` or a link to it, and sections without an alert.
pub(crate) fn alerts_without_runbook(root: &Path) -> Vec<String> {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let (rules, runbook) = (read("deploy/prometheus/alerts.yml"), read("docs/alerts.md"));
    let named = |text: &str, before: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.trim().strip_prefix(before)).map(str::to_owned).collect()
    };
    let (alerts, sections) = (named(&rules, "- alert: "), named(&runbook, "## "));
    let links = named(&rules, "runbook_url: docs/alerts.md#");
    let mut wrong = Vec::new();
    for alert in &alerts {
        if !sections.contains(alert) {
            wrong.push(format!("docs/alerts.md has no section {alert}"));
        }
        if !links.contains(&alert.to_lowercase()) {
            wrong.push(format!("{alert} has no link to its section"));
        }
    }
    wrong.extend(sections.iter().filter(|it| !alerts.contains(it)).map(|it| format!("{it} is no alert")));
    wrong
}

/// Names after `sluicegate_`, without what a histogram's series add.
fn metrics_in(text: &str) -> impl Iterator<Item = &str> {
    let names = text.split("sluicegate_").skip(1);
    let names =
        names.map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap());
    names.map(|name| {
        ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
    })
}

/// Relative targets of `[text](target)`, without their anchors.
fn links_in(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    let local = targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:"));
    local.filter_map(|target| target.split('#').next()).filter(|target| !target.is_empty())
}

/// Texts between backquotes, fenced blocks included: every second part.
fn code_in(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').enumerate().filter(|(index, _)| index % 2 == 1).map(|(_, code)| code)
}

fn paths_in(code: &str) -> impl Iterator<Item = &str> {
    let words = code.split(|c: char| c.is_whitespace() || "\"'();,|".contains(c));
    let words = words.map(|word| word.trim_start_matches("./").trim_end_matches(['.', ':']));
    words.filter(|word| {
        FOLDERS.iter().any(|folder| word.starts_with(folder)) && !word.contains(['*', '{', '<', '$', '…'])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead_in(document: &str) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("docs")).unwrap();
        fs::write(root.path().join("docs/real.md"), "").unwrap();
        fs::write(root.path().join("README.md"), document).unwrap();
        dead_paths(root.path())
    }

    #[test]
    fn paths_that_lead_nowhere_are_found() {
        let cases = [
            "[gone](docs/gone.md)",
            "[gone](docs/gone.md#part)",
            "see `docs/gone.md`",
            "```sh\nbash tests/gone --all\n```",
            "`a` then `./src/gone.rs`.",
        ];
        for document in cases {
            assert_eq!(dead_in(document).len(), 1, "{document}");
        }
    }

    #[test]
    fn what_exists_or_is_no_path_is_left_alone() {
        let document = "[a](docs/real.md#x) [b](https://example.org/x) [c](#here) `docs/real.md` `docs/*.md` \
                        ```sh\ncat docs/real.md\n```";
        assert_eq!(dead_in(document), [""; 0]);
    }

    #[test]
    fn metrics_that_nobody_declares_are_found() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["docs", "src/metrics"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        fs::write(root.path().join("src/metrics/a.rs"), "\"real_seconds\"").unwrap();
        fs::write(root.path().join("docs/a.md"), "`sluicegate_real_seconds_count` `sluicegate_gone_total`")
            .unwrap();
        assert_eq!(unknown_metrics(root.path()), ["sluicegate_gone_total is not declared"]);
    }

    #[test]
    fn alerts_without_a_runbook_are_found() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["docs", "deploy/prometheus"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let rules = "- alert: Good\n  runbook_url: docs/alerts.md#good\n- alert: Bare\n";
        fs::write(root.path().join("deploy/prometheus/alerts.yml"), rules).unwrap();
        fs::write(root.path().join("docs/alerts.md"), "## Good\n## Gone\n").unwrap();
        let wrong =
            ["docs/alerts.md has no section Bare", "Bare has no link to its section", "Gone is no alert"];
        assert_eq!(alerts_without_runbook(root.path()), wrong);
    }

    #[test]
    fn gaps_are_found() {
        let empty = tempfile::tempdir().unwrap();
        for folder in ["docs", "src/gate", "src/store"] {
            fs::create_dir_all(empty.path().join(folder)).unwrap();
        }
        fs::write(empty.path().join("docs/architecture.md"), "| `src/gate` |").unwrap();
        assert_eq!(unnamed_parts(empty.path()), ["docs/architecture.md lacks `src/store`"]);
        fs::remove_dir_all(empty.path().join("docs")).unwrap();
        assert_eq!(missing_top_level(empty.path()).len(), TOP_LEVEL.len());
        assert_eq!(readme_gaps("bash tests/run").len(), 1);
    }
}
