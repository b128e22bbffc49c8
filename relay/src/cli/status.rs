//! `walpost status`: what a running relay is doing, source by source.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use clap::Args;
use secrecy::ExposeSecret;

use super::output::{bytes, is_screen, print, print_json, printable, table};
use super::{Answer, ConfigSource, Exit, Failure, Output};
use crate::admin::{SourceJson, StatusJson};
use crate::settings::AdminSettings;

/// Shows lag, retained WAL, confirmed position and rate of each source.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Exit 1 when a source does not stream.
    #[arg(long)]
    check: bool,
    /// Wait until every source streams, at most --timeout.
    #[arg(long, value_name = "STATE", value_parser = ["ready"])]
    wait: Option<String>,
    /// How long --wait waits, in seconds.
    #[arg(long, default_value_t = 60, requires = "wait")]
    timeout: u64,
    /// Go on until Ctrl-C: a table that is painted again on a terminal, a line for each source
    /// elsewhere.
    #[arg(long, conflicts_with_all = ["wait", "check"])]
    watch: bool,
    /// How often --watch looks, in seconds.
    #[arg(
        long, default_value_t = 2, requires = "watch",
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    interval: u64,
}

/// From the upper left corner, over what stands there.
const REPAINT: &str = "\x1b[H\x1b[J";

pub(super) async fn run(arguments: Arguments, config: &ConfigSource, output: Output) -> Answer {
    let settings = config.load()?;
    if arguments.watch {
        let interval = Duration::from_secs(arguments.interval);
        return tokio::select! {
            answer = watch(&settings.admin, interval, output) => answer,
            _ = tokio::signal::ctrl_c() => Ok(Exit::Fine),
        };
    }
    let limit = Duration::from_secs(if arguments.wait.is_some() { arguments.timeout } else { 0 });
    let deadline = tokio::time::Instant::now() + limit;
    let status = loop {
        let status = ask(&settings.admin).await;
        let is_done = arguments.wait.is_none() || status.as_ref().is_ok_and(is_ready);
        if is_done || tokio::time::Instant::now() >= deadline {
            break status?;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    };
    match output {
        Output::Json => print_json(&status)?,
        Output::Text => print(&text(&status))?,
    }
    let wants_ready = arguments.check || arguments.wait.is_some();
    Ok(if wants_ready && !is_ready(&status) { Exit::Findings } else { Exit::Fine })
}

/// Shows the status again and again; a relay that is away is waited for.
///
/// Cancellation-safe: nothing is kept.
async fn watch(admin: &AdminSettings, interval: Duration, output: Output) -> Answer {
    let is_painted = output == Output::Text && is_screen();
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match (ask(admin).await, output) {
            (Ok(status), Output::Json) => print_json(&status)?,
            (Ok(status), Output::Text) if is_painted => {
                print(&format!("{REPAINT}{}\n{}", status.at, text(&status)))?;
            }
            (Ok(status), Output::Text) => print(&lines(&status))?,
            (Err(failure), _) if is_painted => print(&format!("{REPAINT}{}\n", failure.error))?,
            // stdout holds only the answer, and there is none.
            (Err(failure), _) => eprintln!("{}", failure.error),
        }
    }
}

/// One line for each source, for a log or a pipe: names before values, so that a line stands for
/// itself.
fn lines(status: &StatusJson) -> String {
    let line = |source: &SourceJson| {
        let fault = source.fault.as_ref().filter(|_| !is_streaming(source));
        format!(
            "{} {} {} lag={:.1}s rate={:.0}/s in_flight={} confirmed={} retained_wal={} parked={}\
             {}\n",
            status.at,
            printable(&source.source),
            source.state,
            source.lag_seconds,
            source.events_per_second,
            source.pending_events,
            source.confirmed_lsn,
            source.retained_wal_bytes.map_or_else(|| "?".to_owned(), |count| count.to_string()),
            source.parked_events,
            fault.map_or_else(String::new, |fault| format!(" fault={}", fault.code)),
        )
    };
    status.sources.iter().map(line).collect()
}

fn is_streaming(source: &SourceJson) -> bool {
    matches!(source.state.as_str(), "streaming" | "catching_up")
}

fn is_ready(status: &StatusJson) -> bool {
    status.sources.iter().all(is_streaming)
}

async fn ask(admin: &AdminSettings) -> Result<StatusJson, Failure> {
    let (_, body) = get(admin, "/api/v1/status").await?;
    serde_json::from_str(&body).map_err(Failure::could_not_tell)
}

fn text(status: &StatusJson) -> String {
    let head = [
        "SOURCE",
        "STATE",
        "BEHIND",
        "EVENTS/S",
        "IN FLIGHT",
        "CONFIRMED",
        "RETAINED WAL",
        "PARKED",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for source in &status.sources {
        let behind = match source.lag_bytes {
            Some(count) => format!("{:.1} s {}", source.lag_seconds, bytes(count)),
            None => format!("{:.1} s", source.lag_seconds),
        };
        rows.push(vec![
            printable(&source.source),
            source.state.clone(),
            behind,
            format!("{:.0}", source.events_per_second),
            source.pending_events.to_string(),
            source.confirmed_lsn.clone(),
            source.retained_wal_bytes.map_or_else(|| "?".to_owned(), bytes),
            source.parked_events.to_string(),
        ]);
    }
    let mut text = table(&rows);
    for source in &status.sources {
        if let Some(fault) = &source.fault {
            let what = printable(&fault.text);
            text.push_str(&format!("{}: {} [{}]\n", source.source, what, fault.code));
        }
    }
    text
}

/// Asks the daemon's admin address; an unspecified one is asked on loopback.
pub(super) async fn get(
    admin: &AdminSettings,
    path: &str,
) -> Result<(reqwest::StatusCode, String), Failure> {
    let mut address = admin.listen;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy().build();
    let mut request =
        client.map_err(Failure::could_not_tell)?.get(format!("http://{address}{path}"));
    if let Some(token) = &admin.token {
        request = request.bearer_auth(token.expose_secret());
    }
    let failed = |error: reqwest::Error| {
        Failure::could_not_tell(anyhow::anyhow!(
            "no relay answers at {address} (admin.listen): {}",
            error.without_url()
        ))
    };
    let response = request.send().await.map_err(failed)?;
    let status = response.status();
    Ok((status, response.text().await.map_err(failed)?))
}
