use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::domain::endpoint::Endpoint;
use crate::domain::file::{FileSummary, KeyBlock};
use crate::domain::segment::{EntryKind, OpenSegment, Segment};

const LIMITS: IngestLimits = IngestLimits { max_line: 4_096, max_items: 100_000, max_bytes: 1 << 30 };

/// A file as a store would hold it.
#[derive(Debug, Default)]
struct Stored {
    segments: HashMap<u32, Segment>,
    blocks: HashMap<(u32, u32), KeyBlock>,
    duplicates: HashSet<u32>,
    summary: FileSummary,
    chunks: u32,
}

impl Stored {
    fn keep(&mut self, closed: Vec<ClosedSegment>, keys: Vec<KeyBlock>) {
        self.segments.extend(closed.into_iter().map(|closed| (closed.no, closed.compress())));
        self.blocks.extend(keys.into_iter().map(|block| ((block.chunk, block.no), block)));
    }

    fn content(&self) -> Vec<u8> {
        let (mut merge, mut content) = (ContentMerge::new(), Vec::new());
        loop {
            match merge.step() {
                Step::Heads { from_no } => {
                    let mut heads: Vec<_> = self
                        .segments
                        .values()
                        .map(|segment| segment.head.clone())
                        .filter(|head| head.no >= from_no)
                        .collect();
                    heads.sort_by_key(|head| head.no);
                    heads.truncate(3);
                    merge.add_heads(heads);
                }
                Step::Segment(no) => merge.add_segment(no, self.segments[&no].open().unwrap()),
                Step::Bytes(bytes) => content.extend_from_slice(&bytes),
                Step::End => return content,
            }
        }
    }

    fn items(&self) -> Vec<(u32, Option<String>, EntryKind)> {
        let mut items: Vec<_> = self
            .segments
            .values()
            .map(|segment| segment.open().unwrap())
            .flat_map(|open| {
                let item = |entry: &crate::domain::segment::Entry| {
                    (entry.line, open.custom_id(entry).map(str::to_owned), entry.kind)
                };
                open.items().map(item).collect::<Vec<_>>()
            })
            .collect();
        items.sort_by_key(|(line, ..)| *line);
        items
    }
}

impl StoredFile for Stored {
    type Error = std::convert::Infallible;

    fn key_block(&mut self, chunk: u32, no: u32) -> Result<Option<KeyBlock>, Self::Error> {
        Ok(self.blocks.get(&(chunk, no)).cloned())
    }

    fn segment(&mut self, no: u32) -> Result<OpenSegment, Self::Error> {
        Ok(self.segments[&no].open().unwrap())
    }

    fn record_duplicates(&mut self, _: u32, lines: Vec<u32>) -> Result<(), Self::Error> {
        self.duplicates.extend(lines);
        Ok(())
    }
}

fn stored(bytes: &[u8], cuts: &[usize]) -> Result<Stored, Refusal> {
    let (mut ingest, mut stored) = (Ingest::new(LIMITS, 7), Stored::default());
    let mut rest = bytes;
    for cut in cuts {
        let (chunk, tail) = rest.split_at((*cut).min(rest.len()));
        ingest.push(chunk)?;
        stored.keep(ingest.take_closed(), ingest.take_keys());
        rest = tail;
    }
    ingest.push(rest)?;
    let Finished { closed, keys, chunks, summary } = ingest.finish()?;
    stored.keep(closed, keys);
    (stored.summary, stored.chunks) = (summary, chunks);
    let mut summary = stored.summary.clone();
    find_duplicates(&mut stored, chunks, &mut summary).unwrap();
    stored.summary = summary;
    Ok(stored)
}

