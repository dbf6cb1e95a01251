//! The reference of all keys, made from their definitions.

use std::fmt;

use serde::{Serialize, Serializer};

use super::changes::is_live;
use super::description::{KeyDescription, Notation};
use super::limits::LimitKeys;
use super::provider_settings::{LaneKeys, ProviderKeys, lane_sections, provider_sections};
use super::reader::join;
use super::sections::{Auth, Batches, Interactive, Log, Retention, Retry, Server, StoreKeys, Timeouts};

const VALUES: &str = "\
A list of one may be written as its value alone. A key that holds at once takes its new value while the service runs;
one that holds with the next start keeps the value that it had when the service started.";

const LIMITS: &str = "\
The same set holds over the whole service (`limits`), per provider (`providers.NAME.limits`) and per lane; limits of
apps are set with `PUT /admin/v1/apps/{name}`. A call leaves when every level lets it.

Where a limit counts tokens, on the provider, the lane or the app, a client's stream of chat completions or completions
that has no `stream_options` is sent with `\"stream_options\":{\"include_usage\":true}`: providers of kind `openai` and
`azure` tell the tokens of a stream only then. The client does not see the chunk that this adds.";

const PROVIDERS: &str =
    "`NAME` is a lower-case letter followed by lower-case letters, digits and underscores.";

/// Every key there is, in the order in which a reader meets them.
#[derive(Debug)]
pub struct Reference {
    sections: Vec<Section>,
}

/// Keys that belong together.
#[derive(Debug)]
struct Section {
    heading: &'static str,
    /// What is said before the table, in Markdown.
    lead: &'static str,
    keys: Vec<DocumentedKey>,
}

/// A key as the reference shows it.
#[derive(Clone, Debug, Serialize)]
pub struct DocumentedKey {
    /// The key with its section; `NAME` stands for a provider's name, `lanes` for each of its lanes.
    pub key: String,
    /// What can be given for it, in Markdown.
    pub kind: String,
    /// What holds if nothing is given, as the file would hold it; `None`: nothing.
    pub default: Option<String>,
    /// Since when a new value holds: `at once` or `next start`.
    pub holds: &'static str,
    /// What it is for, in Markdown.
    pub meaning: &'static str,
    #[serde(skip)]
    notation: Option<Notation>,
}

impl Reference {
    /// The reference of this version.
    pub fn of_all_keys() -> Self {
        let service = vec![
            ("server", Server::describe()),
            ("auth", Auth::describe()),
            ("store", StoreKeys::describe()),
            ("log", Log::describe()),
        ];
        let calls = vec![
            ("timeouts", Timeouts::describe()),
            ("retry", Retry::describe()),
            ("interactive", Interactive::describe()),
        ];
        let batches = vec![("batches", Batches::describe()), ("retention", Retention::describe())];
        let providers = vec![
            ("providers.NAME", ProviderKeys::describe()),
            ("providers.NAME", provider_sections()),
            ("providers.NAME.lanes", LaneKeys::describe()),
            ("providers.NAME.lanes", lane_sections()),
        ];
        let sections = vec![
            Section::of("The service", "", service),
            Section::of("Limits", LIMITS, vec![("limits", LimitKeys::describe())]),
            Section::of("Calls", "", calls),
            Section::of("Batches and files", "", batches),
            Section::of("Providers", PROVIDERS, providers),
        ];
        Self { sections }
    }

    /// The keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &DocumentedKey> {
        self.sections.iter().flat_map(|section| &section.keys)
    }

    /// The notations of all keys, each once, in the order in which they are met.
    pub(super) fn notations(&self) -> Vec<Notation> {
        let mut notations = Vec::new();
        for notation in self.keys().filter_map(|key| key.notation) {
            if !notations.contains(&notation) {
                notations.push(notation);
            }
        }
        notations
    }
}

impl Section {
    fn of(
        heading: &'static str,
        lead: &'static str,
        described: Vec<(&'static str, Vec<KeyDescription>)>,
    ) -> Self {
        let documented = |(section, keys): (&str, Vec<KeyDescription>)| {
            keys.into_iter().map(|key| DocumentedKey::new(section, key)).collect::<Vec<_>>()
        };
        Self { heading, lead, keys: described.into_iter().flat_map(documented).collect() }
    }
}

impl DocumentedKey {
    fn new(section: &str, described: KeyDescription) -> Self {
        let KeyDescription { name, kind, default, meaning } = described;
        let key = join(section, name);
        let holds = if is_live(&key) { "at once" } else { "next start" };
        Self {
            key,
            kind: kind.to_string(),
            default,
            holds,
            meaning: meaning.trim(),
            notation: kind.notation(),
        }
    }
}

/// A list of the keys.
impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.keys())
    }
}

/// In Markdown.
impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let notations: Vec<_> = self.notations().iter().map(notation_cells).collect();
        write_section(formatter, "Values", VALUES)?;
        write_table(formatter, ["kind", "how it is written"], notations)?;
        for Section { heading, lead, keys } in &self.sections {
            writeln!(formatter)?;
            write_section(formatter, heading, lead)?;
            let head = ["key", "kind", "default", "holds", "meaning"];
            write_table(formatter, head, keys.iter().map(key_cells))?;
        }
        Ok(())
    }
}

fn notation_cells(notation: &Notation) -> [String; 2] {
    let examples: Vec<_> = notation.examples.iter().map(|example| code(example)).collect();
    [notation.name.to_owned(), format!("{}: {}", examples.join(", "), notation.note)]
}

fn key_cells(key: &DocumentedKey) -> [String; 5] {
    let default = key.default.as_deref().map_or_else(|| "—".to_owned(), code);
    [code(&key.key), key.kind.clone(), default, key.holds.to_owned(), key.meaning.to_owned()]
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

fn write_section(formatter: &mut fmt::Formatter<'_>, heading: &str, lead: &str) -> fmt::Result {
    writeln!(formatter, "## {heading}\n")?;
    if lead.is_empty() { Ok(()) } else { writeln!(formatter, "{lead}\n") }
}

fn write_table<const COLUMNS: usize>(
    formatter: &mut fmt::Formatter<'_>,
    head: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) -> fmt::Result {
    writeln!(formatter, "| {} |\n|{}", head.join(" | "), "---|".repeat(COLUMNS))?;
    for row in rows {
        // A bar would end the cell.
        writeln!(formatter, "| {} |", row.map(|cell| cell.replace('|', "\\|")).join(" | "))?;
    }
    Ok(())
}
