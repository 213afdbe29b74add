//! `offtake token`: who may ask what, and which nodes may join.

use clap::{Args, Subcommand, ValueEnum};
use offtake_protocol::rest::{JoinTokenMade, JoinTokenRequest, Role, TokenMade, TokenRequest, TokenView};
use offtake_units::Duration;

use super::Common;
use crate::connection::segment;
use crate::show::{figures, tokens};
use crate::terminal::{BadInput, print, print_json, width};

#[derive(Subcommand)]
pub enum Command {
    /// Make a token; it is told once and never again
    Create(CreateArguments),
    /// List tokens, without their secrets
    List(ListArguments),
    /// Let a token hold no more
    Revoke(RevokeArguments),
    /// Make a token that lets one node join, once
    Join(JoinArguments),
}

#[derive(Args)]
pub struct CreateArguments {
    /// Its name, for people
    name: String,
    /// What it allows; a member has the jobs of one tenant
    #[arg(long, value_enum)]
    role: RoleName,
    /// The tenant whose jobs a member may see and change
    #[arg(long)]
    tenant: Option<String>,
    /// Whom jobs submitted with it run as
    #[arg(long)]
    user: Option<String>,
    /// How long it holds, such as 30d [default: for ever]
    #[arg(long, value_name = "TIME")]
    valid: Option<Duration>,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleName {
    Operator,
    Member,
    Reader,
}

#[derive(Args)]
pub struct ListArguments {
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub struct RevokeArguments {
    /// Its name
    name: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub struct JoinArguments {
    /// Only a node of this name
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// How long it holds, such as 2h [default: 1d]
    #[arg(long, value_name = "TIME")]
    valid: Option<Duration>,
    #[command(flatten)]
    common: Common,
}

pub async fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Create(arguments) => create(arguments).await,
        Command::List(arguments) => list(arguments).await,
        Command::Revoke(arguments) => {
            let connection = arguments.common.open()?;
            connection.delete(&format!("/v1/tokens/{}", segment(&arguments.name))).await?;
            match arguments.common.json {
                true => print_json(&serde_json::json!({ "revoked": arguments.name })),
                false => print(&format!("token {} holds no more\n", arguments.name)),
            }
        }
        Command::Join(arguments) => join(arguments).await,
    }
}

async fn create(arguments: &CreateArguments) -> anyhow::Result<()> {
    let role = match (arguments.role, &arguments.tenant) {
        (RoleName::Operator, None) => Role::Operator,
        (RoleName::Reader, None) => Role::Reader,
        (RoleName::Member, Some(tenant)) => Role::Member { tenant: tenant.clone() },
        (RoleName::Member, None) => {
            return Err(BadInput("--role member: name the tenant with --tenant".to_owned()).into());
        }
        (_, Some(_)) => return Err(BadInput("--tenant is for --role member only".to_owned()).into()),
    };
    let request = TokenRequest {
        name: arguments.name.clone(),
        role,
        user: arguments.user.clone(),
        expires_ms: arguments.valid.map(|valid| figures::now_ms().saturating_add(valid.as_millis())),
    };
    let made: TokenMade = arguments.common.open()?.post("/v1/tokens", &request).await?;
    if arguments.common.json {
        return print_json(&made);
    }
    print(&format!("{}\n", made.token))
}

async fn list(arguments: &ListArguments) -> anyhow::Result<()> {
    let found: Vec<TokenView> = arguments.common.open()?.get("/v1/tokens").await?;
    if arguments.common.json {
        return print_json(&found);
    }
    print(&tokens::tokens(&found, width()))
}

async fn join(arguments: &JoinArguments) -> anyhow::Result<()> {
    let request = JoinTokenRequest { node: arguments.node.clone(), valid_ms: arguments.valid.map(Duration::as_millis) };
    let made: JoinTokenMade = arguments.common.open()?.post("/v1/join-tokens", &request).await?;
    if arguments.common.json {
        return print_json(&made);
    }
    eprintln!(
        "It holds until {}. On the node: offtake agent --server URL --join TOKEN",
        figures::instant(made.expires_ms)
    );
    print(&format!("{}\n", made.token))
}
