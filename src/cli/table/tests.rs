use std::io::Write as _;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::answers::Awaiting;
use super::recipe::RecipeParts;
use super::rows::Rows;
use super::*;
use crate::domain::endpoint::Endpoint;

const NO_LIMITS: PartLimits = PartLimits { items: u64::MAX, bytes: u64::MAX };

struct Table {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn table(name: &str, content: impl AsRef<[u8]>) -> Table {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::File::create(&path).unwrap().write_all(content.as_ref()).unwrap();
    Table { _folder: folder, path }
}

fn recipe(prompt: &str, endpoint: Endpoint) -> Result<Recipe, String> {
    Recipe::new(RecipeParts {
        prompt: Template::parse(prompt).unwrap(),
        system: None,
        model: "small".to_owned(),
        params: Map::new(),
        endpoint,
    })
}

fn job(path: &Path, prompt: &str) -> Result<Job, TableError> {
    let recipe = recipe(prompt, Endpoint::ChatCompletions).unwrap();
    Ok(Job { input: path.to_owned(), layout: Layout::of(path)?, recipe: Some(recipe), limit: None })
}

/// The prompts that are sent, by `custom_id`.
fn prompts(path: &Path, prompt: &str) -> Result<Vec<(String, String)>, TableError> {
    let job = job(path, prompt)?;
    job.survey(&NO_LIMITS)?;
    let prompt = |line: Result<Vec<u8>, TableError>| {
        let line: Value = serde_json::from_slice(&line?).unwrap();
        let content = line["body"]["messages"][0]["content"].as_str().unwrap().to_owned();
        Ok((line["custom_id"].as_str().unwrap().to_owned(), content))
    };
    job.requests()?.map(prompt).collect()
}

fn texts(path: &Path, prompt: &str) -> Vec<String> {
    prompts(path, prompt).unwrap().into_iter().map(|(_, prompt)| prompt).collect()
}

fn refusal(path: &Path, prompt: &str) -> String {
    prompts(path, prompt).unwrap_err().to_string()
}

#[rstest]
#[case("Describe {{name}}.", &["name"], "Describe Ann.")]
#[case("{{ name }}{{name}}", &["name", "name"], "AnnAnn")]
#[case(r"\{{name}} is {{name}}", &["name"], "{{name}} is Ann")]
#[case("{name} {{missing}}!", &["missing"], "{name} !")]
fn templates(#[case] text: &str, #[case] columns: &[&str], #[case] filled: &str) {
    let template = Template::parse(text).unwrap();
    assert_eq!(template.columns().collect::<Vec<_>>(), columns);
    assert_eq!(template.fill(|name| (name == "name").then_some("Ann".into())), filled);
}

#[rstest]
#[case("a {{name", "closes")]
#[case("a {{ }}", "names no column")]
fn templates_that_are_none(#[case] text: &str, #[case] says: &str) {
    let refusal = Template::parse(text).unwrap_err();
    assert!(refusal.contains(says), "{refusal}");
}

#[rstest]
#[case("a.csv", "name,color\nAnn,red\n\"Bob, Jr\",\"a \"\"b\"\"\"\n", &["Ann red", "Bob, Jr a \"b\""])]
#[case("a.csv", "\u{feff}name;color\r\nAnn;red\r\n", &["Ann red"])]
#[case("a.tsv", "name\tcolor\nAnn\tred, or so\n", &["Ann red, or so"])]
#[case("a.csv", "sep=|\nname|color\nAnn|red\n", &["Ann red"])]
#[case("a.csv", "\"x;y;z\",name,color\n1,Ann,red\n", &["Ann red"])]
#[case("a.txt", "{\"name\": \"Ann\", \"color\": 7}\n\n{\"color\": null, \"name\": \"B\"}", &["Ann 7", "B "])]
#[case("a.jsonl", "\u{feff}{\"name\": \"Ann\", \"color\": {\"a\": [1]}}\n", &["Ann {\"a\": [1]}"])]
#[case("a.csv", "name,color\nAnn\n\n,\n\"two\nlines\",red\n", &["Ann ", "two\nlines red"])]
fn rows_of_all_kinds(#[case] name: &str, #[case] content: &str, #[case] expected: &[&str]) {
    let table = table(name, content);
    assert_eq!(texts(&table.path, "{{name}} {{color}}"), expected);
}

#[rstest]
#[case("", "there is nothing in it")]
#[case("name\n", "there are no rows")]
#[case("name\n\" \"\n", "all rows are empty")]
#[case("name,color\nAnn,red\nBob,red,big\n", "line 3: 3 cells, but the header has 2 columns")]
#[case("name,color\r\n\r\nAnn,red\r\n\"B\r\nC\",red\r\nBob,red,big", "line 6: 3 cells")]
#[case("name,color\rAnn,red\rBob,red,big\r", "line 3: 3 cells")]
#[case("sep=,\nname,color\nBob,red,big\n", "line 3: 3 cells")]
#[case("name,color\nAnn,\"red\nBob,red\n", "line 2: the quote")]
#[case("colour,nam\nAnn,red\n", "did you mean {{nam}}?). The columns are: colour, nam")]
#[case("name,name\nAnn,red\n", "several columns named \"name\"")]
#[case("PK\u{3}\u{4}", "save it as CSV")]
fn tables_that_are_none(#[case] content: &str, #[case] says: &str) {
    let refusal = refusal(&table("a.csv", content).path, "{{name}}");
    assert!(refusal.contains(says), "{refusal}");
}

#[test]
fn bytes_that_are_no_text_are_named_by_their_line() {
    let latin = table("a.csv", b"name\nAnn\nZo\xEB\n");
    assert!(refusal(&latin.path, "{{name}}").starts_with("line 3: not UTF-8"));
    let wide = table("a.csv", b"\xFF\xFEn\0");
    assert!(refusal(&wide.path, "{{name}}").contains("UTF-16"));
    for unmarked in [b"n\0a\0", b"\0n\0a"] {
        assert!(refusal(&table("a.csv", unmarked).path, "{{name}}").contains("UTF-16"));
    }
    let lines = table("a.jsonl", "{\"name\": \"Ann\"}\n[1]\n");
    assert!(refusal(&lines.path, "{{name}}").starts_with("line 2: not a JSON object"));
}

#[test]
fn a_quote_that_nobody_closes_takes_no_memory() {
    let mut content = b"name\n\"begins".to_vec();
    content.resize(40 << 20, b'x');
    assert!(refusal(&table("a.csv", content).path, "{{name}}").contains("never closed"));
}

#[test]
fn a_cell_too_long_is_not_taken_for_a_quote_alone() {
    let mut content = b"name\n\"".to_vec();
    content.resize(17 << 20, b'x');
    content.extend_from_slice(b"\"\nlock\n");
    let refusal = refusal(&table("a.csv", content).path, "{{name}}");
    assert!(refusal.starts_with("line 2: a row of more than 16 MiB"), "{refusal}");
}

#[test]
fn a_prompt_without_a_column_is_refused() {
    assert!(recipe("Describe it", Endpoint::ChatCompletions).unwrap_err().contains("names no column"));
}

#[rstest]
#[case(Endpoint::ChatCompletions, json!({"model": "small", "messages": [{"role": "user", "content": "Ann?"}]}))]
#[case(Endpoint::Messages, json!({"model": "small", "max_tokens": 1024, "messages": [{"role": "user", "content": "Ann?"}]}))]
#[case(Endpoint::Responses, json!({"model": "small", "input": "Ann?"}))]
#[case(Endpoint::Embeddings, json!({"model": "small", "input": "Ann?"}))]
#[case(Endpoint::Completions, json!({"model": "small", "prompt": "Ann?"}))]
fn bodies_of_endpoints(#[case] endpoint: Endpoint, #[case] body: Value) {
    let table = table("a.csv", "name\nAnn\n");
    let recipe = recipe("{{name}}?", endpoint).unwrap();
    let row = Rows::open(&table.path, &Layout::of(&table.path).unwrap()).unwrap().next().unwrap().unwrap();
    let line: Value = serde_json::from_slice(&recipe.request(&row, 1).unwrap().line).unwrap();
    assert_eq!(line, json!({"custom_id": "row-1", "method": "POST", "url": endpoint.path(), "body": body}));
}

#[test]
fn parts_hold_no_more_than_they_may() {
    let table = table("a.csv", "name\nA\nB\nC\nD\nE\n");
    let job = job(&table.path, "{{name}}").unwrap();
    let parts = |items, bytes| {
        let survey = job.survey(&PartLimits { items, bytes }).unwrap();
        (survey.parts.iter().map(|part| part.items).collect::<Vec<_>>(), survey.fingerprint)
    };
    let (all, one) = parts(9, u64::MAX);
    let (by_items, cut) = parts(2, u64::MAX);
    assert_eq!((all, by_items), (vec![5], vec![2, 2, 1]));
    assert_ne!(one, cut);
    let line = job.requests().unwrap().next().unwrap().unwrap().len() as u64;
    assert_eq!(parts(9, line * 3).0, [3, 2]);
    assert_eq!(parts(9, 1).0, [1, 1, 1, 1, 1]);
}

#[test]
fn a_run_is_its_input_and_what_is_asked() {
    let one = table("a.csv", "name\nAnn\n");
    let name = |path: &Path, prompt: &str| job(path, prompt).unwrap().survey(&NO_LIMITS).unwrap().fingerprint;
    let first = name(&one.path, "{{name}}?");
    assert_eq!(name(&one.path, "{{name}}?"), first);
    assert_ne!(name(&one.path, "{{name}}!"), first);
    assert_ne!(name(&table("a.csv", "name\nBob\n").path, "{{name}}?"), first);
}

fn answered(id: &str, text: &str) -> Vec<u8> {
    let body = json!({"choices": [{"message": {"content": text}}], "usage": {"prompt_tokens": 3, "completion_tokens": 4}});
    json!({"custom_id": id, "response": {"status_code": 200, "body": body}, "error": null}).to_string().into()
}

fn joined(table: &Table, format: Format, results: &[Vec<u8>]) -> (String, Tally) {
    let layout = Layout::of(&table.path).unwrap();
    let columns = Rows::columns_of(&table.path, &layout).unwrap();
    let awaiting = Awaiting::new(Rows::open(&table.path, &layout).unwrap(), columns, &layout);
    let mut written = Vec::new();
    let mut answers = Answers::new(&mut written, format, Some(awaiting)).unwrap();
    for result in results {
        answers.take(result).unwrap();
    }
    let tally = answers.finish(true).unwrap();
    (String::from_utf8(written).unwrap(), tally)
}

#[test]
fn answers_stand_beside_their_rows() {
    let table = table("a.csv", "\u{feff}name;status\nAnn;x\n;\n\"B;b\"\nCy;\n");
    let refused = json!({"custom_id": "row-3", "response": {"status_code": 400, "body": {"error": {"message": "no"}}}, "error": null});
    let expired = json!({"custom_id": "row-4", "response": null, "error": {"code": "batch_expired", "message": "late"}});
    let results = [answered("row-1", "a; \"b\""), refused.to_string().into(), expired.to_string().into()];
    let (csv, tally) = joined(&table, Format::Csv, &results);
    let expected = "\u{feff}name;status;answer;status_2;error;input_tokens;output_tokens\n\
                    Ann;x;\"a; \"\"b\"\"\";succeeded;;3;4\n\
                    ;;;skipped;not sent: nothing in the columns that the prompt names;;\n\
                    \"B;b\";;;failed;400: no;;\n\
                    Cy;;;expired;batch_expired: late;;\n";
    assert_eq!(csv, expected);
    assert_eq!((tally.succeeded, tally.failed, tally.skipped), (1, 2, 1));
    assert_eq!(tally.failures, ["line 4: 400: no", "line 5: batch_expired: late"]);
    let (lines, _) = joined(&table, Format::Jsonl, &results);
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    let expected = json!({"name": "Ann", "status": "x", "answer": "a; \"b\"", "status_2": "succeeded", "error": null, "input_tokens": 3, "output_tokens": 4});
    assert_eq!(first, expected);
}

#[test]
fn results_of_another_input_are_noticed() {
    let table = table("a.csv", "name\nAnn\n");
    let layout = Layout::of(&table.path).unwrap();
    let rows = Rows::open(&table.path, &layout).unwrap();
    let awaiting = Awaiting::new(rows, vec!["name".to_owned()], &layout);
    let mut answers = Answers::new(Vec::new(), Format::Csv, Some(awaiting)).unwrap();
    let refusal = answers.take(&answered("row-2", "b")).unwrap_err().to_string();
    assert!(refusal.contains("the input has changed"), "{refusal}");
}

#[rstest]
#[case(json!({"choices": [{"message": {"content": "a"}}]}), "a")]
#[case(json!({"choices": [{"message": {"content": null, "tool_calls": [1]}}]}), r#"{"content":null,"tool_calls":[1]}"#)]
#[case(json!({"choices": [{"text": "a"}]}), "a")]
#[case(json!({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}), "ab")]
#[case(json!({"output": [{"type": "reasoning"}, {"content": [{"type": "output_text", "text": "a"}]}]}), "a")]
#[case(json!({"data": [{"embedding": [0.5, 1]}]}), "[0.5,1]")]
#[case(json!({"odd": 1}), r#"{"odd":1}"#)]
fn texts_of_replies(#[case] body: Value, #[case] text: &str) {
    let line = json!({"custom_id": "a", "response": {"status_code": 200, "body": body}, "error": null});
    assert_eq!(Answer::read(line.to_string().as_bytes()).unwrap().text, text);
}

fn cells() -> impl Strategy<Value = Vec<Vec<String>>> {
    const CELL: &str = "[a-c,;\t|\"'\n\r é{}]{0,6}";
    (1..4_usize).prop_flat_map(|columns| prop::collection::vec(prop::collection::vec(CELL, columns), 1..6))
}

proptest! {
    /// Whatever cells hold and whichever delimiter is used: what is sent is what the cells say, and what is written
    /// reads back as the same cells with an answer each.
    #[test]
    fn cells_survive_the_way_there_and_back(rows in cells(), delimiter in prop::sample::select(b",;\t|".to_vec())) {
        let mut writer = csv::WriterBuilder::new().delimiter(delimiter).from_writer(Vec::new());
        // Two columns at least, so that there is a delimiter to find; the last one is never empty.
        let header = (0..rows[0].len()).map(|column| format!("c{column}")).chain(["last".to_owned()]);
        writer.write_record(header).unwrap();
        for row in &rows {
            writer.write_record(row.iter().map(String::as_str).chain(["z"])).unwrap();
        }
        let table = table("a.csv", writer.into_inner().unwrap());
        let sent = prompts(&table.path, "{{c0}}/{{last}}").unwrap();
        let expected: Vec<_> = (1..).zip(&rows)
            .map(|(number, row): (usize, _)| (format!("row-{number}"), format!("{}/z", row[0]))).collect();
        prop_assert_eq!(&sent, &expected);

        let results: Vec<_> = sent.iter().map(|(id, prompt)| answered(id, prompt)).collect();
        let (written, tally) = joined(&table, Format::Csv, &results);
        prop_assert_eq!(tally.succeeded, rows.len() as u64);
        let mut read = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(written.as_bytes());
        for (row, record) in rows.iter().zip(read.records()) {
            let record = record.unwrap();
            let cells: Vec<&str> = record.iter().collect();
            prop_assert_eq!(&cells[..row.len()], row);
            prop_assert_eq!(cells[row.len() + 1], format!("{}/z", row[0]));
        }
    }

    /// Nothing that a file may hold is a panic, and every row of what is accepted has at most the header's cells.
    #[test]
    fn any_bytes_are_a_table_or_an_error(content in prop::collection::vec(prop::sample::select(b"a,;\"\n\r {}:\xEF\xBB\xBF\xFF".to_vec()), 0..60)) {
        for name in ["a.csv", "a.jsonl"] {
            let table = table(name, &content);
            let _ = prompts(&table.path, "{{a}}");
        }
    }

    /// A text without places is itself.
    #[test]
    fn plain_texts_are_templates(text in "[a-z {}\\\\]{0,20}") {
        prop_assume!(!text.contains("{{"));
        prop_assert_eq!(Template::parse(&text).unwrap().fill(|_| None), text);
    }
}
