//! Prompts with places for a row's cells: `Describe {{name}} in one line`.

use std::borrow::Cow;

/// A text with places for cells. `\{{` stands for two braces that are meant as such.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Column(String),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// A place that does not end, or that names nothing: what to say of it.
    pub(in crate::cli) fn parse(text: &str) -> Result<Self, String> {
        let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find("{{") {
            let before = &rest[..at];
            if let Some(before) = before.strip_suffix('\\') {
                plain.push_str(before);
                plain.push_str("{{");
                rest = &rest[at + 2..];
                continue;
            }
            plain.push_str(before);
            let inside = &rest[at + 2..];
            let end = inside.find("}}").ok_or_else(|| {
                format!("\"{}\" opens a place for a column that no }}}} closes", shown(&rest[at..]))
            })?;
            let name = inside[..end].trim();
            if name.is_empty() {
                return Err("{{}} names no column: write {{name}}".to_owned());
            }
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Column(name.to_owned()));
            rest = &inside[end + 2..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self { pieces })
    }

    /// The columns that it names, in the order of their places.
    pub(in crate::cli) fn columns(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Column(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// The text with a row's cells in their places; nothing where the row has no such cell.
    pub(super) fn fill<'a>(&'a self, cell: impl Fn(&str) -> Option<Cow<'a, str>>) -> String {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Column(name) => text.push_str(&cell(name).unwrap_or_default()),
            }
        }
        text
    }
}

/// The start of a text, for a message.
fn shown(text: &str) -> String {
    const MOST: usize = 40;
    let mut start: String = text.chars().take(MOST).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    start
}
