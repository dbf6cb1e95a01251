use bytes::Bytes;
use proptest::prelude::*;
use rstest::rstest;

use super::*;

const ERROR: &str = r#"{"error":{"message":"No.","type":"server_error","param":null,"code":null}}"#;
const RATE: &str = r#"{"error":{"message":"Rate limit reached for m on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000. Please try again in 1.2s.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#;
const RPM: &str = r#"{"error":{"message":"Rate limit reached on requests per min (RPM): Limit 3, Used 3.","type":"requests","code":"rate_limit_exceeded"}}"#;
const QUOTA: &str = r#"{"error":{"message":"You exceeded your current quota.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#;

fn reply(status: u16, body: &str) -> Reply {
    Reply {
        status,
        request_id: "req_1".to_owned(),
        retry_after: None,
        should_retry: None,
        quota: Vec::new(),
        body: body.to_owned().into(),
        first_byte: Duration::from_millis(1),
        total: Duration::from_millis(2),
    }
}

/// The first of five attempts, on a lane that has answered before.
fn first() -> JudgeContext<'static> {
    JudgeContext {
        attempts: 0,
        max_attempts: 5,
        now: Timestamp::from_seconds(1_000),
        deadline: Timestamp::from_seconds(2_000),
        lane_succeeded: true,
        refusals: 0,
        others_passed: false,
        retry_on: &RetryOn::USUAL,
    }
}

fn last() -> JudgeContext<'static> {
    JudgeContext { attempts: 4, ..first() }
}

fn shown(status: u16, body: &str) -> Verdict {
    let payload = Payload::Response { status, request_id: "req_1".to_owned(), body: body.to_owned().into() };
    Verdict::Failed { payload }
}

fn code_of(judgement: &Judgement) -> Option<ErrorCode> {
    match &judgement.verdict {
        Verdict::Failed { payload: Payload::Error { code, .. } } => Some(*code),
        _ => None,
    }
}

fn reason_of(judgement: &Judgement) -> Option<RetryReason> {
    match &judgement.verdict {
        Verdict::Retry { reason, .. } => Some(*reason),
        _ => None,
    }
}

#[rstest]
#[case(r#"{"id":"x","choices":[],"error":null}"#, r#"{"id":"x","choices":[],"error":null}"#)]
#[case("{\r\n  \"id\": \"a\\nb\"\n}\n", "{    \"id\": \"a\\nb\" }")]
#[case(r#"{"error":{"code":500},"error":null}"#, r#"{"error":{"code":500},"error":null}"#)]
fn an_object_without_an_error_is_the_answer(#[case] body: &str, #[case] line: &str) {
    for status in [200, 201, 299] {
        let judged = judge(Ok(reply(status, body)), &first());
        let payload =
            Payload::Response { status, request_id: "req_1".to_owned(), body: line.to_owned().into() };
        assert_eq!(judged.verdict, Verdict::Succeeded { payload });
        assert_eq!((judged.class, judged.charged), (Some(AttemptClass::Ok), true));
    }
}

