//! `run`: from a table to a table of answers.

use serde_json::Value;

use super::{Shell, ended, interrupt, says};
use crate::harness::{eventually, upstream};

const ASK: [&str; 6] =
    ["--prompt", "[[id={{id}}]]Describe {{name}}", "--model", "demo-small", "-o", "answers.csv"];

fn run<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["run", "products.csv"], &ASK[..], more].concat()
}

fn table(rows: usize) -> String {
    let rows: String = (0..rows).map(|row| format!("item-{row},a weir\n")).collect();
    format!("id,name\n{rows}")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_of_the_users_own_is_replaced_on_the_way() {
    let upstream = upstream("").await;
    let shell = Shell::new(&[("OPENAI_BASE_URL", &upstream.base_url())]);
    shell.write("products.csv", &table(2));
    shell.write("answers.csv.part", "my notes");
    let ended = shell.run(&run(&[])).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(shell.read("answers.csv").lines().count(), 3);
    assert_eq!(shell.read("answers.csv.part"), "my notes");
    assert!(!shell.exists("answers.csv.part2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_becomes_a_table_with_answers_once() {
    let upstream = upstream("").await;
    let shell = Shell::new(&[("OPENAI_BASE_URL", &upstream.base_url())]);
    shell.write("products.csv", "\u{feff}id;name\r\na;\"lock; \"\"old\"\"\"\r\n;\r\nb;weir\r\nc;[[400]]\r\n");
    let first = shell.run(&run(&[])).await;
    assert_eq!(first.code, Some(1), "{first:?}");
    let answers = shell.read("answers.csv");
    let lines: Vec<&str> = answers.lines().collect();
    assert_eq!(lines[0], "\u{feff}id;name;answer;status;error;input_tokens;output_tokens");
    assert!(lines[1].starts_with("a;\"lock; \"\"old\"\"\";Answer to a.;succeeded;;"), "{answers}");
    assert!(lines[2].starts_with(";;;skipped;"), "{answers}");
    assert!(lines[3].starts_with("b;weir;Answer to b.;succeeded;;"), "{answers}");
    assert!(lines[4].starts_with("c;[[400]];;failed;400: "), "{answers}");
    assert!(first.err.contains("2 succeeded, 1 did not, 1 not sent"), "{}", first.err);
    assert!(first.err.contains("line 5: 400: "), "{}", first.err);
    assert!(!shell.exists("answers.csv.part"));
    let calls = upstream.log().arrived;

    let refused = shell.run(&run(&[])).await;
    assert_eq!((refused.code, refused.out.as_str()), (Some(6), ""), "{refused:?}");
    assert!(refused.err.contains("answers.csv exists: --force replaces it"), "{}", refused.err);

    let replaced = shell.run(&run(&["--force", "--json"])).await;
    assert_eq!(replaced.code, Some(1), "{replaced:?}");
    let summary: Value = serde_json::from_str(&replaced.out).unwrap();
    assert_eq!(
        (&summary["succeeded"], &summary["failed"], &summary["not_sent"]),
        (&2.into(), &1.into(), &1.into())
    );
    assert_eq!(shell.read("answers.csv"), answers);
    assert_eq!(upstream.log().arrived, calls, "what has been answered is not asked again");

    let anew = shell.run(&run(&["--force", "--again", "--format", "jsonl", "--limit", "1"])).await;
    assert_eq!(anew.code, Some(0), "{anew:?}");
    assert_eq!(upstream.log().arrived, calls + 1);
    let only: Value = serde_json::from_str(&shell.read("answers.csv")).unwrap();
    assert_eq!((&only["id"], &only["answer"]), (&"a".into(), &"Answer to a.".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_interrupted_goes_on() {
    const ROWS: usize = 40;
    let upstream = upstream(r#"latency = "20ms""#).await;
    let limits = ("SLUICEGATE__LIMITS__MAX_CONCURRENT", "2");
    let shell = Shell::new(&[("OPENAI_BASE_URL", &upstream.base_url()), limits]);
    shell.write("products.csv", &table(ROWS));
    let running = shell.spawn(&run(&[]));
    eventually("some calls", || upstream.log().arrived >= 6).await;
    interrupt(&running);
    let stopped = ended(running).await;
    assert_eq!(stopped.code, Some(130), "{stopped:?}");
    assert!(stopped.err.contains("the same command goes on from here"), "{}", stopped.err);
    assert!(!shell.exists("answers.csv"));
    let arrived = upstream.log().arrived;
    assert!(arrived < ROWS as u64, "it was interrupted in the middle");

    let whole = shell.run(&run(&[])).await;
    assert_eq!(whole.code, Some(0), "{whole:?}");
    assert!(whole.err.contains("going on with batch_"), "{}", whole.err);
    let log = upstream.log();
    assert_eq!((log.ids, log.arrived), (ROWS, ROWS as u64), "every row was asked about once");
    assert_eq!(shell.read("answers.csv").lines().count(), ROWS + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_interrupt_ends_at_once() {
    let upstream = upstream("").await;
    // Far longer than any test waits: it is the second one that ends it.
    let drain = ("SLUICEGATE__SERVER__DRAIN_TIMEOUT", "1h");
    let shell = Shell::new(&[("OPENAI_BASE_URL", &upstream.base_url()), drain]);
    shell.write("products.csv", "id,name\na,[[hang]]\n");
    let mut running = shell.spawn(&run(&[]));
    eventually("a call", || upstream.log().arrived == 1).await;
    interrupt(&running);
    says(&mut running, "Ctrl-C again ends at once").await;
    interrupt(&running);
    says(&mut running, "ended at once").await;
    assert_eq!(ended(running).await.code, Some(130));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_input_is_several_batches_and_one_output() {
    let upstream = upstream("").await;
    let parts = ("SLUICEGATE__BATCHES__MAX_ITEMS", "3");
    let shell = Shell::new(&[("OPENAI_BASE_URL", &upstream.base_url()), parts]);
    shell.write("products.csv", &table(8));
    let done = shell.run(&run(&[])).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.err.contains("8 requests are sent as 3 batches"), "{}", done.err);
    let answers = shell.read("answers.csv");
    let names: Vec<&str> = answers.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(names, (0..8).map(|row| format!("item-{row}")).collect::<Vec<_>>());
    assert!(answers.lines().skip(1).all(|line| line.contains(",succeeded,")), "{answers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_what_would_be_sent_and_how_long_it_takes() {
    let upstream = upstream("").await;
    let limits = ("SLUICEGATE__LIMITS__REQUESTS", "60/min");
    let shell = Shell::new(&[("OPENAI_BASE_URL", &upstream.base_url()), limits]);
    shell.write("products.csv", &table(120));
    let dry = ["--dry-run", "--param", "temperature=0", "--param", "max_tokens=10", "--system", "Be brief."];
    let told = shell.prints(&run(&dry)).await;
    assert!(told.contains("requests  120 (120 demo-small)"), "{told}");
    assert!(told.contains("at most 1,200 tokens"), "{told}");
    assert!(told.contains("about 2 min, by requests 60/min of the service"), "{told}");
    let json = shell.prints(&run(&[&dry[..], &["--json"]].concat())).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["requests"], &json["seconds"]), (&120.into(), &120.0.into()));
    let body = &json["first_request"]["body"];
    assert_eq!((&body["temperature"], &body["messages"][0]["content"]), (&0.into(), &"Be brief.".into()));
    assert_eq!(upstream.log().arrived, 0);
    assert!(!shell.exists("products.csv.sluicegate"), "it leaves nothing behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_requests_runs_as_it_is() {
    let upstream = upstream("").await;
    let shell = Shell::new(&[("OPENAI_BASE_URL", &upstream.base_url())]);
    shell.write("in.jsonl", &crate::harness::jsonl(&crate::harness::chats(3, "")));
    let out = shell.prints(&["run", "in.jsonl"]).await;
    let ids: Vec<String> = out.lines().map(|line| crate::harness::id_of(&custom(line))).collect();
    assert_eq!(ids, ["item-0", "item-1", "item-2"]);
    let csv = shell.prints(&["run", "in.jsonl", "--format", "csv"]).await;
    assert!(
        csv.starts_with(
            "custom_id,answer,status,error,input_tokens,output_tokens\nitem-0,Answer to item-0.,succeeded,"
        ),
        "{csv}"
    );
    assert_eq!(upstream.log().arrived, 3);
}

/// A result with its `custom_id` as an id.
fn custom(line: &str) -> Value {
    let line: Value = serde_json::from_str(line).unwrap();
    serde_json::json!({"id": line["custom_id"]})
}

#[tokio::test(flavor = "multi_thread")]
async fn models_of_anthropic_are_asked_its_own_way() {
    let upstream = upstream("").await;
    let shell = Shell::new(&[("ANTHROPIC_BASE_URL", &upstream.base_url())]);
    shell.write("products.csv", &table(1));
    let ask = ["run", "products.csv", "--prompt", "{{name}}", "--model", "claude-small", "--limit", "1"];
    let out = shell.prints(&ask).await;
    assert!(out.contains(",succeeded,"), "{out}");
    assert!(shell.prints(&[&ask[..], &["--dry-run"]].concat()).await.contains("/v1/messages"));
}
