//! Keys, slots and rates.

use super::*;

#[tokio::test]
async fn only_known_keys_are_let_in() {
    let scene = Scene::of("keys = ['sk-a']").await;
    let call = |name: &'static str, value: &'static str| {
        scene.client.post(scene.url("/v1/chat/completions")).header(name, value).json(&chat("x")).send()
    };
    assert_eq!(scene.chat("x").await.status(), 401);
    assert_eq!(call("authorization", "Bearer sk-b").await.unwrap().status(), 401);
    assert_eq!(call("authorization", "Bearer sk-a").await.unwrap().status(), 200);
    assert_eq!(call("x-api-key", "sk-a").await.unwrap().status(), 200);
    scene.upstream.update(serde_json::from_str(r#"{"keys": ["sk-b"]}"#).unwrap()).unwrap();
    assert_eq!(call("authorization", "Bearer sk-a").await.unwrap().status(), 401);
    assert_eq!(call("authorization", "Bearer sk-b").await.unwrap().status(), 200);
}

#[tokio::test]
async fn slots_are_all_there_are() {
    let scene = Scene::of("slots = 2\nslots_status = 503").await;
    let third = async {
        while scene.upstream.oracle().in_flight < 2 {
            tokio::task::yield_now().await;
        }
        scene.chat("c").await.status()
    };
    tokio::select! {
        _ = async { tokio::join!(scene.chat("[[hang]]"), scene.chat("[[hang]]")) } => panic!("nobody answers these"),
        status = third => assert_eq!(status, 503),
    }
    scene.ended(3).await;
    assert_eq!(scene.upstream.oracle().max_in_flight, 2);
    assert_eq!(scene.chat("d").await.status(), 200);
}

#[tokio::test]
async fn rates_are_enforced_as_providers_do() {
    for law in ["bucket", "fixed", "sliding"] {
        let scene =
            Scene::of(&format!("limits = [{{ law = '{law}', limit = 3, period = '1h', enforce = true }}]"))
                .await;
        assert_eq!(scene.statuses("x", 3).await, [200, 200, 200], "{law}");
        let answer = scene.chat("x").await;
        assert_eq!(answer.status(), 429, "{law}");
        let seconds: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1_190..=3_600).contains(&seconds), "{law}: {seconds}");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(
            (&body["error"]["type"], &body["error"]["code"]),
            (&json!("requests"), &json!("rate_limit_exceeded"))
        );
        let oracle = &scene.upstream.oracle().laws[0];
        assert_eq!((oracle.arrived, oracle.accepted, oracle.refused, oracle.over), (4, 3, 1, 1), "{law}");
        assert_eq!((oracle.windows_over, oracle.peak), (1, 3), "{law}");
    }
}

#[tokio::test]
async fn one_refusal_refuses_under_every_law() {
    let scene = Scene::of(
        "retry_after = false
         limits = [{ law = 'sliding', limit = 1, period = '1h', enforce = true },
                   { law = 'sliding', limit = 100, period = '1h', unit = 'tokens', enforce = true },
                   { name = 'all', law = 'fixed', limit = 1, period = '1h' }]",
    )
    .await;
    assert_eq!(scene.statuses("1234", 2).await, [200, 429]);
    assert!(!scene.chat("1234").await.headers().contains_key("retry-after"));
    let laws = scene.upstream.oracle().laws;
    assert_eq!((laws[1].accepted, laws[1].refused, laws[1].peak), (17, 34, 17));
    // A law that only watches charges whatever arrived.
    assert_eq!((laws[2].name.as_str(), laws[2].over, laws[2].peak), ("all", 2, 3));
}

#[tokio::test]
async fn what_an_answer_used_is_charged_when_it_leaves() {
    let scene = Scene::of(
        "ratelimit_headers = true
         limits = [{ law = 'sliding', limit = 40, period = '1h', unit = 'used-tokens', enforce = true }]",
    )
    .await;
    let laws = || scene.upstream.oracle().laws.swap_remove(0);
    let hanging = async {
        while scene.upstream.oracle().in_flight < 1 {
            tokio::task::yield_now().await;
        }
        laws().accepted
    };
    tokio::select! {
        _ = scene.chat("[[hang]][[out=30]]") => panic!("nobody answers this"),
        charged = hanging => assert_eq!(charged, 0, "nothing left yet"),
    }
    // 12 bytes of text are 3 tokens; what may be generated at most (16) is not looked at.
    assert_eq!(scene.statuses("[[out=30]]xx", 1).await, [200]);
    assert_eq!((laws().name.as_str(), laws().accepted, laws().over), ("used tokens/1h sliding", 33, 0));
    // While anything is left a call is let in, and may go over.
    let answer = scene.chat("[[out=30]]xx").await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["x-ratelimit-remaining-tokens"]),
        (200, &"7".parse().unwrap())
    );
    assert_eq!((laws().accepted, laws().peak, laws().over, laws().windows_over), (66, 66, 1, 1));
    let refused = scene.chat("[[out=1]]").await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.json::<Value>().await.unwrap()["error"]["type"], "tokens");
    assert_eq!((laws().accepted, laws().refused, laws().over), (66, 0, 2));
}

#[tokio::test]
async fn a_call_above_the_limit_itself_is_told_so() {
    let scene = Scene::of(
        "limits = [{ law = 'bucket', limit = 10, period = '60s', unit = 'tokens', enforce = true }]",
    )
    .await;
    let answer = scene.chat("x").await;
    assert!(!answer.headers().contains_key("retry-after"));
    let body: Value = answer.json().await.unwrap();
    assert!(body["error"]["message"].as_str().unwrap().starts_with("Request too large"));
}

#[tokio::test]
async fn ratelimit_headers_tell_what_is_left() {
    let scene = Scene::of(
        "ratelimit_headers = true
         limits = [{ law = 'bucket', limit = 60, period = '60s', enforce = true },
                   { law = 'bucket', limit = 1000, period = '60s', unit = 'tokens' }]",
    )
    .await;
    let answer = scene.chat("1234").await;
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(
        (header("x-ratelimit-limit-requests"), header("x-ratelimit-remaining-requests")),
        ("60".into(), "59".into())
    );
    assert_eq!(header("x-ratelimit-reset-requests"), "1000ms");
    assert_eq!(header("x-ratelimit-remaining-tokens"), "983");
}
