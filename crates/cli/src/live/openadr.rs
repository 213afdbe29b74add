//! `offtake grid follow`: an adapter between a utility's OpenADR server (VTN) and a fleet. What is to be done is decided
//! in `offtake-openadr`; here are the calls to both sides, by the API that people have too.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use offtake_client::{Client, ClientError, Method, Trust};
use offtake_openadr::{
    Action, Credentials, Follower, Limit, Listing, Report, Scope, Seen, Settings, Standing, Trouble,
};
use offtake_protocol::rest::{CapView, FleetView, GridEvent, GridEventState, GridEventView};
use offtake_units::{Duration, Ppm, Timestamp, Watts};
use tokio::signal::unix::{SignalKind, signal};

use super::Common;
use super::grid::share;
use crate::connection::segment;
use crate::context::Surroundings;
use crate::show::figures::now_ms;
use crate::show::grid;
use crate::terminal::{BadInput, print, printable};

#[derive(Args)]
pub struct Arguments {
    /// The VTN: https://HOST/PATH, or http:// to this machine
    #[arg(long, value_name = "URL")]
    vtn: String,
    /// The client that the VTN knows this fleet by
    #[arg(long, value_name = "ID")]
    client_id: String,
    /// The file with the client's secret
    #[arg(long, value_name = "FILE")]
    secret_file: PathBuf,
    /// Where tokens are given [default: /auth/token of the VTN]
    #[arg(long, value_name = "URL")]
    token_url: Option<String>,
    /// The certificate of the authority that signed the VTN's [default: this machine's]
    #[arg(long, value_name = "PEM")]
    vtn_ca: Option<PathBuf>,
    /// The programme whose events are followed
    #[arg(long, value_name = "NAME")]
    program: String,
    /// The cap that they limit
    #[arg(long, value_name = "CAP")]
    cap: String,
    /// What a grid emergency leaves of what the cap allows, such as 40% [default: one is only told]
    #[arg(long, value_name = "SHARE")]
    emergency: Option<String>,
    /// How often the VTN is asked, from 1s to 2m
    #[arg(long, value_name = "TIME", default_value = "10s")]
    every: Duration,
    #[command(flatten)]
    common: Common,
}

/// The longest `--every`: reports are of readings at most five minutes apart, and a round has calls of its own.
const LONGEST_ROUND: Duration = Duration::from_secs(120);
/// The server's least notice, and a second in which an announcement reaches it.
const NOTICE: Duration = Duration::from_secs(11);
/// The longest pause where one side is away, or `--every` where that is longer.
const LONGEST_PAUSE: Duration = Duration::MINUTE;
/// A whole call to the server.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(20);
/// Many servers close connections that idle for half a minute, perhaps just when the next call begins.
const LONGEST_IDLE: std::time::Duration = std::time::Duration::from_secs(5);
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let (mut adapter, settings) = Adapter::of(arguments)?;
    let mut follower = Follower::new(settings);
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = adapter.follow(&mut follower, arguments.every) => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

/// Both sides.
struct Adapter {
    vtn: offtake_openadr::Client,
    server: Client,
    program: String,
    client: String,
    cap: String,
    json: bool,
}

impl Adapter {
    fn of(arguments: &Arguments) -> anyhow::Result<(Self, Settings)> {
        let Arguments { client_id, secret_file: file, token_url, program, cap, every, .. } = arguments;
        if !(Duration::from_secs(1)..=LONGEST_ROUND).contains(every) {
            return Err(BadInput(format!("--every is {every}; allowed is from 1s to 2m")).into());
        }
        [Some(&arguments.vtn), token_url.as_ref()].into_iter().flatten().try_for_each(|url| keeps_secrets(url))?;
        let secret = std::fs::read_to_string(file).map_err(|error| {
            BadInput(format!("the client's secret cannot be read from {}: {error}", file.display()))
        })?;
        if secret.trim().is_empty() {
            let empty = format!("{} is empty; it is to hold the client's secret", file.display());
            return Err(BadInput(empty).into());
        }
        let trust = arguments.vtn_ca.clone().map_or(Trust::System, Trust::Authority);
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            // Plain HTTP to this machine would give a proxy the secret as it is.
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(LONGEST_IDLE)
            .tls_backend_preconfigured(trust.configuration()?)
            .build()
            .context("no connection can be made")?;
        let credentials =
            Credentials { client: client_id.clone(), secret: secret.trim().to_owned(), token_url: token_url.clone() };
        let emergency = arguments.emergency.as_deref().map(share).transpose()?.map(Ppm::new);
        let scope = Scope { vtn: arguments.vtn.clone(), program: program.clone(), cap: cap.clone() };
        let adapter = Self {
            vtn: offtake_openadr::Client::new(http, &arguments.vtn, credentials),
            server: Client::new(Surroundings::of_process().find(&arguments.common.server)?)?,
            program: program.clone(),
            client: client_id.clone(),
            cap: cap.clone(),
            json: arguments.common.json,
        };
        Ok((adapter, Settings { scope, emergency, client: client_id.clone() }))
    }