#[test]
fn an_answer_on_one_line_is_not_copied() {
    let reply = reply(200, r#"{"id":"x"}"#);
    let start = reply.body.as_ptr();
    let Verdict::Succeeded { payload: Payload::Response { body, .. } } = judge(Ok(reply), &first()).verdict
    else {
        panic!("not succeeded");
    };
    assert_eq!(body.as_ptr(), start);
}

#[test]
fn usage_is_told_of_answers_and_of_failures() {
    let usage = Usage { input_tokens: 3, output_tokens: 2, ..Usage::default() };
    let body = r#"{"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;
    assert_eq!(judge(Ok(reply(200, body)), &first()).usage, Some(usage));
    let body = r#"{"usage":{"prompt_tokens":3,"completion_tokens":2},"error":{"code":502}}"#;
    assert_eq!(judge(Ok(reply(200, body)), &first()).usage, Some(usage));
    for body in ["{}", r#"{"usage":null}"#, r#"{"usage":{"prompt_tokens":-3}}"#, r#"{"usage":7}"#] {
        let judged = judge(Ok(reply(200, body)), &first());
        assert_eq!(judged.usage, None, "{body}");
        assert!(matches!(judged.verdict, Verdict::Succeeded { .. }), "{body}");
    }
}

/// Every status that is the item's own, final at once.
#[rstest]
fn other_client_errors_are_the_item_s(
    #[values(400, 404, 405, 406, 409, 410, 413, 415, 418, 422, 424, 431, 451, 499)] status: u16,
) {
    let judged = judge(Ok(reply(status, ERROR)), &first());
    assert_eq!(judged.verdict, shown(status, ERROR));
    assert_eq!((judged.class, judged.charged), (Some(AttemptClass::ClientError), true));
}

#[rstest]
#[case(408, RetryReason::Conflict, AttemptClass::ClientError)]
#[case(425, RetryReason::Conflict, AttemptClass::ClientError)]
#[case(498, RetryReason::Overloaded, AttemptClass::Overloaded)]
#[case(500, RetryReason::ServerError, AttemptClass::ServerError)]
#[case(501, RetryReason::ServerError, AttemptClass::ServerError)]
#[case(502, RetryReason::ServerError, AttemptClass::ServerError)]
#[case(503, RetryReason::Overloaded, AttemptClass::Overloaded)]
#[case(504, RetryReason::ServerError, AttemptClass::ServerError)]
#[case(520, RetryReason::ServerError, AttemptClass::ServerError)]
#[case(529, RetryReason::Overloaded, AttemptClass::Overloaded)]
fn passing_failures_are_tried_again(
    #[case] status: u16,
    #[case] reason: RetryReason,
    #[case] class: AttemptClass,
) {
    let judged = judge(Ok(reply(status, ERROR)), &first());
    let error = format!("http_{status}");
    assert_eq!(judged.verdict, Verdict::Retry { after: RetryAfter::Backoff, reason, error });
    assert_eq!((judged.class, judged.charged), (Some(class), true));
    let judged = judge(Ok(reply(status, ERROR)), &last());
    assert_eq!(judged.verdict, shown(status, ERROR));
    let told = Reply { should_retry: Some(true), ..reply(status, ERROR) };
    let judged = judge(Ok(told), &JudgeContext { retry_on: &RetryOn::NONE, ..first() });
    assert_eq!(judged.verdict, shown(status, ERROR));
    let told = Reply { should_retry: Some(false), ..reply(status, ERROR) };
    assert_eq!(judge(Ok(told), &first()).verdict, shown(status, ERROR));
}

#[test]
fn an_upstream_or_operator_that_asks_for_a_retry_gets_it() {
    for (status, body) in [(400, ERROR), (409, ERROR), (422, "")] {
        let told = Reply { should_retry: Some(true), ..reply(status, body) };
        assert_eq!(reason_of(&judge(Ok(told), &first())), Some(RetryReason::Conflict), "{status}");
    }
    let on = RetryOn::NONE.with_status(404);
    let judged = judge(Ok(reply(404, ERROR)), &JudgeContext { retry_on: &on, ..first() });
    assert_eq!(reason_of(&judged), Some(RetryReason::Conflict));
}

#[rstest]
#[case(r#"{"error":{"message":"Lock timeout, try again","code":null}}"#, true)]
#[case(r#"{"error":{"message":"x","code":"lock_timeout"}}"#, true)]
#[case(r#"{"error":{"message":"The resource is locked."}}"#, true)]
#[case(r#"{"error":{"message":"Your request was blocked."}}"#, false)]
#[case(r#"{"error":{"message":"Already cancelled"}}"#, false)]
#[case("not JSON", false)]
fn a_conflict_is_tried_again_only_for_a_lock(#[case] body: &str, #[case] again: bool) {
    let judged = judge(Ok(reply(409, body)), &first());
    assert_eq!(reason_of(&judged), again.then_some(RetryReason::Conflict));
}

#[rstest]
#[case(Some(30), RetryAfter::At(Timestamp::from_seconds(1_030)))]
#[case(Some(3_000), RetryAfter::At(Timestamp::from_seconds(2_000)))]
#[case(Some(0), RetryAfter::Backoff)]
#[case(None, RetryAfter::Backoff)]
fn a_named_wait_is_kept_up_to_the_deadline(#[case] seconds: Option<u64>, #[case] expected: RetryAfter) {
    let reply = Reply { retry_after: seconds.map(Duration::from_secs), ..reply(503, ERROR) };
    let Verdict::Retry { after, .. } = judge(Ok(reply), &first()).verdict else { panic!("no retry") };
    assert_eq!(after, expected);
}

#[rstest]
#[case(401, ERROR, true, Some(StopReason::Credential))]
#[case(402, ERROR, true, Some(StopReason::Quota))]
#[case(403, ERROR, false, Some(StopReason::Credential))]
#[case(403, ERROR, true, None)]
#[case(403, r#"{"error":{"type":"billing_error","message":"x"}}"#, true, Some(StopReason::Quota))]
#[case(429, QUOTA, true, Some(StopReason::Quota))]
#[case(
    400,
    r#"{"error":{"message":"Your credit balance is too low to access it."}}"#,
    true,
    Some(StopReason::Quota)
)]
#[case(400, r#"{"error":{"message":"Bad text: Your credit balance is too low"}}"#, true, None)]
#[case(200, r#"{"error":{"code":401}}"#, true, Some(StopReason::Credential))]
#[case(200, r#"{"error":{"code":"insufficient_quota"}}"#, true, Some(StopReason::Quota))]
fn the_operator_s_faults_stop_the_lane(
    #[case] status: u16,
    #[case] body: &str,
    #[case] lane_succeeded: bool,
    #[case] expected: Option<StopReason>,
) {
    for attempts in [0, 4] {
        let context = JudgeContext { lane_succeeded, attempts, ..first() };
        let judged = judge(Ok(reply(status, body)), &context);
        let stopped = match &judged.verdict {
            Verdict::LaneStopped { reason, detail } => {
                assert!(detail.starts_with("HTTP 4"), "{detail}");
                Some(*reason)
            }
            _ => None,
        };
        assert_eq!(stopped, expected);
        assert_eq!(judged.charged, expected.is_none());
        let refusal = (status != 200 || body.contains("quota")) && body.contains("insufficient_quota");
        assert_eq!(judged.refusal, refusal.then_some(Upstream429::Quota));
    }
}