fn line(id: &str, model: &str, text: &str) -> String {
    let body = serde_json::json!({"model": model, "messages": [{"role": "user", "content": text}]});
    serde_json::json!({"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body})
        .to_string()
}

fn any_line() -> impl Strategy<Value = Vec<u8>> {
    let end = prop_oneof![Just("\n"), Just("\r\n")];
    let good = ("[a-f]{1,2}", "[xyz]", "[ -~é]{0,40}").prop_map(|(id, model, text)| line(&id, &model, &text));
    let other = prop_oneof![
        Just(String::new()),
        Just("   ".to_owned()),
        "[ -~]{1,30}",
        Just("{\"custom_id\":\"q\"}".to_owned()),
        (1..9_000_usize).prop_map(|length| "y".repeat(length)),
    ];
    let text = prop_oneof![6 => good, 1 => other];
    (text, end).prop_map(|(text, end)| format!("{text}{end}").into_bytes())
}

fn file() -> impl Strategy<Value = Vec<u8>> {
    let first = line("first", "x", "one");
    (any::<bool>(), any::<bool>(), proptest::collection::vec(any_line(), 0..200)).prop_map(
        move |(bom, ended, lines)| {
            let mut bytes = if bom { b"\xef\xbb\xbf".to_vec() } else { Vec::new() };
            bytes.extend_from_slice(format!("{first}\n").as_bytes());
            bytes.extend(lines.concat());
            if !ended {
                bytes.extend_from_slice(line("last", "x", "no line feed").as_bytes());
            }
            bytes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_file_comes_back_byte_for_byte_however_it_arrives(
        bytes in file(),
        cuts in proptest::collection::vec(1..5_000_usize, 0..20),
    ) {
        let (whole, cut) = (stored(&bytes, &[]).unwrap(), stored(&bytes, &cuts).unwrap());
        prop_assert!(whole.content() == bytes);
        prop_assert!(cut.content() == bytes);
        prop_assert_eq!(&whole.summary, &cut.summary);
        prop_assert_eq!(whole.items(), cut.items());
        prop_assert_eq!(whole.summary.items as usize, whole.items().len());
    }

    #[test]
    fn duplicates_are_those_a_set_would_find(bytes in file()) {
        let stored = stored(&bytes, &[]).unwrap();
        let mut seen = HashSet::new();
        let runnable = stored.items().into_iter().filter(|(.., kind)| *kind == EntryKind::Item);
        let expected: HashSet<u32> =
            runnable.filter(|(_, id, _)| !seen.insert(id.clone())).map(|(line, ..)| line).collect();
        prop_assert_eq!(&stored.duplicates, &expected);
        let faulty = stored.items().iter().filter(|(.., kind)| *kind == EntryKind::Faulty).count();
        prop_assert_eq!(stored.summary.faulty as usize, expected.len() + faulty);
    }

    #[test]
    fn any_bytes_are_taken_or_refused(
        bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b'"'), Just(b'{')], 0..600),
    ) {
        if let Ok(stored) = stored(&bytes, &[17, 40]) {
            prop_assert!(stored.content() == bytes);
        }
    }

    #[test]
    fn damaged_frames_are_noticed_or_open(flip in any::<(usize, u8)>()) {
        let mut segment = stored(line("a", "x", "text").as_bytes(), &[]).unwrap().segments.remove(&0).unwrap();
        let mut data = segment.data.to_vec();
        let place = flip.0 % data.len();
        data[place] ^= flip.1;
        segment.data = data.into();
        if let Ok(open) = segment.open() {
            open.entries().iter().for_each(|entry| drop((open.raw(entry), open.body(entry), open.fault(entry).len())));
        }
    }
}

fn problems(text: &str) -> Vec<(Option<u32>, String, Option<String>)> {
    let first = format!("{}\n", line("ok", "x", "fine"));
    let stored = stored(format!("{first}{text}").as_bytes(), &[]).unwrap();
    stored.summary.problems.into_iter().map(|problem| (problem.line, problem.code, problem.param)).collect()
}

#[test]
fn each_fault_has_its_line_code_and_field() {
    let good = line("a", "x", "t");
    let cases = [
        ("nonsense".to_owned(), "invalid_json_line", None),
        ("[1]".to_owned(), "invalid_json_line", None),
        (good.replace("\"custom_id\":\"a\",", ""), "missing_required_parameter", Some("custom_id")),
        (good.replace("\"custom_id\":\"a\"", "\"custom_id\":7"), "invalid_type", Some("custom_id")),
        (good.replace("\"custom_id\":\"a\"", "\"custom_id\":\"\""), "invalid_value", Some("custom_id")),
        (
            good.replace("\"custom_id\":\"a\"", "\"custom_id\":\"a\\u0007\""),
            "invalid_value",
            Some("custom_id"),
        ),
        (good.replace("\"a\"", &format!("\"{}\"", "a".repeat(513))), "invalid_value", Some("custom_id")),
        (good.replace("POST", "GET"), "invalid_method", Some("method")),
        (good.replace("/v1/chat/completions", "/v1/nothing"), "invalid_url", Some("url")),
        (good.replace("\"model\":\"x\"", "\"model\":7"), "invalid_type", Some("body.model")),
        (
            good.replace("\"model\"", "\"stream\":true,\"model\""),
            "streaming_unsupported",
            Some("body.stream"),
        ),
        (
            good.replace("\"model\"", "\"background\":true,\"model\""),
            "invalid_request",
            Some("body.background"),
        ),
        (good.replace("\"t\"", &format!("{}1{}", "[".repeat(64), "]".repeat(64))), "invalid_json_line", None),
        (good.replace("\"a\"", "\"ok\""), "duplicate_custom_id", Some("custom_id")),
        (format!("{{\"x\":\"{}\"}}", "z".repeat(5_000)), "invalid_request", None),
    ];
    for (text, code, param) in cases {
        let expected = vec![(Some(2), code.to_owned(), param.map(str::to_owned))];
        assert_eq!(problems(&text), expected, "{}", &text[..text.len().min(120)]);
    }
    assert_eq!(problems(&good), vec![]);
    assert_eq!(
        problems(&good.replace("\"model\":\"x\",", "")),
        vec![],
        "a missing model is checked at create"
    );
}

#[test]
fn files_are_refused_as_a_whole_for_what_they_are() {
    let refusal = |bytes: &[u8]| stored(bytes, &[]).unwrap_err();
    assert_eq!(refusal(b""), Refusal::Empty);
    assert_eq!(refusal(b"\n \r\n"), Refusal::OnlyBlankLines);
    assert!(matches!(refusal(b"%PDF-1.7\n"), Refusal::FirstLineNotJson { .. }));
    let mut ingest = Ingest::new(IngestLimits { max_items: 2, ..LIMITS }, 1);
    let three = format!("{0}\n{0}\n{0}\n", line("a", "x", "t"));
    assert_eq!(ingest.push(three.as_bytes()), Err(Refusal::TooManyItems { max: 2 }));
    let mut ingest = Ingest::new(IngestLimits { max_bytes: 5, ..LIMITS }, 1);
    assert_eq!(ingest.push(b"123456"), Err(Refusal::TooLarge { max: 5 }));
}

#[test]
fn requests_are_completed_from_the_endpoint() {
    let raw = |json: &str| serde_json::value::RawValue::from_string(json.to_owned()).unwrap();
    let requests = raw(r#"[{"custom_id":"a","model":"x","n":1.50}, {"custom_id":"b","body":{"model":"y"}}]"#);
    let mut ingest = Ingest::for_endpoint(LIMITS, 1, Some(Endpoint::ChatCompletions));
    each_request(&requests, |line| ingest.push(line)).unwrap();
    let finished = ingest.finish().unwrap();
    assert_eq!(finished.summary.problems, vec![]);
    let mut bodies: Vec<String> = Vec::new();
    for closed in finished.closed {
        let open = closed.compress().open().unwrap();
        bodies.extend(open.items().map(|entry| String::from_utf8(open.body(entry).to_vec()).unwrap()));
    }
    assert_eq!(bodies, [r#"{"model":"x","n":1.50}"#, r#"{"model":"y"}"#]);
    assert_eq!(each_request(&raw("{}"), |_| Ok::<(), ()>(())), Err(EachRequestError::NotAnArray));
}

#[test]
fn defaults_go_under_what_the_body_says() {
    let defaults =
        serde_json::value::RawValue::from_string(r#"{"model":"d","temperature":0}"#.to_owned()).unwrap();
    let laid = |body: &str| String::from_utf8(lay_defaults(&defaults, body.as_bytes())).unwrap();
    assert_eq!(laid("{}"), r#"{"model":"d","temperature":0}"#);
    assert_eq!(laid(r#"{ "temperature":1 }"#), r#"{ "temperature":1 ,"model":"d"}"#);
}

#[test]
fn a_batch_finds_the_lines_that_do_not_fit_it() {
    let other = line("b", "y", "t").replace("/v1/chat/completions", "/v1/responses");
    let stored = stored(format!("{}\n{other}\n", line("a", "x", "t")).as_bytes(), &[]).unwrap();
    let lanes = |model: &str| model != "x";
    let check =
        LineCheck { endpoint: Some(Endpoint::ChatCompletions), defaults_model: None, has_lane: &lanes };
    assert_eq!(check.suspects(&stored.summary), ["x", "y"]);
    let mut found: Vec<_> = stored
        .segments
        .values()
        .filter(|segment| check.concerns(&segment.head))
        .flat_map(|segment| check.scan(&segment.head.model, &segment.open().unwrap()))
        .map(|problem| (problem.line, problem.code))
        .collect();
    found.sort();
    assert_eq!(found, [(Some(1), "model_not_found".to_owned()), (Some(2), "invalid_url".to_owned())]);
}