    /// Looks and acts until somebody stops it. Where one side is away, the pauses grow.
    async fn follow(&mut self, follower: &mut Follower, every: Duration) -> anyhow::Result<()> {
        let mut pause = every;
        loop {
            let seen = self.look(follower).await;
            let is_well = seen.vtn.is_ok() && seen.standing.is_ok();
            let actions = follower.decide(Timestamp::from_millis(now_ms()), &seen);
            self.act(follower, actions).await?;
            pause = if is_well { every } else { (pause + pause).min(LONGEST_PAUSE.max(every)) };
            tokio::time::sleep(std::time::Duration::from_millis(pause.as_millis().unsigned_abs())).await;
        }
    }

    async fn look(&mut self, follower: &mut Follower) -> Seen {
        let vtn = self.listing().await;
        let view = self.view().await;
        let mut gone = BTreeSet::new();
        if let (Ok(listing), Ok((standing, _))) = (&vtn, &view) {
            let mut wrong = None;
            for event in follower.missing(listing, standing) {
                match self.vtn.is_gone(&event).await {
                    Ok(true) => drop(gone.insert(event)),
                    Ok(false) => {}
                    // The list is good all the same: what it asks for is announced, and what stands of this event holds.
                    Err(trouble) => {
                        let is_away = matches!(trouble, Trouble::Unreachable { .. });
                        wrong.get_or_insert_with(|| format!("{trouble}; what stands of event {event} holds"));
                        if is_away {
                            break;
                        }
                    }
                }
            }
            tell(follower, "whether an event is gone", wrong);
        }
        let watts = |watts: u64| Watts::new(i64::try_from(watts).unwrap_or(i64::MAX));
        let cap = view.as_ref().ok().map(|(_, cap)| (watts(cap.declared_w.unwrap_or(cap.watts)), watts(cap.used_w)));
        let (declared, drawn) = cap.unwrap_or_default();
        Seen { vtn, gone, standing: view.map(|(standing, _)| standing), declared, drawn }
    }

    async fn listing(&mut self) -> Result<Listing, Trouble> {
        let program = self.vtn.program(&self.program).await?;
        let events = self.vtn.events(&program).await?;
        Ok(offtake_openadr::listing(&events, &program, &self.client))
    }

    /// The limits that stand under the cap, and the cap itself.
    async fn view(&self) -> Result<(Vec<Standing>, CapView), String> {
        let fleet: FleetView = self.ask(self.server.get("/v1/fleet")).await?;
        let events: Vec<GridEventView> = self.ask(self.server.get("/v1/grid/events")).await?;
        let cap = fleet.caps.into_iter().find(|cap| cap.name == self.cap);
        let cap =
            cap.ok_or_else(|| format!("its fleet has no cap `{}`; `offtake grid` lists those it has", self.cap))?;
        let standing = events.into_iter().filter(|event| event.cap == self.cap).map(|event| Standing {
            has_begun: event.state == GridEventState::Active,
            from: Timestamp::from_millis(event.from_ms),
            name: event.name,
        });
        Ok((standing.collect(), cap))
    }

