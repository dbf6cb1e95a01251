//! Providers that need no file: those whose keys or URLs are in the environment under known names.

use super::problem::Origin;
use super::providers::Kind;
use super::sources::Environment;
use super::tree::{Node, Table, Value};

/// What is known about a provider by its name alone.
#[derive(Debug)]
pub(super) struct Preset {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) base_url: &'static str,
    pub(super) key_variable: Option<&'static str>,
    base_variable: Option<&'static str>,
    /// The models that it serves when others are there too; `None`: the rest.
    pattern: Option<&'static str>,
}

const OPENAI: Preset = Preset {
    name: "openai",
    kind: Kind::OpenAi,
    base_url: "https://api.openai.com/v1",
    key_variable: Some("OPENAI_API_KEY"),
    base_variable: Some("OPENAI_BASE_URL"),
    pattern: None,
};

const OLLAMA: Preset = Preset {
    name: "ollama",
    kind: Kind::OpenAi,
    base_url: "http://127.0.0.1:11434/v1",
    key_variable: None,
    base_variable: Some("OLLAMA_HOST"),
    pattern: None,
};

const PRESETS: [Preset; 4] = [
    OPENAI,
    Preset {
        name: "anthropic",
        kind: Kind::Anthropic,
        base_url: "https://api.anthropic.com/v1",
        key_variable: Some("ANTHROPIC_API_KEY"),
        base_variable: Some("ANTHROPIC_BASE_URL"),
        pattern: Some("claude-*"),
    },
    Preset {
        name: "openrouter",
        kind: Kind::OpenAi,
        base_url: "https://openrouter.ai/api/v1",
        key_variable: Some("OPENROUTER_API_KEY"),
        base_variable: None,
        pattern: Some("*/*"),
    },
    OLLAMA,
];

/// What is known about a provider of this name.
pub(super) fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

/// The providers that the environment names.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Their tables, as a file would have them.
    pub(super) tables: Table,
    /// The one that takes what no other's pattern does, and those patterns.
    pub(super) rest: Option<(&'static str, Vec<&'static str>)>,
    /// What an operator may wonder about.
    pub(super) notices: Vec<String>,
}

/// Looks for the known names.
pub(super) fn find(environment: &Environment) -> Found {
    let mut found = Found::default();
    let mut present: Vec<&Preset> = PRESETS.iter().filter(|preset| preset.is_in(environment)).collect();
    if present.iter().any(|preset| preset.name == OPENAI.name)
        && present.iter().any(|it| it.name == OLLAMA.name)
    {
        // As a second choice for every model it would be sent names that it does not have.
        present.retain(|preset| preset.name != OLLAMA.name);
        found.notices.push(
            "OLLAMA_HOST is left out, because OpenAI takes every model that no one else does; \
             to use both, name them in a file"
                .to_owned(),
        );
    }
    let alone = present.len() == 1;
    let patterns: Vec<_> = present.iter().filter_map(|preset| preset.pattern).collect();
    for preset in present {
        let pattern = if alone { None } else { preset.pattern };
        if !alone && preset.pattern.is_none() {
            found.rest = Some((preset.name, patterns.clone()));
        }
        found.tables.insert(preset.name.to_owned(), preset.table(environment, pattern));
    }
    found
}

impl Preset {
    fn is_in(&self, environment: &Environment) -> bool {
        let variables = [self.key_variable, self.base_variable];
        variables.into_iter().flatten().any(|name| environment.get(name).is_some())
    }

    fn table(&self, environment: &Environment, pattern: Option<&str>) -> Node {
        let variable = |name: &str| Origin::Variable { name: name.to_owned() };
        let given = |name: Option<&'static str>| name.and_then(|name| Some((name, environment.get(name)?)));
        let mut table = Table::new();
        let mut whole = None;
        if let Some((name, _)) = given(self.key_variable) {
            whole = Some(variable(name));
            table.insert("api_key_env".to_owned(), text(name, &variable(name)));
        }
        if let Some((name, value)) = given(self.base_variable) {
            table.insert("base_url".to_owned(), text(&self.base_url_of(value), &variable(name)));
            whole.get_or_insert_with(|| variable(name));
        }
        let origin = whole.unwrap_or_else(|| variable(self.name));
        if let Some(pattern) = pattern {
            let lane = Table::from([("match".to_owned(), text(pattern, &origin))]);
            let lane = Node { value: Value::Table(lane), origin: origin.clone() };
            let lanes = Node { value: Value::List(vec![lane]), origin: origin.clone() };
            table.insert("lanes".to_owned(), lanes);
        }
        Node { value: Value::Table(table), origin }
    }

    /// The variable's value as a base URL with its version prefix, which only `OpenAI`'s variable has.
    fn base_url_of(&self, value: &str) -> String {
        let value = value.trim_end_matches('/');
        if self.name == OLLAMA.name {
            ollama_base_url(value)
        } else if self.kind == Kind::Anthropic && !value.ends_with("/v1") {
            format!("{value}/v1")
        } else {
            value.to_owned()
        }
    }
}

fn text(text: &str, origin: &Origin) -> Node {
    Node { value: Value::Text(text.to_owned()), origin: origin.clone() }
}

/// `OLLAMA_HOST` as Ollama's own clients read it: scheme and port may be missing, a path may follow, and the
/// address that a server binds to for all networks means this machine.
fn ollama_base_url(host: &str) -> String {
    let (scheme, rest) = host.split_once("://").unwrap_or(("", host));
    let default_port = match scheme {
        "http" => "80",
        "https" => "443",
        _ => "11434",
    };
    let scheme = if scheme.is_empty() { "http" } else { scheme };
    let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (name, port) = match address.rsplit_once(':') {
        // Colons inside brackets, or several without, are an IPv6 address's own.
        Some((name, port)) if !port.contains(']') && (!name.contains(':') || name.ends_with(']')) => {
            (name, port)
        }
        _ => (address, default_port),
    };
    let name = match name.trim_matches(['[', ']']) {
        "" | "0.0.0.0" => "127.0.0.1".to_owned(),
        "::" => "[::1]".to_owned(),
        name if name.contains(':') => format!("[{name}]"),
        name => name.to_owned(),
    };
    let port = if port.is_empty() { default_port } else { port };
    match path {
        "" => format!("{scheme}://{name}:{port}/v1"),
        path => format!("{scheme}://{name}:{port}/{path}/v1"),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("127.0.0.1", "http://127.0.0.1:11434/v1")]
    #[case("0.0.0.0:11434", "http://127.0.0.1:11434/v1")]
    #[case(":8000", "http://127.0.0.1:8000/v1")]
    #[case("box.local:8000", "http://box.local:8000/v1")]
    #[case("http://box.local", "http://box.local:80/v1")]
    #[case("https://box.local", "https://box.local:443/v1")]
    #[case("https://box.local/ollama", "https://box.local:443/ollama/v1")]
    #[case("[::1]:8000", "http://[::1]:8000/v1")]
    #[case("::", "http://[::1]:11434/v1")]
    #[case("fd00::2", "http://[fd00::2]:11434/v1")]
    fn ollama_hosts(#[case] host: &str, #[case] url: &str) {
        assert_eq!(ollama_base_url(host), url);
    }
}
