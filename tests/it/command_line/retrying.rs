//! `run --retry-failed`: what failed is tried again, and only that.

use rstest::rstest;
use serde_json::{Map, Value, json};

use super::{Ended, RUN, Shell, ended, interrupt, says};
use crate::harness::{Service, Settings, eventually, upstream};

fn run<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&RUN[..], more].concat()
}

/// Each row of the answers as its id and status.
fn statuses(shell: &Shell) -> Vec<(String, String)> {
    let cells = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        (cells[0].to_owned(), cells[3].to_owned())
    };
    shell.read("answers.csv").lines().skip(1).map(cells).collect()
}

#[track_caller]
fn check(ended: &Ended, code: i32, says: &[&str]) {
    assert_eq!(ended.code, Some(code), "{ended:?}");
    for text in says {
        assert!(ended.err.contains(text), "{text:?} is not in {}", ended.err);
    }
}

#[rstest]
#[case::by_itself(false)]
#[case::on_a_service(true)]
#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_tried_again_by_one_flag(#[case] on_a_service: bool) {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let (base_url, url) = (upstream.base_url(), service.url());
    let where_to = if on_a_service { ("SLUICEGATE_URL", &url) } else { ("OPENAI_BASE_URL", &base_url) };
    // In three batches, so that the answers come from several of each kind.
    let shell = Shell::new(&[(where_to.0, where_to.1), ("SLUICEGATE__BATCHES__MAX_ITEMS", "2")]);
    let parts = ["--set", "batches.max_items=2"];
    let more = |more: &[&'static str]| run(&[&parts[..], more].concat());
    shell.write("products.csv", "id,name\na,lock\nb,[[400 x1]]\n,\nc,weir\nd,[[400 x2]]\ne,[[400]]\n");
    let of = |b: &str, d: &str| {
        [("a", "succeeded"), ("b", b), ("", "skipped"), ("c", "succeeded"), ("d", d), ("e", "failed")]
            .map(|(id, status)| (id.to_owned(), status.to_owned()))
    };

    let early = shell.run(&more(&["--retry-failed"])).await;
    check(&early, 2, &["nothing was run before"]);
    assert_eq!((upstream.log().arrived, shell.exists("products.csv.sluicegate")), (0, false));

    let first = shell.run(&more(&[])).await;
    check(&first, 1, &["2 succeeded, 3 did not, 1 not sent", "with --retry-failed tries just these again"]);
    assert_eq!(statuses(&shell), of("failed", "failed"));
    assert_eq!(upstream.log().arrived, 5);

    let second = shell.run(&more(&["--retry-failed"])).await;
    check(&second, 1, &["trying 1 request again", "3 succeeded, 2 did not", "with --retry-failed"]);
    assert_eq!(statuses(&shell), of("succeeded", "failed"));
    assert_eq!(upstream.log().arrived, 8, "what had an answer was not asked again");

    let third = shell.run(&more(&["--retry-failed", "--json"])).await;
    assert_eq!(third.code, Some(1), "{third:?}");
    let summary: Value = serde_json::from_str(&third.out).unwrap();
    assert_eq!(
        (&summary["succeeded"], &summary["failed"], &summary["status"]),
        (&4.into(), &1.into(), &"completed".into())
    );
    assert_eq!(statuses(&shell), of("succeeded", "succeeded"));
    let retries = summary["retries"].as_array().unwrap().len();
    assert_eq!((summary["batches"].as_array().unwrap().len(), retries, upstream.log().arrived), (3, 5, 10));

    let answers = shell.read("answers.csv");
    let again = shell.run(&more(&["--force"])).await;
    check(&again, 1, &["4 succeeded, 1 did not"]);
    assert_eq!(
        (shell.read("answers.csv"), upstream.log().arrived),
        (answers, 10),
        "a plain run sends nothing"
    );
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_a_file_of_requests_are_replaced_in_their_places() {
    let upstream = upstream("").await;
    let shell = Shell::new(&[("OPENAI_BASE_URL", &upstream.base_url())]);
    let mut requests = crate::harness::chats(4, "");
    for failing in [1, 3] {
        let content = format!("[[id=item-{failing}]][[400 x1]]");
        requests[failing]["body"]["messages"][0]["content"] = content.into();
    }
    shell.write("in.jsonl", &crate::harness::jsonl(&requests));
    let lines = || {
        let read = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            (line["custom_id"].as_str().unwrap().to_owned(), line["response"]["status_code"].clone())
        };
        shell.read("out.jsonl").lines().map(read).collect::<Vec<_>>()
    };
    let all = |failed: u16| {
        [(0, 200), (1, failed), (2, 200), (3, failed)]
            .map(|(item, status)| (format!("item-{item}"), json!(status)))
    };
    let ask = ["run", "in.jsonl", "-o", "out.jsonl"];
    check(&shell.run(&ask).await, 1, &["2 succeeded, 2 did not"]);
    assert_eq!(lines(), all(400));
    let ask = [&ask[..], &["--retry-failed"]].concat();
    check(&shell.run(&ask).await, 0, &["trying 2 requests again", "4 succeeded, in"]);
    assert_eq!((lines(), upstream.log().arrived), (all(200).to_vec(), 6));
    check(&shell.run(&ask).await, 0, &["nothing of it is left to be tried again"]);
    assert_eq!((lines(), upstream.log().arrived), (all(200).to_vec(), 6));
    check(&shell.run(&[&ask[..], &["--again"]].concat()).await, 2, &["cannot be used with"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_is_interrupted_is_gone_on_with() {
    let upstream = upstream("").await;
    let shell = Shell::new(&[("OPENAI_BASE_URL", &upstream.base_url())]);
    shell.write("products.csv", "id,name\na,[[400 x1]]\nb,weir\n");
    check(&shell.run(&run(&[])).await, 1, &["1 succeeded, 1 did not", "tries just this one again"]);

    upstream.update(Map::from_iter([("latency".to_owned(), "1h".into())])).unwrap();
    let mut retrying = shell.spawn(&run(&["--retry-failed"]));
    eventually("its call", || upstream.log().arrived == 3).await;
    interrupt(&retrying);
    says(&mut retrying, "Ctrl-C again ends at once").await;
    interrupt(&retrying);
    assert_eq!(ended(retrying).await.code, Some(130));

    upstream.update(Map::from_iter([("latency".to_owned(), Value::Null)])).unwrap();
    let done = shell.run(&run(&["--retry-failed", "--no-progress"])).await;
    check(&done, 0, &["going on with batch_", "(0 of 1 done)", "2 succeeded, in"]);
    assert!(!done.err.contains("trying"), "{}", done.err);
    assert_eq!(upstream.calls("b"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_retried_by_hand_counts_too() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let shell = Shell::new(&[("SLUICEGATE_URL", &service.url())]);
    shell.write("products.csv", "id,name\na,[[400 x1]]\nb,weir\n");
    let first = shell.run(&run(&["--json"])).await;
    let summary: Value = serde_json::from_str(&first.out).unwrap();
    let id = summary["batch"].as_str().unwrap();
    let retry = shell.prints(&["retry", id]).await;
    shell.prints(&["watch", retry.trim_end()]).await;
    check(&shell.run(&run(&["--force"])).await, 0, &["2 succeeded, in"]);
    assert_eq!((statuses(&shell).len(), upstream.log().arrived), (2, 3));

    // Where the requests are gone they can't be tried again there; what to do is said.
    shell.write("products.csv", "id,name\na,[[400]]\nb,weir\n");
    let refused = shell.run(&run(&["--force", "--json"])).await;
    let summary: Value = serde_json::from_str(&refused.out).unwrap();
    let batch = service.batch(summary["batch"].as_str().unwrap()).await;
    service.delete(&format!("/v1/files/{}", batch["input_file_id"].as_str().unwrap())).await.ok();
    let ended = shell.run(&run(&["--retry-failed"])).await;
    check(&ended, 2, &["was deleted", "--again runs all of it"]);
    service.stop().await;
}
