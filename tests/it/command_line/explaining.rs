//! What the command line says of the configuration's keys, and of itself.

use serde_json::Value;

use super::Shell;

#[tokio::test]
async fn every_key_is_explained_whatever_is_configured() {
    let shell = Shell::new(&[("SLUICEGATE__SERVER__LISTEN", "nowhere")]);
    let text = shell.prints(&["config", "reference"]).await;
    assert!(text.starts_with("## Values\n"), "{text}");
    let row = "\n| `server.listen` | address | `\"127.0.0.1:8080\"` | next start | Where the API is served.";
    assert!(text.contains(row), "{text}");

    let keys = shell.prints(&["config", "reference", "--json"]).await;
    let keys: Vec<Value> = serde_json::from_str(&keys).unwrap();
    assert!(keys.len() > 60, "{keys:?}");
    for key in &keys {
        let key = key["key"].as_str().unwrap();
        assert!(text.contains(&format!("\n| `{key}` | ")), "{key}");
    }
    let ceiling = keys.iter().find(|key| key["key"] == "limits.max_concurrent").unwrap();
    assert_eq!((ceiling["default"].as_str(), ceiling["holds"].as_str()), (Some("1024"), Some("at once")));
}

#[tokio::test]
async fn the_manual_and_completions_know_the_commands_below_a_command() {
    let shell = Shell::new(&[]);
    for arguments in [["man", "config"], ["completions", "bash"], ["completions", "zsh"]] {
        let text = shell.prints(&arguments).await;
        for command in ["check", "show", "reference"] {
            assert!(text.contains(command), "{arguments:?} {command}: {text}");
        }
    }
}
