//! A Rust file as text and as syntax, and which parts of it are tests.

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

use syn::spanned::Spanned;
use syn::{Attribute, Item};

/// One parsed file.
pub(crate) struct SourceFile {
    /// Relative to the crate's root, such as `src/gate/level.rs`.
    pub(crate) path: String,
    /// Its module path below the crate, such as `["gate", "level"]`; `["main"]` for the binary.
    pub(crate) module: Vec<String>,
    /// Its syntax.
    pub(crate) syntax: syn::File,
    /// Whether all of it is compiled for tests only.
    pub(crate) test_only: bool,
    text: String,
}

impl SourceFile {
    /// Every `.rs` file below `folder`, in the order of their paths.
    pub(crate) fn load_all(root: &Path, folder: &str) -> Vec<Self> {
        let mut paths = Vec::new();
        collect(&root.join(folder), "rs", &mut paths);
        let sources = paths.iter().map(|path| {
            let relative = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            (relative, fs::read_to_string(path).unwrap())
        });
        Self::parse_all(sources)
    }

    /// Parses files given as (path, text).
    pub(crate) fn parse_all(sources: impl IntoIterator<Item = (String, String)>) -> Vec<Self> {
        let mut files: Vec<Self> = sources.into_iter().map(|(path, text)| Self::parse(path, text)).collect();
        let tests: BTreeSet<Vec<String>> = files.iter().flat_map(Self::test_modules).collect();
        for file in &mut files {
            let in_tests = (1..=file.module.len()).any(|depth| tests.contains(&file.module[..depth]));
            file.test_only |= in_tests;
        }
        files
    }

    fn parse(path: String, text: String) -> Self {
        let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
        let inside = path.strip_prefix("src/").unwrap_or(&path).trim_end_matches(".rs");
        let mut module: Vec<String> = inside.split('/').map(str::to_owned).collect();
        if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
            module.pop();
        }
        let test_only = !path.starts_with("src/");
        Self { path, module, syntax, test_only, text }
    }

    /// Modules in files of their own that this one declares under `#[cfg(test)]`.
    fn test_modules(&self) -> impl Iterator<Item = Vec<String>> {
        self.syntax.items.iter().filter_map(|item| match item {
            Item::Mod(module) if module.content.is_none() && is_test_code(&module.attrs) => {
                Some([&self.module[..], &[module.ident.to_string()]].concat())
            }
            _ => None,
        })
    }

    /// Lines that are neither blank, nor comment, nor a `#[cfg(test)]` module of the file.
    pub(crate) fn code_lines(&self) -> usize {
        let tests: Vec<RangeInclusive<usize>> = self.syntax.items.iter().filter_map(test_lines).collect();
        let all = 1..=self.text.lines().count();
        self.code_lines_in(all, |line| tests.iter().any(|test| test.contains(&line)))
    }

    /// The same within some lines, counted from 1.
    pub(crate) fn code_lines_between(&self, lines: RangeInclusive<usize>) -> usize {
        self.code_lines_in(lines, |_| false)
    }

    fn code_lines_in(&self, lines: RangeInclusive<usize>, skip: impl Fn(usize) -> bool) -> usize {
        let numbered = self.text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        numbered
            .filter(|(number, line)| {
                lines.contains(number) && !line.is_empty() && !line.starts_with("//") && !skip(*number)
            })
            .count()
    }
}

/// Whether attributes make an item part of the tests only.
pub(crate) fn is_test_code(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let cfg_test = attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"));
        cfg_test || attribute.path().is_ident("test")
    })
}

fn test_lines(item: &Item) -> Option<RangeInclusive<usize>> {
    match item {
        Item::Mod(module) if is_test_code(&module.attrs) => {
            Some(module.span().start().line..=module.span().end().line)
        }
        _ => None,
    }
}

/// Files below `folder` whose name ends in `.extension`, sorted.
pub(crate) fn collect(folder: &Path, extension: &str, found: &mut Vec<std::path::PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut entries: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, extension, found);
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
}

#[test]
fn code_lines_leave_out_comments_blanks_and_tests() {
    let text =
        "//! Doc.\n\nfn a() {\n    // Why.\n    b();\n}\n\n#[cfg(test)]\nmod tests {\n    fn c() {}\n}\n";
    let files = SourceFile::parse_all([("src/a.rs".to_owned(), text.to_owned())]);
    assert_eq!(files[0].code_lines(), 3);
}

#[test]
fn a_test_module_in_a_file_of_its_own_is_known_as_one() {
    let sources = [("src/a/mod.rs", "#[cfg(test)]\nmod tests;"), ("src/a/tests.rs", ""), ("src/a/b.rs", "")];
    let files = SourceFile::parse_all(sources.map(|(path, text)| (path.to_owned(), text.to_owned())));
    let test_only: Vec<bool> = files.iter().map(|file| file.test_only).collect();
    assert_eq!(test_only, [false, true, false]);
}
