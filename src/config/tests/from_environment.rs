//! Providers that need no file.

use super::*;

/// `model → provider` for each model.
fn routes(variables: &[(&str, &str)], models: &[&str]) -> Vec<String> {
    let config = Given { variables, ..NOTHING }.load().unwrap();
    let route = |model: &&str| {
        let names: Vec<_> = config.route(model).into_iter().map(|it| it.provider.name.clone()).collect();
        format!("{model} → {}", names.join(", "))
    };
    models.iter().map(route).collect()
}

#[test]
fn an_only_provider_takes_everything() {
    for variable in ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENROUTER_API_KEY"] {
        let name = variable.split('_').next().unwrap().to_lowercase();
        let routes = routes(&[(variable, "sk-1")], &["gpt-4o", "claude-x", "meta/llama"]);
        assert_eq!(routes, ["gpt-4o", "claude-x", "meta/llama"].map(|model| format!("{model} → {name}")));
    }
}

#[test]
fn several_share_by_the_models_name() {
    let keys = [("OPENAI_API_KEY", "sk-1"), ("ANTHROPIC_API_KEY", "sk-2"), ("OPENROUTER_API_KEY", "sk-3")];
    let models = ["gpt-4o", "claude-x", "meta/llama"];
    assert_eq!(
        routes(&keys, &models),
        ["gpt-4o → openai", "claude-x → anthropic", "meta/llama → openrouter"]
    );
    assert_eq!(routes(&keys[1..], &models), ["gpt-4o → ", "claude-x → anthropic", "meta/llama → openrouter"]);
    let with_ollama = [("ANTHROPIC_API_KEY", "sk-2"), ("OLLAMA_HOST", "")];
    assert_eq!(routes(&with_ollama, &["llama3"]), ["llama3 → anthropic"], "an empty variable is not set");
    let with_ollama = [("ANTHROPIC_API_KEY", "sk-2"), ("OLLAMA_HOST", "box")];
    assert_eq!(routes(&with_ollama, &models[..2]), ["gpt-4o → ollama", "claude-x → anthropic"]);
}

#[test]
fn ollama_does_not_compete_with_openai() {
    let config = variables(&[("OPENAI_API_KEY", "sk-1"), ("OLLAMA_HOST", "box")]);
    assert_eq!(config.providers.len(), 1);
    assert!(config.notices[0].contains("OLLAMA_HOST"), "{:?}", config.notices);
}

#[rstest]
#[case("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1")]
#[case("ANTHROPIC_BASE_URL", "https://proxy.example", "https://proxy.example/v1")]
#[case("ANTHROPIC_BASE_URL", "https://proxy.example/v1/", "https://proxy.example/v1")]
#[case("OLLAMA_HOST", "0.0.0.0", "http://127.0.0.1:11434/v1")]
fn a_base_url_without_a_key_is_enough(#[case] name: &str, #[case] value: &str, #[case] url: &str) {
    let config = variables(&[(name, value)]);
    assert_eq!(config.providers[0].base_url.as_str(), url);
    assert_eq!(config.providers[0].auth, AuthScheme::None);
    assert_eq!(config.providers[0].key, None);
}

#[test]
fn a_key_alone_goes_to_the_providers_own_url() {
    let config = variables(&[("ANTHROPIC_API_KEY", "sk-1")]);
    let provider = &config.providers[0];
    assert_eq!(provider.base_url.as_str(), "https://api.anthropic.com/v1");
    assert_eq!(provider.auth, AuthScheme::XApiKey);
    let key = KeySource::Variable { name: "ANTHROPIC_API_KEY".to_owned(), key: Secret::new("sk-1") };
    assert_eq!(provider.key, Some(key));
}

#[test]
fn a_file_that_names_a_provider_stands_alone() {
    let given = Given {
        file: "providers.local.base_url = 'http://127.0.0.1:8000/v1'",
        variables: &[("OPENAI_API_KEY", "sk-1")],
        ..NOTHING
    };
    let config = given.load().unwrap();
    assert_eq!(config.providers.len(), 1);
    assert_eq!(config.providers[0].key, None);
}

#[test]
fn an_empty_section_names_no_provider() {
    let given = Given { file: "[providers]", variables: &[("OPENAI_API_KEY", "sk-1")], ..NOTHING };
    assert_eq!(given.load().unwrap().providers[0].name, "openai");
}

#[test]
fn variables_overlay_providers_of_every_source() {
    let config = variables(&[
        ("OPENAI_API_KEY", "sk-1"),
        ("SLUICEGATE__PROVIDERS__OPENAI__LIMITS__REQUESTS", "500/min"),
        ("SLUICEGATE__PROVIDERS__OPENAI__API_KEY_FILE", "/run/secrets/openai"),
        ("SLUICEGATE__PROVIDERS__OPENAI__HEADERS", "X-Team=search, x-Org = a=b"),
    ]);
    let provider = &config.providers[0];
    assert_eq!(provider.limits.requests, [rate(500, 60)]);
    assert_eq!(
        provider.key,
        Some(KeySource::File("/run/secrets/openai".into())),
        "the stronger source's key"
    );
    let headers =
        [("x-team", "search"), ("x-org", "a=b")].map(|(name, value)| (name.to_owned(), Secret::new(value)));
    assert_eq!(provider.headers, headers);

    let whole = variables(&[("SLUICEGATE__PROVIDERS__LOCAL__BASE_URL", "http://127.0.0.1:8000/v1")]);
    assert_eq!(whole.providers[0].name, "local");
}

#[test]
fn a_well_known_table_needs_only_its_limits() {
    let given = Given {
        file: "providers.openai.limits.requests = 5",
        variables: &[("OPENAI_API_KEY", "sk-1")],
        ..NOTHING
    };
    let provider = &given.load().unwrap().providers[0];
    assert_eq!(provider.base_url.as_str(), "https://api.openai.com/v1");
    assert!(provider.key.is_some());

    let elsewhere = Given { file: "providers.openai.base_url = 'http://elsewhere.example/v1'", ..given };
    assert_eq!(elsewhere.load().unwrap().providers[0].key, None, "a key is not sent where nobody said so");
}

#[test]
fn admin_keys_come_from_a_variable_and_from_a_file() {
    let given = Given {
        file: "auth.admin_key_file = 'admin'",
        variables: &[("SLUICEGATE_ADMIN_KEY", "0123456789abcdef0123456789abcdef")],
        ..NOTHING
    };
    let config = given.load().unwrap();
    assert_eq!(config.admin_keys.len(), 2);
    assert_eq!(config.admin_keys[1], KeySource::File("admin".into()));
    assert_eq!(config.admin_keys[0].read().unwrap().expose(), "0123456789abcdef0123456789abcdef");
    assert!(!format!("{config:?}{}", config.show()).contains("0123456789abcdef"));
    assert_eq!(variables(&[("SLUICEGATE_ADMIN_KEY", "")]).admin_keys, []);

    let short = Given { variables: &[("SLUICEGATE_ADMIN_KEY", "hunter2")], ..NOTHING };
    let problems = short.problems();
    let [problem] = problems.as_slice() else { panic!("{problems:?}") };
    assert_eq!(problem.key, "SLUICEGATE_ADMIN_KEY");
    let said = problem.to_string();
    assert!(said.contains("at least 24") && !said.contains("hunter2"), "{said}");
}
