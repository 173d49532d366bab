//! An order that one member passes on to another, over HTTP and with the cluster secret: whatever the client
//! port asks for (a password, TLS), members trust each other by that.
//!
//! An order is passed on once. It says so, and whoever gets it and is not the primary either refuses it: two
//! nodes that take each other for the primary would pass it between them until all of them gave up.

use std::time::Duration;

use serde_json::Value;

/// A header that a page of another site cannot send without the browser asking first.
pub(crate) const GUARD: &str = "x-understudy-request";

/// How often the order was passed on.
pub(crate) const HOPS: &str = "x-understudy-hops";

/// Sends it, and waits for the answer: status and body. Blocks the thread.
pub(crate) fn pass_on(
    addr: &str,
    path: &str,
    secret: Option<&str>,
    body: &Value,
    patience: Duration,
) -> Result<(u16, Value), String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(patience))
        .http_status_as_error(false)
        .build()
        .into();
    let mut request = agent
        .post(format!("http://{addr}/{path}"))
        .header(GUARD, "1")
        .header(HOPS, "1");
    if let Some(secret) = secret {
        request = request.header("authorization", format!("Bearer {secret}"));
    }
    let failed = |error: ureq::Error| format!("{addr}: {error}");
    let mut answer = request.send_json(body).map_err(failed)?;
    let status = answer.status().as_u16();
    let body: Value = answer.body_mut().read_json().map_err(failed)?;
    Ok((status, body))
}
