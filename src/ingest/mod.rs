//! Stub until merged.
/// stub
pub fn lay_defaults(_defaults: &serde_json::value::RawValue, body: &[u8]) -> Vec<u8> { body.to_vec() }
