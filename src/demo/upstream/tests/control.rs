//! `/script/…`.

use super::*;

#[tokio::test]
async fn the_log_and_the_oracle_can_be_asked_over_http() {
    let scene = Scene::of("log = 'full'\nlimits = [{ law = 'fixed', limit = 9, period = '1h' }]").await;
    scene.statuses("[[id=a b]][[500 x1]]", 2).await;
    scene.chat("[[id=c]]").await;
    let log = scene.get("/script/log").await;
    assert_eq!((&log["arrived"], &log["ids"], &log["repeats"]), (&json!(3), &json!(2), &json!(1)));
    assert_eq!((&log["answered"], &log["cut"]), (&json!({"200": 2, "500": 1}), &json!(0)));
    assert_eq!(scene.get("/script/log?id=a%20b").await, json!({"id": "a b", "calls": 2}));
    assert_eq!(scene.get("/script/log?repeated=1").await, json!([{"id": "a b", "calls": 2}]));
    let rows = scene.get("/script/log?entries=1&from=1&limit=1").await;
    assert_eq!(rows.as_array().unwrap().len(), 1);
    assert_eq!(
        (&rows[0]["number"], &rows[0]["attempt"], &rows[0]["ending"]),
        (&json!(1), &json!(2), &json!("200"))
    );
    let oracle = scene.get("/script/oracle").await;
    assert_eq!(
        (&oracle["laws"][0]["arrived"], &oracle["laws"][0]["windows"][0]["arrived"]),
        (&json!(3), &json!(3))
    );
    scene.client.post(scene.url("/script/reset")).send().await.unwrap();
    assert_eq!(scene.get("/script/log").await["arrived"], 0);
    assert_eq!(scene.get("/script/oracle").await["laws"][0]["arrived"], 0);
}

#[tokio::test]
async fn behaviour_can_be_changed_over_http() {
    let scene = Scene::of("seed = 9").await;
    let set = |body: &'static str| scene.client.post(scene.url("/script/set")).body(body).send();
    assert_eq!(set(r#"{"keys": ["k"], "slots": 3}"#).await.unwrap().status(), 200);
    assert_eq!(scene.chat("x").await.status(), 401);
    assert_eq!(scene.get("/script/script").await["seed"], 9);
    assert_eq!(set(r#"{"keys": null}"#).await.unwrap().status(), 200);
    assert_eq!(scene.chat("x").await.status(), 200);
    for wrong in [r#"{"keyz": []}"#, r#"{"latency": "soon"}"#, "[]", "{"] {
        assert_eq!(set(wrong).await.unwrap().status(), 400, "{wrong}");
    }
    assert_eq!(scene.get("/script/script").await["slots"], 3);
}

#[tokio::test]
async fn changed_laws_start_with_empty_books() {
    let scene = Scene::of("limits = [{ law = 'fixed', limit = 1, period = '1h', enforce = true }]").await;
    assert_eq!(scene.statuses("x", 2).await, [200, 429]);
    scene.upstream.update(serde_json::from_str(r#"{"latency": "1ms"}"#).unwrap()).unwrap();
    assert_eq!(scene.statuses("x", 1).await, [429]);
    let laws = json!([{"law": "fixed", "limit": 2, "period": "1h", "enforce": true}]);
    scene.upstream.update([("limits".to_owned(), laws)].into_iter().collect()).unwrap();
    assert_eq!(scene.statuses("x", 3).await, [200, 200, 429]);
}
