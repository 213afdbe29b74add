//! `offtake context`: names for servers.

use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;
use serde::Serialize;

use crate::context::{Contexts, Known, Surroundings};
use crate::terminal::{Align, BadInput, listing, print, print_json, width};

#[derive(Subcommand)]
pub enum Command {
    /// List contexts; the current one bears a star
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Let commands speak to the server of a context
    Use {
        /// Its name
        name: String,
    },
    /// Give a server a name
    Add {
        /// Its name
        name: String,
        /// Its address: unix:PATH, http://HOST:PORT or https://HOST:PORT
        #[arg(long, value_name = "URL")]
        server: String,
        /// Proves who asks
        #[arg(long, conflicts_with = "token_file")]
        token: Option<String>,
        /// The file that holds the token
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
        /// The fingerprint of its certificate
        #[arg(long, value_name = "SHA256", conflicts_with = "ca")]
        fingerprint: Option<String>,
        /// The certificate of the authority that signed its own
        #[arg(long, value_name = "PEM")]
        ca: Option<PathBuf>,
        /// Use it from now on
        #[arg(long = "use")]
        current: bool,
    },
    /// Forget a context
    Remove {
        /// Its name
        name: String,
    },
}

/// A context without its token.
#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    url: &'a str,
    current: bool,
}

pub fn run(command: &Command) -> anyhow::Result<()> {
    let file = Surroundings::of_process().contexts_file()?;
    let mut contexts = Contexts::read(&file)?;
    match command {
        Command::List { json } => return list(&contexts, *json),
        Command::Use { name } => {
            known(&contexts, name)?;
            contexts.current = Some(name.clone());
        }
        Command::Add { name, server, token, token_file, fingerprint, ca, current } => {
            let absolute =
                |path: &PathBuf| std::path::absolute(path).with_context(|| format!("{} is no path", path.display()));
            let added = Known {
                url: server.clone(),
                token: token.clone(),
                token_file: token_file.as_ref().map(absolute).transpose()?,
                fingerprint: fingerprint.clone(),
                ca: ca.as_ref().map(absolute).transpose()?,
            };
            // What cannot be meant is said now rather than by every later command.
            offtake_client::Client::new(added.server()?)?;
            contexts.contexts.insert(name.clone(), added);
            if *current || contexts.current.is_none() {
                contexts.current = Some(name.clone());
            }
        }
        Command::Remove { name } => {
            known(&contexts, name)?;
            contexts.contexts.remove(name);
            contexts.current = contexts.current.filter(|current| current != name);
        }
    }
    contexts.write(&file)
}

fn known(contexts: &Contexts, name: &str) -> Result<(), BadInput> {
    if contexts.contexts.contains_key(name) {
        return Ok(());
    }
    Err(BadInput(format!("there is no context `{name}`: 'offtake context list' shows what there is")))
}

fn list(contexts: &Contexts, json: bool) -> anyhow::Result<()> {
    let is_current = |name: &str| contexts.current.as_deref() == Some(name);
    if json {
        let listed =
            contexts.contexts.iter().map(|(name, known)| Listed { name, url: &known.url, current: is_current(name) });
        return print_json(&listed.collect::<Vec<_>>());
    }
    if contexts.contexts.is_empty() {
        eprintln!("There is no context. 'offtake context add NAME --server URL' makes one.");
        return Ok(());
    }
    let star = |name: &str| if is_current(name) { "*" } else { "" }.to_owned();
    let rows: Vec<Vec<String>> =
        contexts.contexts.iter().map(|(name, known)| vec![star(name), name.clone(), known.url.clone()]).collect();
    print(&listing(&[("", Align::Left), ("name", Align::Left), ("server", Align::Left)], &rows, width()))
}
