//! What a person sees on a terminal: a bar on one line, whatever there is to say, and nothing of it afterwards.

use rstest::rstest;
use serde_json::{Map, Value};

use super::{RUN, Shell, ended, interrupt, says};
use crate::harness::{Process, Settings, Terminal, chats, eventually, upstream};

#[rstest]
#[case::narrow(40, "░ 2/3 ")]
#[case::wide(120, "waits for the request limit of openai/demo-small")]
#[tokio::test(flavor = "multi_thread")]
async fn a_bar_keeps_to_its_line(#[case] columns: u16, #[case] shows: &str) {
    let upstream = upstream("").await;
    // Two calls, and the next in half an hour: there is much to say about it.
    let limits = ("SLUICEGATE__LIMITS__REQUESTS", "2/h");
    let shell = Shell::new(&[("OPENAI_BASE_URL", &upstream.base_url()), limits]);
    shell.write("products.csv", "id,name\na,weir\nb,weir\nc,weir\n");
    let mut terminal = Terminal::open(columns);
    let running = shell.spawn_on(&terminal, &RUN);
    let shown = terminal.shows(|screen| screen.text.contains("2/3 ") && screen.text.contains(shows)).await;
    assert_eq!((shown.text.lines().count(), shown.broken.as_slice()), (1, &[][..]), "{}", shown.text);

    interrupt(&running);
    assert_eq!(ended(running).await.code, Some(130));
    let told = "ending: calls that are under way are finished first; Ctrl-C again ends at once. Nothing is lost: the \
                same command goes on from here";
    assert_eq!(terminal.left().await.text, told, "nothing of the bar is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_interrupt_leaves_what_was_answered() {
    let upstream = upstream("").await;
    let drain = ("SLUICEGATE__SERVER__DRAIN_TIMEOUT", "1h");
    let shell = Shell::new(&[("OPENAI_BASE_URL", &upstream.base_url()), drain]);
    shell.write("products.csv", "id,name\na,[[400]]\nb,[[hang]]\n");
    let mut terminal = Terminal::open(80);
    let running = shell.spawn_on(&terminal, &RUN);
    terminal.shows(|screen| screen.text.contains("1/2 ") && screen.text.contains("1 failed")).await;
    for told in ["Ctrl-C again ends at once", "ended at once"] {
        terminal.press_interrupt().await;
        interrupt(&running);
        terminal.shows(|screen| screen.text.contains(told)).await;
    }
    assert_eq!(ended(running).await.code, Some(130));
    let left = terminal.left().await.text;
    // The first `^C` drove the cursor off the bar, which stays above.
    let lines: Vec<&str> = left.lines().rev().collect();
    assert!(lines[0].starts_with("ended at once: ") && lines[1].contains("ending: "), "{left}");
    assert!(!left.contains("^C"), "{left}");
    assert!(!shell.exists("answers.csv") && !shell.exists("answers.csv.part"));

    // The answer that there was is still there.
    let mut running = shell.spawn(&RUN);
    says(&mut running, "(1 of 2 done)").await;
    eventually("the other call", || upstream.log().arrived == 3).await;
    interrupt(&running);
    says(&mut running, "Ctrl-C again ends at once").await;
    interrupt(&running);
    assert_eq!(ended(running).await.code, Some(130));
    assert_eq!(upstream.calls("a"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_goes_and_comes_back_leaves_a_line_each() {
    let upstream = upstream(r#"latency = "1h""#).await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = format!("server = {{ listen = \"{port}\", drain_timeout = \"1h\" }}");
    let settings = Settings::new(&upstream).with(&server);
    let process = Process::start(&settings);
    let id = process.submit(&chats(2, ""), serde_json::json!({})).await;
    let url = format!("http://{port}");
    let shell = Shell::new(&[("SLUICEGATE_URL", &url)]);
    let mut terminal = Terminal::open(60);
    let watching = shell.spawn_on(&terminal, &["watch", &id]);
    terminal.shows(|screen| screen.text.contains("0/2")).await;
    process.terminate();
    terminal.shows(|screen| screen.text.contains("is away")).await;
    // While it drains it answers once and ends the stream, again and again.
    process
        .metrics_until("it was asked again", |metrics| {
            let streams =
                |line: &&str| line.contains("_count") && line.contains("/v1/batches/{batch_id}/events\"");
            let count = |line: &str| line.rsplit(' ').next().and_then(|count| count.parse::<u32>().ok());
            let ended = metrics.0.lines().filter(streams).filter_map(count);
            ended.sum::<u32>() >= 3
        })
        .await;
    process.kill();
    upstream.update(Map::from_iter([("latency".to_owned(), Value::Null)])).unwrap();
    let process = Process::start(&settings);
    assert_eq!(ended(watching).await.code, Some(0));
    let left = terminal.left().await;
    let lines: Vec<&str> = left.text.lines().collect();
    let away = format!("{url} is away; trying again for 10 min");
    let ending = format!("{id} completed: 2 succeeded; ");
    assert_eq!(
        (lines.len(), lines[0], lines[1]),
        (3, away.as_str(), format!("{url} is back").as_str()),
        "{lines:?}"
    );
    assert!(lines[2].starts_with(&ending), "{lines:?}");
    drop(process);
}
