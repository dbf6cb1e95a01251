//! The page at `/` as browsers get it.

use axum::body::Body;
use http::Request;

use super::service::{Answer, Service};

async fn get(service: &Service, path: &str, headers: &[(&str, &str)]) -> Answer {
    let request =
        headers.iter().fold(Request::get(path), |request, (name, value)| request.header(*name, *value));
    service.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn browsers_get_a_page_that_may_load_nothing_but_its_own_files() {
    let service = Service::start().await;
    let page = get(&service, "/", &[("accept", "text/html,*/*;q=0.8")]).await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = page.header("content-security-policy");
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "form-action 'none'",
    ] {
        assert!(policy.split("; ").any(|found| found == part), "{part} in {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    assert!(page.text().contains("data-metrics=\"here\"") && !page.text().contains('{'), "{}", page.text());

    for accept in ["*/*", "text/plain", "application/json"] {
        let other = get(&service, "/", &[("accept", accept)]).await;
        assert_eq!(other.header("content-type"), "text/plain; charset=utf-8", "{accept}");
        assert_eq!(other.header("vary"), "accept");
        assert!(other.text().contains("openapi.yaml"), "{}", other.text());
    }
}

#[tokio::test]
async fn browsers_keep_its_files_for_as_long_as_they_are_the_same() {
    let service = Service::start().await;
    let html = [("accept", "text/html")];
    let page = get(&service, "/", &html).await;
    assert_eq!(page.header("cache-control"), "no-cache");
    let known = get(&service, "/", &[html[0], ("if-none-match", page.header("etag"))]).await;
    assert_eq!((known.status.as_u16(), known.bytes.len()), (304, 0));

    let script = page.text().split("src=\"").nth(1).unwrap().split('"').next().unwrap();
    let asset = service.get(&format!("/{script}")).await;
    assert_eq!(asset.header("content-type"), "text/javascript; charset=utf-8");
    assert_eq!(asset.header("cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(asset.header("x-content-type-options"), "nosniff");
    // Another version's page may ask while replicas are replaced one by one.
    let others = service.get("/page/0000000000000000/main.js").await;
    assert_eq!((others.header("cache-control"), others.text()), ("no-cache", asset.text()));
    let known = get(&service, "/page/x/main.js", &[("if-none-match", others.header("etag"))]).await;
    assert_eq!(known.status, 304);
    assert_eq!(service.get("/page/x/../../etc/passwd").await.status, 404);
    assert_eq!(service.get("/page/x/mod.rs").await.status, 404);
}
