//! What goes wrong is said with what to do about it, and the exit code tells scripts.

use std::os::unix::fs::PermissionsExt as _;

use rstest::rstest;

use super::Shell;
use crate::harness::{eventually, upstream};

#[rstest]
#[case(&["products.csv"], 2, "--prompt 'Describe {{name}} in one line'")]
#[case(&["products.csv", "--prompt", "{{name}}"], 2, "--model")]
#[case(&["products.csv", "--prompt", "{{nmae}}", "--model", "m"], 2, "did you mean {{name}}?). The columns are: name, price")]
#[case(&["products.csv", "--prompt", "Describe", "--model", "m"], 2, "names no column")]
#[case(&["missing.csv", "--prompt", "{{name}}", "--model", "m"], 6, "missing.csv: No such file")]
#[case(&["ragged.csv", "--prompt", "{{name}}", "--model", "m"], 2, "ragged.csv: line 3: 3 cells")]
#[case(&["products.csv", "--prompt", "{{name}}", "--model", "m", "-o", "no/such/folder.csv"], 6, "No such file")]
#[case(&["products.csv", "--prompt", "{{name}}", "--model", "m", "-o", "products.csv"], 2, "is the input")]
#[case(&["products.csv", "--prompt", "{{name}}", "--model", "m", "-o", "/proc/answers.csv"], 6, "/proc/answers.csv")]
#[case(&["products.csv", "--prompt", "{{name}}", "--model", "m", "-o", "answers.XLSX"], 2, "end it with .csv")]
#[case(&["products.csv", "--prompt", "{{name}}", "--model", "m", "--json"], 2, "name a file for the results")]
#[case(&["-", "--prompt", "{{name}}", "--model", "m"], 2, "save it in a file first")]
#[case(&["/dev/null", "--prompt", "{{name}}", "--model", "m"], 2, "save it in a file first")]
#[case(&["products.csv", "--prompt", "{{name}}", "--model", "m", "--param", "nonsense"], 2, "NAME=VALUE")]
#[case(&["products.csv", "--prompt", "{{name}}", "--model", "m", "--url", "localhost:1"], 2, "is no URL of a service")]
#[case(&["products.csv", "--prompt", "{{name}}", "--model", "m", "--url", "http://127.0.0.1:1"], 4, "Is the service running?")]
#[tokio::test(flavor = "multi_thread")]
async fn it_is_said_before_anything_is_sent(
    #[case] arguments: &[&str],
    #[case] code: i32,
    #[case] says: &str,
) {
    let upstream = upstream("").await;
    let shell = Shell::new(&[("OPENAI_BASE_URL", &upstream.base_url())]);
    shell.write("products.csv", "name,price\nlock,3\n");
    shell.write("ragged.csv", "name,price\nlock,3\nweir,3,4\n");
    let ended = shell.run(&[&["run"], arguments].concat()).await;
    assert_eq!(ended.code, Some(code), "{ended:?}");
    assert!(ended.err.contains(says), "{}", ended.err);
    assert_eq!((upstream.log().arrived, ended.out.as_str()), (0, ""));
    assert!(!shell.exists("products.csv.sluicegate"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing() {
    let upstream = upstream("").await;
    let shell = Shell::new(&[("OPENAI_BASE_URL", &upstream.base_url())]);
    shell.write("products.csv", "name\nlock\n");
    let ask = ["run", "products.csv", "--prompt", "{{name}}", "--model", "m", "-o"];
    let full = shell.run(&[&ask[..], &["/dev/full"]].concat()).await;
    assert_eq!(full.code, Some(6), "{full:?}");
    assert!(full.err.contains("No space left") && full.err.contains("nothing is lost"), "{}", full.err);
    assert_eq!(shell.run(&[&ask[..], &["answers.csv"]].concat()).await.code, Some(0));
    assert_eq!(upstream.log().arrived, 1, "the answer was kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_can_keep_nothing_says_so() {
    let upstream = upstream(r#"latency = "10s""#).await;
    let shell = Shell::new(&[("OPENAI_BASE_URL", &upstream.base_url())]);
    shell.write("products.csv", "name\nlock\n");
    let ask = ["run", "products.csv", "--prompt", "{{name}}", "--model", "m"];
    let _running = shell.spawn(&ask);
    eventually("a call", || upstream.log().arrived > 0).await;
    let second = shell.run(&ask).await;
    assert_eq!(second.code, Some(6), "{second:?}");
    assert!(second.err.contains("the same command runs already"), "{}", second.err);

    shell.write("others.csv", "name\nlock\n");
    shell.write("others.csv.sluicegate", "no folder");
    let refused = shell.run(&["run", "others.csv", "--prompt", "{{name}}", "--model", "m"]).await;
    assert_eq!(refused.code, Some(6), "{refused:?}");
    assert!(refused.err.contains("copy the input to where you may write"), "{}", refused.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_provider_refuses_ends_a_run() {
    let upstream = upstream(r#"keys = ["good"]"#).await;
    let shell = Shell::new(&[("OPENAI_BASE_URL", &upstream.base_url()), ("OPENAI_API_KEY", "wrong")]);
    shell.write("products.csv", "name\nlock\n");
    let ended = shell.run(&["run", "products.csv", "--prompt", "{{name}}", "--model", "m"]).await;
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(
        ended.err.contains("the provider refuses the key") && !ended.err.contains("wrong"),
        "{}",
        ended.err
    );

    let doctor = shell.run(&["doctor"]).await;
    assert_eq!(doctor.code, Some(5), "{doctor:?}");
    assert!(
        doctor.out.contains("FAIL  provider openai: ") && !doctor.out.contains("wrong"),
        "{}",
        doctor.out
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_finds_what_is_wrong() {
    let upstream = upstream("").await;
    let well = Shell::new(&[("OPENAI_BASE_URL", &upstream.base_url())]);
    let out = well.prints(&["doctor"]).await;
    for line in ["ok    configuration: good; providers: openai", "ok    provider openai: ", "ok    disk of "]
    {
        assert!(out.contains(line), "{out}");
    }
    assert_eq!(upstream.log().arrived, 0, "it asks no model anything");
    let cases = [
        (("OPENAI_BASE_URL", "http://127.0.0.1:1/v1"), 4, "base_url right"),
        (("SLUICEGATE__LIMITS__REQESTS", "1/s"), 2, "the nearest is"),
        (("SLUICEGATE_URL", "http://127.0.0.1:1"), 4, "Is the service running?"),
        (("OTHER", "1"), 2, "OPENAI_API_KEY"),
    ];
    for (variable, code, says) in cases {
        let ended = Shell::new(&[variable]).run(&["doctor"]).await;
        assert_eq!(ended.code, Some(code), "{variable:?}: {ended:?}");
        assert!(ended.out.contains(says), "{variable:?}: {}", ended.out);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_knows_where_no_data_can_be_kept() {
    let upstream = upstream("").await;
    let shell = Shell::new(&[("OPENAI_BASE_URL", &upstream.base_url())]);
    shell.write("taken", "a file, no folder");
    let doctor = async |url| shell.run(&["doctor", "--set", url]).await;
    let ended = doctor("store.url=sqlite:taken/store.db").await;
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(ended.out.contains("FAIL  disk of taken: taken is no folder"), "{}", ended.out);

    let closed = shell.path("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o500)).unwrap();
    let may = std::fs::File::create(closed.join("tried")).is_ok();
    let ended = doctor("store.url=sqlite:closed/data/store.db").await;
    // Root may write everywhere.
    let (code, says) = if may { (0, "ok    disk of closed/data") } else { (6, "closed can't be written") };
    assert_eq!(ended.code, Some(code), "{ended:?}");
    assert!(ended.out.contains(says), "{}", ended.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_several_lines_is_not_the_connections_fault() {
    let shell = Shell::new(&[("SLUICEGATE_API_KEY", "sk-one\nsk-two")]);
    let ended = shell.run(&["list"]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended.err.contains("SLUICEGATE_API_KEY must hold one key") && !ended.err.contains("sk-"),
        "{}",
        ended.err
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn shells_and_readers_get_what_they_need() {
    let shell = Shell::new(&[]);
    for name in ["bash", "zsh", "fish"] {
        assert!(shell.prints(&["completions", name]).await.contains("dry-run"), "{name}");
    }
    let page = shell.prints(&["man", "run"]).await;
    assert!(
        page.contains(".SH OPTIONS") && page.contains("dry\\-run") && page.contains("retry\\-failed"),
        "{page}"
    );
    assert!(shell.prints(&["man", "keys", "create"]).await.contains("expires\\-in"));
    assert_eq!(shell.run(&["man", "keys", "nonsense"]).await.code, Some(2));
    assert_eq!(shell.run(&["man", "nonsense"]).await.code, Some(2));
}

/// What each provider lacks can only be seen by making its client; nothing is connected to.
#[tokio::test(flavor = "multi_thread")]
async fn what_would_stop_the_service_is_said_beforehand_and_all_of_it() {
    let shell = Shell::new(&[]);
    let wrong = "store.url = 'postgres://u:secret@127.0.0.1:1/d?sslmode=on'\n\
                 limits.max_concurrent = 'many'\n\
                 [providers.a]\nbase_url = 'http://300.0.0.1/v1'\nproxy = 'http://300.0.0.2'\nlanes = [{ match = 'a' }]\n\
                 [providers.b]\nbase_url = 'https://h/v1'\nca_file = 'no.pem'\nlanes = [{ match = 'b' }]\n";
    shell.write("sluicegate.toml", wrong);
    let checked = shell.run(&["config", "check"]).await;
    for problem in [
        "configuration: 5 problems",
        "sluicegate.toml:1: store.url = \"postgres://***@127.0.0.1:1/d?sslmode=on\": can't be used: unknown sslmode \"on\"",
        "sluicegate.toml:2: limits.max_concurrent",
        "sluicegate.toml:4: providers.a.base_url = \"http://300.0.0.1/v1\": can't be used: invalid IPv4 address",
        "sluicegate.toml:5: providers.a.proxy = \"http://300.0.0.2\": can't be used: not the address of a proxy",
        "sluicegate.toml:9: providers.b.ca_file = \"no.pem\": can't be used: no.pem: No such file",
    ] {
        assert!(checked.err.contains(problem), "{problem}: {}", checked.err);
    }
    let served = shell.run(&["serve"]).await;
    assert_eq!((checked.code, served.code, &served.err), (Some(2), Some(2), &checked.err));
    let listed = shell.run(&["config", "check", "--json"]).await;
    assert_eq!(listed.code, Some(2), "{listed:?}");
    let listed: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!(listed["problems"].as_array().unwrap().len(), 5, "{listed}");
}
