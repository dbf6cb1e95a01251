//! What the rows must say of each other: one statement for each rule, the same in both databases, that selects a text
//! for everything that breaks it.

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Invariant {
    /// The kind of fault, as lines begin with it.
    pub(in crate::store) kind: &'static str,
    /// Selects one text per fault.
    pub(in crate::store) sql: String,
}

/// A batch's counter, and what it comes to over the batch's rows.
const COUNTERS: [(&str, &str); 11] = [
    ("succeeded", "CASE WHEN status = 'succeeded' THEN 1 ELSE 0 END"),
    ("failed", "CASE WHEN status = 'failed' THEN 1 ELSE 0 END"),
    ("expired", "CASE WHEN status = 'expired' THEN 1 ELSE 0 END"),
    ("cancelled", "CASE WHEN status = 'cancelled' THEN 1 ELSE 0 END"),
    ("attempts", "attempts"),
    ("output_bytes", "CASE WHEN status = 'succeeded' THEN line_bytes ELSE 0 END"),
    ("error_bytes", "CASE WHEN status = 'succeeded' THEN 0 ELSE line_bytes END"),
    ("input_tokens", "input_tokens"),
    ("cached_tokens", "cached_tokens"),
    ("output_tokens", "output_tokens"),
    ("reasoning_tokens", "reasoning_tokens"),
];

/// Tables whose rows belong to a row elsewhere: table, column, and where that row must be.
const OWNED: [(&str, &str, &str); 13] = [
    ("file", "app", "app"),
    ("file_summary", "file", "file"),
    ("segment", "file", "file"),
    ("item_key", "file", "file"),
    ("duplicate_line", "file", "file"),
    ("batch", "app", "app"),
    ("batch_detail", "batch", "batch"),
    ("cursor", "batch", "batch"),
    ("batch_segment", "batch", "batch"),
    ("result", "batch", "batch"),
    ("result_chunk", "batch", "batch"),
    ("retry", "batch", "batch"),
    ("api_key", "app", "app"),
];

/// Rules of one statement each.
const RULES: [(&str, &str); 10] = [
    (
        "positions",
        "SELECT 'batch ' || id || ': positions of ' || rows || ' results run from ' || first_place || ' to ' || last_place \
         FROM (SELECT batch.id, count(*) AS rows, min(result.id - (batch.key << 32)) AS first_place, \
                      max(result.id - (batch.key << 32)) AS last_place \
               FROM batch JOIN result ON result.batch = batch.key WHERE batch.deleted_at IS NULL \
               GROUP BY batch.key, batch.id) AS found \
         WHERE first_place <> 1 OR last_place <> rows",
    ),
    (
        "results",
        "SELECT 'batch ' || min(batch.id) || ': line ' || line || ' has ' || count(*) || ' results' \
         FROM result JOIN batch ON batch.key = result.batch GROUP BY result.batch, line HAVING count(*) > 1",
    ),
    (
        "ended",
        "SELECT 'batch ' || id || ': it is ' || status || ' with ' || (succeeded + failed + expired + cancelled) \
         || ' of ' || total || ' results' FROM batch \
         WHERE deleted_at IS NULL AND ended_at IS NOT NULL AND succeeded + failed + expired + cancelled <> total",
    ),
    (
        "ended",
        "SELECT 'batch ' || id || ': it is ' || status || ' and has work left to do' FROM batch \
         WHERE deleted_at IS NULL AND ended_at IS NOT NULL \
         AND (EXISTS (SELECT 1 FROM cursor WHERE cursor.batch = batch.key) \
              OR EXISTS (SELECT 1 FROM retry WHERE retry.batch = batch.key))",
    ),
    (
        "running",
        "SELECT 'batch ' || id || ': it runs and its input is gone' FROM batch \
         WHERE ended_at IS NULL AND NOT EXISTS (SELECT 1 FROM file WHERE file.key = batch.file)",
    ),
    (
        "running",
        "SELECT 'batch ' || id || ': it has ' || total || ' items, its input ' || items FROM \
         (SELECT batch.id, total, file.items FROM batch JOIN file ON file.key = batch.file \
          WHERE ended_at IS NULL) AS found WHERE total <> items",
    ),
    (
        "retries",
        "SELECT 'batch ' || batch.id || ': line ' || retry.line || ' waits for a retry and has a result' \
         FROM retry JOIN result ON result.batch = retry.batch AND result.line = retry.line \
         JOIN batch ON batch.key = retry.batch",
    ),
    (
        "input",
        "SELECT 'file ' || id || ': it has ' || items || ' items, its segments ' || counted FROM \
         (SELECT file.id, file.items, coalesce(CAST(sum(segment.item_count) AS bigint), 0) AS counted \
          FROM file LEFT JOIN segment ON segment.file = file.key \
          WHERE file.source IN ('upload', 'inline') AND file.status = 'processed' AND file.deleted_at IS NULL \
          GROUP BY file.key, file.id, file.items) AS found WHERE items <> counted",
    ),
    (
        "views",
        "SELECT 'file ' || file.id || ': it shows results of a batch that is gone' FROM file \
         WHERE file.batch IS NOT NULL AND file.deleted_at IS NULL \
         AND NOT EXISTS (SELECT 1 FROM batch WHERE batch.key = file.batch)",
    ),
    (
        "views",
        "SELECT 'batch ' || batch.id || ': it has no detail row' FROM batch WHERE deleted_at IS NULL \
         AND NOT EXISTS (SELECT 1 FROM batch_detail WHERE batch_detail.batch = batch.key)",
    ),
];

/// Every rule.
pub(in crate::store) fn invariants() -> Vec<Invariant> {
    let mut all = vec![Invariant { kind: "counters", sql: counters() }];
    all.extend(RULES.iter().map(|(kind, sql)| Invariant { kind, sql: (*sql).to_owned() }));
    all.extend(OWNED.iter().map(|owned| Invariant { kind: "orphans", sql: orphans(*owned) }));
    all
}

/// Counters that differ from the rows they count.
fn counters() -> String {
    let sums = COUNTERS.map(|(name, value)| format!("CAST(sum({value}) AS bigint) AS {name}"));
    let compared = COUNTERS.map(|(name, _)| {
        format!(
            "SELECT batch.id, '{name}' AS counter, batch.{name} AS counted, coalesce(found.{name}, 0) AS in_rows \
             FROM batch LEFT JOIN found ON found.batch = batch.key WHERE batch.deleted_at IS NULL"
        )
    });
    format!(
        "WITH found AS MATERIALIZED (SELECT batch, {} FROM result GROUP BY batch), compared AS ({}) \
         SELECT 'batch ' || id || ': ' || counter || ' is ' || counted || ', its rows come to ' || in_rows \
         FROM compared WHERE counted <> in_rows",
        sums.join(", "),
        compared.join(" UNION ALL ")
    )
}

/// Rows whose owner is not there.
fn orphans((table, column, owner): (&str, &str, &str)) -> String {
    format!(
        "SELECT '{table}: ' || count(*) || ' rows of {owner} ' || min({column}) || ', which is not there' \
         FROM {table} WHERE NOT EXISTS (SELECT 1 FROM {owner} WHERE {owner}.key = {table}.{column}) \
         GROUP BY {column}"
    )
}
