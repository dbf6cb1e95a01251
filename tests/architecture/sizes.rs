//! How big files, functions and traits may grow, and that each file says what it is.

use syn::visit::{self, Visit};
use syn::{Attribute, Block, ImplItemFn, ItemFn, ItemTrait, TraitItem, TraitItemFn};

use crate::source::{SourceFile, is_test_code};

const FILE_LINES: usize = 500;
const MEDIAN_FILE_LINES: usize = 140;
const FUNCTION_LINES: usize = 60;
const TRAIT_METHODS: usize = 8;

/// Files, functions and traits above their size.
pub(crate) fn violations(files: &[SourceFile]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let lines = file.code_lines();
        if lines > FILE_LINES {
            found.push(format!("{}: {lines} code lines, at most {FILE_LINES}", file.path));
        }
        let mut measure = Measure { file, found: &mut found };
        measure.visit_file(&file.syntax);
    }
    found
}

/// The median file, if it is too long.
pub(crate) fn median_violation(files: &[SourceFile]) -> Vec<String> {
    let mut lines: Vec<usize> =
        files.iter().filter(|file| !file.test_only).map(SourceFile::code_lines).collect();
    lines.sort_unstable();
    let median = lines.get(lines.len() / 2).copied().unwrap_or_default();
    let too_long = median > MEDIAN_FILE_LINES;
    too_long
        .then(|| format!("the median file has {median} code lines, at most {MEDIAN_FILE_LINES}"))
        .into_iter()
        .collect()
}

/// Files that do not open with a `//!` comment.
pub(crate) fn undocumented(files: &[SourceFile]) -> Vec<String> {
    let is_doc = |attribute: &Attribute| attribute.path().is_ident("doc");
    let production = files.iter().filter(|file| !file.test_only);
    let silent = production.filter(|file| !file.syntax.attrs.iter().any(is_doc));
    silent.map(|file| format!("{}: no `//!` comment", file.path)).collect()
}

struct Measure<'a> {
    file: &'a SourceFile,
    found: &'a mut Vec<String>,
}

impl Measure<'_> {
    fn function(&mut self, name: &syn::Ident, body: &Block) {
        let braces = body.brace_token.span;
        let inside = braces.open().start().line + 1..=braces.close().start().line.saturating_sub(1);
        let lines = self.file.code_lines_between(inside);
        if lines > FUNCTION_LINES {
            self.found.push(format!(
                "{}: fn {name} has {lines} code lines, at most {FUNCTION_LINES}",
                self.file.path
            ));
        }
    }
}

impl<'ast> Visit<'ast> for Measure<'_> {
    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.function(&function.sig.ident, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.function(&function.sig.ident, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        if let Some(body) = &function.default {
            self.function(&function.sig.ident, body);
        }
        visit::visit_trait_item_fn(self, function);
    }

    fn visit_item_trait(&mut self, item: &'ast ItemTrait) {
        let methods = item.items.iter().filter(|item| matches!(item, TraitItem::Fn(_))).count();
        if methods > TRAIT_METHODS && !is_test_code(&item.attrs) {
            let name = &item.ident;
            self.found.push(format!(
                "{}: trait {name} has {methods} methods, at most {TRAIT_METHODS}",
                self.file.path
            ));
        }
        visit::visit_item_trait(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Vec<SourceFile> {
        SourceFile::parse_all([("src/a.rs".to_owned(), text.to_owned())])
    }

    fn function_of(lines: usize) -> String {
        format!("fn f() {{\n{}}}\n", "    g();\n".repeat(lines))
    }

    #[test]
    fn long_functions_are_found() {
        assert_eq!(violations(&parse(&function_of(FUNCTION_LINES))), [""; 0]);
        assert_eq!(violations(&parse(&function_of(FUNCTION_LINES + 1))).len(), 1);
        let method = format!("impl A {{ {} }}", function_of(FUNCTION_LINES + 1));
        assert_eq!(violations(&parse(&method)).len(), 1);
    }

    #[test]
    fn long_files_are_found() {
        assert_eq!(violations(&parse(&"struct A;\n".repeat(FILE_LINES))), [""; 0]);
        assert_eq!(violations(&parse(&"struct A;\n".repeat(FILE_LINES + 1))).len(), 1);
    }

    #[test]
    fn a_long_median_is_found() {
        assert_eq!(median_violation(&parse(&"struct A;\n".repeat(MEDIAN_FILE_LINES))), [""; 0]);
        assert_eq!(median_violation(&parse(&"struct A;\n".repeat(MEDIAN_FILE_LINES + 1))).len(), 1);
    }

    #[test]
    fn wide_traits_are_found() {
        let methods: String = (0..=TRAIT_METHODS).map(|n| format!("fn m{n}();")).collect();
        assert_eq!(violations(&parse(&format!("trait T {{ {methods} }}"))).len(), 1);
    }

    #[test]
    fn files_without_a_comment_are_found() {
        assert_eq!(undocumented(&parse("//! What it is.\n")), [""; 0]);
        assert_eq!(undocumented(&parse("// Not a doc.\nstruct A;")).len(), 1);
    }
}
