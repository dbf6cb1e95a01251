use clap::CommandFactory as _;
use rstest::rstest;

use super::*;

fn parse(line: &str) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(line.split(' '))
}

#[test]
fn the_definitions_agree_with_each_other() {
    Arguments::command().debug_assert();
}

#[test]
fn global_flags_are_taken_everywhere() {
    for command in ["serve", "demo", "run in.jsonl", "config check", "config show", "config reference"] {
        let line = format!(
            "sluicegate {command} --url http://h --api-key-file k --json --quiet --no-progress --config c.toml --set a.b=c=d"
        );
        let global = parse(&line).unwrap().global;
        assert!(global.json && global.quiet && global.no_progress, "{command}");
        assert_eq!(global.url.as_deref(), Some("http://h"));
        assert_eq!(global.set, [("a.b".to_owned(), "c=d".to_owned())]);
    }
}

#[test]
fn flags_of_serve_set_keys() {
    let Command::Serve(serve) = parse("sluicegate serve --listen 127.0.0.1:9").unwrap().command else {
        panic!("not serve");
    };
    let overrides = serve.overrides();
    assert_eq!((overrides[0].flag.as_str(), overrides[0].key.as_str()), ("--listen", "server.listen"));
}

#[test]
fn what_others_say_stays_in_its_line_and_moves_no_cursor() {
    let said = "<html>\r\n  <b>\u{1b}[2Jbad\u{7}</b>\n</html>";
    assert_eq!(show::one_line(said), "<html> <b> [2Jbad </b> </html>");
    assert_eq!(show::harmless(said), "<html>\u{fffd}\n  <b>\u{fffd}[2Jbad\u{fffd}</b>\n</html>");
    let long = show::one_line(&"ä".repeat(1_000));
    assert_eq!((long.chars().count(), long.chars().last()), (301, Some('…')));
    let table = show::table(&["id", "model"], &[vec!["a".to_owned(), "m\u{1b}[31m\nx".to_owned()]]);
    assert_eq!(table, "id  model\na   m [31m x\n");
}

#[rstest]
#[case("sluicegate", 2)]
#[case("sluicegate nonsense", 2)]
#[case("sluicegate run", 2)]
#[case("sluicegate serve --set nonsense", 2)]
#[case("sluicegate --version", 0)]
#[case("sluicegate serve --help", 0)]
#[case("sluicegate config check --quiet", 2)]
#[case("sluicegate serve", 2)]
#[case("sluicegate config check --quiet --set providers.local.base_url=http://127.0.0.1:8000/v1", 0)]
#[case("sluicegate config check --quiet --set server.listn=1", 2)]
#[case("sluicegate store copy --from sqlite:/nonexistent/store.db", 2)]
#[case("sluicegate store copy --from /nonexistent/store.db --to postgres://h/d", 2)]
#[case("sluicegate store copy --from sqlite:/nonexistent/store.db --to sqlite:/nonexistent/other.db", 2)]
#[case("sluicegate store copy --from sqlite:/nonexistent/store.db --to postgres://h/d --schema pg_x", 2)]
#[case("sluicegate store copy --from sqlite:/nonexistent/store.db --to-file /nonexistent/url", 6)]
#[case("sluicegate config check --config /nonexistent/sluicegate.toml", 2)]
fn exit_codes(#[case] line: &str, #[case] code: u8) {
    let exit = main(line.split(' ').map(OsString::from), Environment::default());
    assert_eq!(exit.code(), code);
}
