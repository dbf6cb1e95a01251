//! `/script/…`: asking and steering a running upstream over HTTP, from any language or process.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::desk::Desk;
use super::script::Script;

/// Rows of a list unless `limit` says otherwise.
const PAGE: usize = 1_000;

/// A status with its JSON body.
pub(super) type Reply = (u16, Vec<u8>);

/// Answers a request below `/script/`.
pub(super) fn answer(desk: &Desk, method: &str, target: &str, body: &[u8]) -> Reply {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match (method, path) {
        ("GET", "/script/log") => log(desk, &Query(query)),
        ("GET", "/script/oracle") => json_reply(200, &desk.oracle()),
        ("GET", "/script/script") => json_reply(200, &*desk.script()),
        ("POST", "/script/set") => match serde_json::from_slice(body) {
            Ok(changes) => match set(desk, changes) {
                Ok(()) => json_reply(200, &*desk.script()),
                Err(why) => json_reply(400, &json!({"error": {"message": why}})),
            },
            Err(why) => json_reply(400, &json!({"error": {"message": why.to_string()}})),
        },
        ("POST", "/script/reset") => {
            desk.reset();
            json_reply(200, &json!({}))
        }
        _ => json_reply(404, &json!({"error": {"message": format!("no {method} {path} here")}})),
    }
}

/// Lays some keys over the script in force; `null` puts a key back to what it is by default.
///
/// # Errors
/// The text says which key or value is wrong; nothing has changed then.
pub(super) fn set(desk: &Desk, changes: Map<String, Value>) -> Result<(), String> {
    let mut whole = match serde_json::to_value(&*desk.script()) {
        Ok(Value::Object(whole)) => whole,
        Ok(_) => Map::new(),
        Err(why) => return Err(why.to_string()),
    };
    for (key, value) in changes {
        if value.is_null() {
            whole.remove(&key);
        } else {
            whole.insert(key, value);
        }
    }
    let script: Script = serde_json::from_value(Value::Object(whole)).map_err(|why| why.to_string())?;
    desk.set_script(script);
    Ok(())
}

fn log(desk: &Desk, query: &Query<'_>) -> Reply {
    let limit = query.number("limit").map_or(PAGE, |limit| limit as usize);
    if let Some(id) = query.text("id") {
        let calls = desk.read_log(|log| log.calls(&id));
        return json_reply(200, &json!({"id": id, "calls": calls}));
    }
    if query.text("entries").is_some() {
        let from = query.number("from").unwrap_or(0);
        return json_reply(200, &desk.read_log(|log| log.entries(from, limit)));
    }
    if query.text("repeated").is_some() {
        return json_reply(200, &desk.read_log(|log| log.repeated(limit)));
    }
    json_reply(200, &desk.read_log(|log| log.report()))
}

fn json_reply(status: u16, value: &impl Serialize) -> Reply {
    match serde_json::to_vec(value) {
        Ok(body) => (status, body),
        Err(why) => (500, why.to_string().into_bytes()),
    }
}

struct Query<'a>(&'a str);

impl Query<'_> {
    fn text(&self, name: &str) -> Option<String> {
        let pairs = self.0.split('&').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.into_iter().find(|(key, _)| *key == name)?;
        Some(percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned())
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }
}