    async fn ask<T>(&self, call: impl Future<Output = Result<T, ClientError>>) -> Result<T, String> {
        match tokio::time::timeout(TIMEOUT, call).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("{} does not answer within {} s", self.server.server().url, TIMEOUT.as_secs())),
        }
    }

    async fn act(&mut self, follower: &mut Follower, actions: Vec<Action>) -> anyhow::Result<()> {
        let mut is_announced = true;
        for action in actions {
            match action {
                Action::Say(text) => say(&text),
                Action::Announce(limit) => is_announced &= self.announce(follower, &limit).await?,
                // What replaces it may be what could not be announced.
                Action::Withdraw(name) if is_announced => self.withdraw(follower, &name).await?,
                Action::Withdraw(_) => {}
                Action::Report(report) => self.report(follower, report).await?,
            }
        }
        Ok(())
    }

    async fn announce(&self, follower: &mut Follower, limit: &Limit) -> anyhow::Result<bool> {
        // The server holds a limit from when it begins: one that it had to put off would end later than was asked for.
        let from = limit.from.max(Timestamp::from_millis(now_ms()).saturating_add(NOTICE));
        if from >= limit.until {
            return Ok(true);
        }
        let event = GridEvent {
            cap: self.cap.clone(),
            watts: Some(limit.watts.get().unsigned_abs()),
            cut_ppm: None,
            at: Some(from),
            hold: limit.until - from,
        };
        let request = self.server.request(Method::PUT, &path(&limit.name)).json(&event);
        let answer = self.ask(async { self.server.read(self.server.send(request).await?).await }).await;
        let view: GridEventView = match answer {
            Ok(view) => view,
            Err(wrong) => {
                tell(follower, &limit.name, Some(wrong));
                return Ok(false);
            }
        };
        tell(follower, &limit.name, None);
        match self.json {
            true => print(&format!("{}\n", serde_json::json!({ "announced": view })))?,
            false => print(&grid::announced(&view, now_ms()))?,
        }
        Ok(true)
    }

    async fn withdraw(&self, follower: &mut Follower, name: &str) -> anyhow::Result<()> {
        let answer = self.ask(self.server.delete(&path(name))).await;
        let is_done = answer.is_ok();
        tell(follower, name, answer.err());
        match (is_done, self.json) {
            (false, _) => Ok(()),
            (true, true) => print(&format!("{}\n", serde_json::json!({ "withdrawn": name }))),
            (true, false) => print(&format!("grid event {name} is withdrawn\n")),
        }
    }

    async fn report(&mut self, follower: &mut Follower, report: Report) -> anyhow::Result<()> {
        let subject = format!("the report of event {}", report.event());
        let answer = self.vtn.report(&report.body).await;
        if answer.as_ref().err().is_none_or(Trouble::is_final) {
            follower.reported(report.key.clone());
        }
        let is_done = answer.is_ok();
        tell(follower, &subject, answer.err().map(|trouble| trouble.to_string()));
        match (is_done, self.json) {
            (false, _) => Ok(()),
            (true, true) => print(&format!("{}\n", serde_json::json!({ "reported": report.body }))),
            (true, false) => print(&format!("event {}: what was drawn is reported\n", report.event())),
        }
    }
}

fn path(name: &str) -> String {
    format!("/v1/grid/events/{}", segment(name))
}

fn tell(follower: &mut Follower, subject: &str, wrong: Option<String>) {
    if let Some(text) = follower.outcome(subject, wrong) {
        say(&text);
    }
}

fn say(text: &str) {
    eprintln!("{}", printable(text));
}

/// A secret goes over the wire as it is: it must be encrypted, or stay on this machine. Addresses are shown in messages and
/// begin those of calls, so they hold no password, and no query.
fn keeps_secrets(url: &str) -> Result<(), BadInput> {
    let parsed = reqwest::Url::parse(url).ok();
    let is_bare = |url: &reqwest::Url| {
        url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none()
    };
    if parsed.as_ref().is_some_and(|url| !is_bare(url)) {
        // It may hold a secret, so it is not shown.
        let host = parsed.as_ref().and_then(reqwest::Url::host_str).unwrap_or_default();
        return Err(BadInput(format!(
            "the address at `{host}` has a user, a password, a query or a fragment; give only https://HOST/PATH, and the \
             secret by --secret-file"
        )));
    }
    let is_here = |host: &str| {
        host == "localhost"
            || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    let is_fit = parsed.is_some_and(|url| match url.scheme() {
        "https" => url.has_host(),
        "http" => url.host_str().is_some_and(is_here),
        _ => false,
    });
    if is_fit {
        return Ok(());
    }
    Err(BadInput(format!("`{url}` is no address of a VTN; give https://HOST/PATH, or http:// to this machine")))
}