#[rstest]
#[case(RATE, Upstream429::Rate)]
#[case(RPM, Upstream429::Rate)]
#[case("slow down", Upstream429::Rate)]
#[case("", Upstream429::Rate)]
#[case(r#"{"error":{"message":"Concurrency limit of 5 reached","code":"429"}}"#, Upstream429::Concurrency)]
#[case(r#"{"error":{"message":"Too many requests in flight.","type":"requests"}}"#, Upstream429::Concurrency)]
#[case(
    r#"{"object":"error","message":"Rate limit exceeded","type":"rate_limited","code":"1300"}"#,
    Upstream429::Rate
)]
fn a_429_about_rate_closes_the_lane_and_costs_nothing(#[case] body: &str, #[case] about: Upstream429) {
    let wait = Some(Duration::from_secs(7));
    for should_retry in [None, Some(false)] {
        let reply = Reply { retry_after: wait, should_retry, ..reply(429, body) };
        let judged = judge(Ok(reply), &last());
        assert_eq!(judged.verdict, Verdict::LaneRateLimited { retry_after: wait });
        assert_eq!((judged.class, judged.charged), (Some(AttemptClass::RateLimited), false));
        assert_eq!(judged.refusal, Some(about));
    }
}

#[test]
fn a_429_in_an_answer_is_one_too() {
    let judged = judge(Ok(reply(200, r#"{"error":{"code":429,"message":"Slow"}}"#)), &last());
    assert_eq!(judged.verdict, Verdict::LaneRateLimited { retry_after: None });
    assert_eq!(judged.class, Some(AttemptClass::RateLimited));
}

#[rstest]
#[case(r#"{"error":{"message":"Request too large for m on tokens per min (TPM)","type":"tokens"}}"#)]
#[case(r#"{"error":{"message":"Over TPM: Limit 30000, Requested 30001.","type":"tokens"}}"#)]
fn a_request_above_the_limit_itself_is_final(#[case] body: &str) {
    let judged = judge(Ok(reply(429, body)), &first());
    assert_eq!(code_of(&judged), Some(ErrorCode::TokenBudgetExceeded));
    assert_eq!((judged.refusal, judged.charged), (Some(Upstream429::Rate), true));
}

#[rstest]
#[case(RATE, 1, true, false)]
#[case(RATE, 2, true, true)]
#[case(RATE, 2, false, false)]
#[case(RATE, 200, false, false)]
#[case("", 2, true, true)]
#[case(RPM, 2, true, false)]
#[case(RPM, 8, true, false)]
#[case(RPM, 9, true, true)]
fn an_item_that_alone_is_refused_is_final(
    #[case] body: &str,
    #[case] refusals: u32,
    #[case] others_passed: bool,
    #[case] ends: bool,
) {
    let judged = judge(Ok(reply(429, body)), &JudgeContext { refusals, others_passed, ..first() });
    assert_eq!(code_of(&judged), ends.then_some(ErrorCode::TokenBudgetExceeded));
    assert_eq!(judged.charged, ends);
}

#[rstest]
#[case(r#"{"error":{"code":502,"message":"x"}}"#, 502)]
#[case(r#"{"error":{"code":"503"}}"#, 503)]
#[case(r#"{"error":{"code":"server_error","message":"x"},"status":"failed"}"#, 500)]
#[case(r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#, 529)]
#[case(r#"{"error":"went wrong"}"#, 500)]
#[case(r#"{"error":{"code":7}}"#, 500)]
#[case(r#"{"error":[]}"#, 500)]
#[case(r#"{"object":"error","message":"x","code":500}"#, 500)]
fn an_error_in_an_answer_counts_as_its_status(#[case] body: &str, #[case] status: u16) {
    let judged = judge(Ok(reply(200, body)), &first());
    assert!(reason_of(&judged).is_some(), "{judged:?}");
    assert_eq!(judged.class, Some(class_of(status)));
    assert_eq!(judge(Ok(reply(200, body)), &last()).verdict, shown(status, body));
}

#[rstest]
#[case(r#"{"error":{"code":400,"message":"x"}}"#, 400)]
#[case(r#"{"error":{"code":"invalid_prompt"}}"#, 400)]
#[case(r#"{"error":{"code":"image_too_large"}}"#, 400)]
#[case(r#"{"error":{"type":"invalid_request_error","code":null}}"#, 400)]
#[case(r#"{"error":{"code":403,"message":"moderated"}}"#, 403)]
fn the_item_s_own_error_in_an_answer_is_final(#[case] body: &str, #[case] status: u16) {
    assert_eq!(judge(Ok(reply(200, body)), &first()).verdict, shown(status, body));
}

#[rstest]
fn an_answer_that_is_no_json_object_is_tried_again(
    #[values(
        "",
        "{",
        "{\"a\":1",
        "[]",
        "\"text\"",
        "null",
        "7",
        "-7",
        "1.5",
        "true",
        "<html>",
        "{} {}",
        "{\"a\":\"\n\"}"
    )]
    body: &str,
) {
    let judged = judge(Ok(reply(200, body)), &first());
    let error = "invalid_response".to_owned();
    let reason = RetryReason::InvalidResponse;
    assert_eq!(judged.verdict, Verdict::Retry { after: RetryAfter::Backoff, reason, error });
    assert_eq!(judged.class, Some(AttemptClass::ServerError));
    assert_eq!(code_of(&judge(Ok(reply(200, body)), &last())), Some(ErrorCode::InvalidResponse));
    let context = JudgeContext { retry_on: &RetryOn::NONE, ..first() };
    assert_eq!(code_of(&judge(Ok(reply(200, body)), &context)), Some(ErrorCode::InvalidResponse));
}

#[test]
fn text_that_is_not_utf8_is_no_answer() {
    let reply = Reply { body: Bytes::from_static(b"{\"a\":\"\xff\"}"), ..reply(200, "") };
    assert_eq!(code_of(&judge(Ok(reply), &last())), Some(ErrorCode::InvalidResponse));
}

#[rstest]
#[case(301)]
#[case(304)]
#[case(307)]
#[case(600)]
fn what_no_endpoint_answers_is_final(#[case] status: u16) {
    let judged = judge(Ok(reply(status, "<html>\u{1}\"moved\"</html>")), &first());
    assert_eq!(judged.verdict, shown(status, r#""<html>\u0001\"moved\"</html>""#));
    assert_eq!(judged.class, Some(AttemptClass::ServerError));
}

#[test]
fn an_error_page_becomes_a_short_json_string() {
    let page = format!("x{}", "é".repeat(20_000));
    let Verdict::Failed { payload: Payload::Response { body, .. } } =
        judge(Ok(reply(502, &page)), &last()).verdict
    else {
        panic!("not failed");
    };
    let text: String = serde_json::from_slice(&body).expect("a JSON string");
    assert!(page.starts_with(&text) && text.len() > 16_000 && text.len() <= 16_384, "{}", text.len());
}

#[rstest]
#[case(CallError::Connect { detail: "refused".to_owned() }, RetryReason::Network, ErrorCode::ConnectionError)]
#[case(CallError::BrokenOff { detail: "reset".to_owned() }, RetryReason::Network, ErrorCode::ConnectionError)]
#[case(timeout(Phase::Connect), RetryReason::Network, ErrorCode::ConnectionError)]
#[case(timeout(Phase::FirstByte), RetryReason::Timeout, ErrorCode::RequestTimeout)]
#[case(timeout(Phase::Idle), RetryReason::Timeout, ErrorCode::RequestTimeout)]
#[case(timeout(Phase::Total), RetryReason::Timeout, ErrorCode::RequestTimeout)]
fn calls_without_a_reply_are_tried_again(
    #[case] error: CallError,
    #[case] reason: RetryReason,
    #[case] code: ErrorCode,
) {
    let judged = judge(Err(error.clone()), &first());
    let text = code.as_str().to_owned();
    assert_eq!(judged.verdict, Verdict::Retry { after: RetryAfter::Backoff, reason, error: text });
    assert_eq!((judged.class, judged.charged), (error.class(), true));
    assert!(judged.class.is_some());
    assert_eq!(code_of(&judge(Err(error.clone()), &last())), Some(code));
    let others = RetryOn::NONE.with_server_errors();
    let others = if reason == RetryReason::Network { others.with_timeouts() } else { others.with_network() };
    let context = JudgeContext { retry_on: &others, ..first() };
    assert_eq!(code_of(&judge(Err(error), &context)), Some(code));
}

fn timeout(phase: Phase) -> CallError {
    CallError::Timeout { phase, after: Duration::from_secs(1) }
}

#[test]
fn a_reply_above_the_cap_is_final() {
    let judged = judge(Err(CallError::TooLarge { limit: 9 }), &first());
    assert_eq!(code_of(&judged), Some(ErrorCode::ResponseTooLarge));
}

#[test]
fn a_missing_key_stops_the_lane_and_was_no_call() {
    let judged = judge(Err(CallError::Credential { detail: "KEY is not set".to_owned() }), &last());
    let verdict =
        Verdict::LaneStopped { reason: StopReason::Credential, detail: "KEY is not set".to_owned() };
    assert_eq!(judged, Judgement { class: None, refusal: None, usage: None, charged: false, verdict });
}

fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just("rate_limit_exceeded"),
        Just("insufficient_quota"),
        Just("server_error"),
        Just("Request too large"),
        Just("Limit 5, Requested 99999999999999999999999"),
        Just("é\\u0000 \\ud800"),
    ];
    let code = prop_oneof![
        any::<i64>().prop_map(|code| code.to_string()),
        word.clone().prop_map(|word| format!("\"{word}\""))
    ];
    let error = (code, word).prop_map(|(code, message)| {
        format!(r#"{{"error":{{"code":{code},"message":"{message}"}},"usage":{{"prompt_tokens":{code}}}}}"#)
    });
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        r#"[\[\]{}:,"a0 \n]{0,60}"#.prop_map(String::into_bytes),
        error.prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn whatever_comes_is_judged_and_what_is_shown_is_one_line_of_json(
        status in 100_u16..1_000,
        body in any_body(),
        wait in prop::option::of(0_u64..5_000),
        should_retry: Option<bool>,
        attempts in 0_u32..6,
        refusals in 0_u32..12,
        flags: (bool, bool),
    ) {
        let wait = wait.map(Duration::from_secs);
        let reply = Reply { body: body.into(), retry_after: wait, should_retry, ..reply(status, "") };
        let context = JudgeContext {
            attempts, refusals, lane_succeeded: flags.0, others_passed: flags.1, ..first()
        };
        let judged = judge(Ok(reply), &context);
        match &judged.verdict {
            Verdict::Succeeded { payload } | Verdict::Failed { payload } => {
                prop_assert!(judged.charged);
                if let Payload::Response { body, .. } = payload {
                    prop_assert!(memchr::memchr2(b'\n', b'\r', body).is_none());
                    let checked: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(body);
                    prop_assert!(checked.is_ok());
                }
            }
            Verdict::Retry { after, .. } => {
                prop_assert!(judged.charged && attempts + 1 < context.max_attempts);
                if let RetryAfter::At(moment) = after {
                    prop_assert!(*moment > context.now && *moment <= context.deadline);
                }
                let final_at_once = matches!(status, 100..=199 | 300..=407 | 410..=424 | 429 | 600..);
                prop_assert!(!final_at_once || (should_retry == Some(true) && matches!(status, 400 | 403..=428)));
            }
            Verdict::LaneRateLimited { .. } | Verdict::LaneStopped { .. } => prop_assert!(!judged.charged),
        }
    }
}
