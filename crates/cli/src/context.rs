//! Which server a command speaks to: the one named on the command line or in the environment, the one of a context, or
//! the one that runs on this machine.
//!
//! Contexts are names for servers, kept in `contexts.toml` in the user's configuration folder, which only the user may
//! read: it holds tokens.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use offtake_client::{Fingerprint, Server, Trust};
use serde::{Deserialize, Serialize};

use crate::terminal::BadInput;

/// The name of a server's socket in its folder.
pub const SOCKET: &str = "server.sock";

// Which server.
#[derive(Args, Clone, Debug, Default)]
pub struct Choice {
    /// Speak to the server of this context
    #[arg(long, value_name = "NAME", help_heading = "Server")]
    context: Option<String>,
    /// Speak to this server: unix:PATH, http://HOST:PORT or https://HOST:PORT
    #[arg(long, value_name = "URL", help_heading = "Server")]
    server: Option<String>,
    /// Prove with this token who asks
    #[arg(long, value_name = "TOKEN", help_heading = "Server")]
    token: Option<String>,
}

/// A server that has a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Its address.
    pub url: String,
    /// Proves who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The file that holds the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// The fingerprint of its certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The file with the certificate of the authority that signed its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

impl Known {
    /// The server, with its token.
    ///
    /// # Errors
    /// When the token's file cannot be read, or the fingerprint is none.
    pub fn server(&self) -> anyhow::Result<Server> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, None) => None,
            (None, Some(file)) => {
                let text = std::fs::read_to_string(file)
                    .with_context(|| format!("cannot read the token in {}", file.display()))?;
                Some(text.trim().to_owned())
            }
        };
        let trust = match (&self.fingerprint, &self.ca) {
            (Some(text), _) => Trust::Fingerprint(Fingerprint::parse(text).ok_or_else(|| {
                BadInput(format!("`{text}` is no fingerprint: give the 64 hexadecimal digits that the server printed"))
            })?),
            (None, Some(file)) => Trust::Authority(file.clone()),
            (None, None) => Trust::System,
        };
        Ok(Server { url: self.url.clone(), token, trust })
    }
}

/// All servers that have a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    /// The one that commands speak to where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// By name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Known>,
}

impl Contexts {
    /// Reads the file; none are known where it is not there.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        toml::from_str(&text).map_err(|error| {
            let message = error.message().to_owned();
            BadInput(format!("{}: {message}: mend the file, or remove it and add contexts anew", file.display())).into()
        })
    }

    /// Writes the file, whole or not at all, for the user's eyes only.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        let text = toml::to_string(self)?;
        let cannot = || format!("cannot write {}", file.display());
        let folder = file.parent().unwrap_or(Path::new("."));
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(cannot)?;
        let partial = folder.join(format!(".contexts.{}.partial", std::process::id()));
        let mut options = std::fs::OpenOptions::new();
        let mut out =
            options.write(true).create(true).truncate(true).mode(0o600).open(&partial).with_context(cannot)?;
        out.write_all(text.as_bytes()).with_context(cannot)?;
        drop(out);
        std::fs::rename(&partial, file).with_context(cannot)
    }

    fn named(&self, name: &str) -> Result<&Known, BadInput> {
        let known: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
        self.contexts.get(name).ok_or_else(|| {
            BadInput(match known.as_slice() {
                [] => format!("there is no context `{name}`: add one with 'offtake context add {name} --server URL'"),
                known => format!("there is no context `{name}`; known are {}", known.join(", ")),
            })
        })
    }
}

/// What the user's surroundings say of servers and folders.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    variables: BTreeMap<&'static str, String>,
    is_root: bool,
}

impl Surroundings {
    const NAMES: [&'static str; 9] = [
        "HOME",
        "OFFTAKE_CA",
        "OFFTAKE_CONTEXT",
        "OFFTAKE_FINGERPRINT",
        "OFFTAKE_SERVER",
        "OFFTAKE_TOKEN",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_RUNTIME_DIR",
    ];

    /// Those of this process. What is empty counts as not set.
    pub fn of_process() -> Self {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let variables = Self::NAMES.into_iter().filter_map(|name| Some((name, set(name)?))).collect();
        use std::os::unix::fs::MetadataExt;
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        Self { variables, is_root }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// A folder of the XDG rules: by its variable, which must be absolute, or below the user's home.
    fn folder(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        let named = self.get(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        named.or_else(|| Some(Path::new(self.get("HOME")?).join(below_home)))
    }

    /// The file with the contexts.
    ///
    /// # Errors
    /// When there is neither a configuration folder nor a home.
    pub fn contexts_file(&self) -> Result<PathBuf, BadInput> {
        let folder = self.folder("XDG_CONFIG_HOME", ".config");
        let folder =
            folder.ok_or_else(|| BadInput("set HOME or XDG_CONFIG_HOME: contexts are kept there".to_owned()))?;
        Ok(folder.join("offtake/contexts.toml"))
    }

    /// Where a server keeps its data unless it is told: the machine's folder for root where it is there, otherwise the
    /// user's own.
    ///
    /// # Errors
    /// When there is neither a data folder nor a home.
    pub fn data_folder(&self) -> Result<PathBuf, BadInput> {
        let of_machine = Path::new(DATA_OF_MACHINE);
        if self.is_root && of_machine.is_dir() {
            return Ok(of_machine.to_owned());
        }
        let folder = self.folder("XDG_DATA_HOME", ".local/share");
        let folder = folder.ok_or_else(|| BadInput("name a folder for the data with --data".to_owned()))?;
        Ok(folder.join("offtake"))
    }

    /// Where a server on this machine has its socket unless it is told otherwise, the likeliest first.
    fn sockets(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.runtime_folder()];
        folders.push(self.data_folder().ok());
        folders.extend([RUNTIME_OF_MACHINE, DATA_OF_MACHINE].map(|folder| Some(PathBuf::from(folder))));
        folders.into_iter().flatten().map(|folder| folder.join(SOCKET)).collect()
    }

    /// The user's folder for sockets; none where the session has none.
    pub fn runtime_folder(&self) -> Option<PathBuf> {
        let folder =
            self.get("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute() && path.is_dir())?;
        Some(folder.join("offtake"))
    }

    /// The server that a command speaks to.
    ///
    /// # Errors
    /// When none is named and none is found, or what is named cannot be meant.
    pub fn find(&self, choice: &Choice) -> anyhow::Result<Server> {
        let token = choice.token.clone().or_else(|| self.get("OFFTAKE_TOKEN").map(str::to_owned));
        let url = match (&choice.server, &choice.context) {
            (Some(url), None) => Some(url.as_str()),
            (None, Some(_)) => None,
            (None, None) => self.get("OFFTAKE_SERVER"),
            (Some(_), Some(_)) => return Err(BadInput("give either --server or --context".to_owned()).into()),
        };
        if let Some(url) = url {
            let known = Known {
                url: url.to_owned(),
                token,
                token_file: None,
                fingerprint: self.get("OFFTAKE_FINGERPRINT").map(str::to_owned),
                ca: self.get("OFFTAKE_CA").map(PathBuf::from),
            };
            return known.server();
        }
        let contexts = self.contexts_file().map_or_else(|_| Ok(Contexts::default()), |file| Contexts::read(&file))?;
        let name = choice.context.as_deref().or(self.get("OFFTAKE_CONTEXT")).or(contexts.current.as_deref());
        if let Some(name) = name {
            let mut server = contexts.named(name)?.server()?;
            server.token = choice.token.clone().or(server.token);
            return Ok(server);
        }
        let is_socket = |path: &PathBuf| path.metadata().is_ok_and(|file| file.file_type().is_socket());
        let Some(socket) = self.sockets().into_iter().find(is_socket) else {
            let message = "no server found: start one with 'offtake up', or name one with --server".to_owned();
            return Err(BadInput(message).into());
        };
        Ok(Server { url: format!("unix:{}", socket.display()), token, trust: Trust::System })
    }
}

/// Where a server that belongs to the whole machine keeps its data.
const DATA_OF_MACHINE: &str = "/var/lib/offtake";
/// Where such a server has its socket.
const RUNTIME_OF_MACHINE: &str = "/run/offtake";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A folder of a test's own, removed at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("offtake-context-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).expect("the folder can be made");
            Self(path)
        }

        fn surroundings(&self, more: &[(&'static str, &str)]) -> Surroundings {
            let home = self.0.display().to_string();
            let mut variables = BTreeMap::from([("HOME", home)]);
            variables.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
            Surroundings { variables, is_root: false }
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn choice(context: Option<&str>, server: Option<&str>, token: Option<&str>) -> Choice {
        let [context, server, token] = [context, server, token].map(|text| text.map(str::to_owned));
        Choice { context, server, token }
    }

    fn two() -> Contexts {
        let known = |url: &str, token: Option<&str>| Known {
            url: url.to_owned(),
            token: token.map(str::to_owned),
            ..Known::default()
        };
        let contexts = [("lab", known("https://lab:7480", Some("a"))), ("hall", known("http://hall:7480", None))];
        Contexts {
            current: Some("lab".to_owned()),
            contexts: contexts.map(|(name, known)| (name.to_owned(), known)).into(),
        }
    }

    #[test]
    fn what_is_named_goes_before_what_is_found() {
        let folder = Folder::new("order");
        let here = folder.surroundings(&[("XDG_RUNTIME_DIR", &folder.0.display().to_string())]);
        let url = |here: &Surroundings, choice: &Choice| here.find(choice).map(|server| (server.url, server.token));
        let none = url(&here, &Choice::default()).expect_err("there is no server");
        assert!(none.is::<BadInput>() && none.to_string().contains("offtake up"), "{none}");

        let socket = folder.0.join("offtake").join(SOCKET);
        std::fs::create_dir(folder.0.join("offtake")).expect("the folder can be made");
        std::fs::write(&socket, "").expect("the file can be written");
        assert!(url(&here, &Choice::default()).is_err(), "a file is no socket");
        std::fs::remove_file(&socket).expect("the file can be removed");
        let _listener = UnixListener::bind(&socket).expect("the socket can be made");
        let found = url(&here, &Choice::default()).expect("the socket is found");
        assert_eq!(found, (format!("unix:{}", socket.display()), None));

        two().write(&here.contexts_file().expect("there is a home")).expect("the file can be written");
        let is = |choice: &Choice| url(&here, choice).expect("a server is named");
        let pair = |url: &str, token: Option<&str>| (url.to_owned(), token.map(str::to_owned));
        assert_eq!(is(&Choice::default()), pair("https://lab:7480", Some("a")));
        assert_eq!(is(&choice(None, None, Some("b"))), pair("https://lab:7480", Some("b")));
        assert_eq!(is(&choice(Some("hall"), None, None)), pair("http://hall:7480", None));
        assert_eq!(is(&choice(None, Some("http://x:1"), Some("b"))), pair("http://x:1", Some("b")));
        assert!(url(&here, &choice(Some("hall"), Some("http://x:1"), None)).is_err());
        let unknown = url(&here, &choice(Some("holl"), None, None)).expect_err("nobody knows it");
        assert_eq!(unknown.to_string(), "there is no context `holl`; known are hall, lab");

        let by_environment = folder.surroundings(&[("OFFTAKE_SERVER", "http://y:1"), ("OFFTAKE_TOKEN", "c")]);
        let found = |choice: &Choice| url(&by_environment, choice).expect("a server is named");
        assert_eq!(found(&Choice::default()), pair("http://y:1", Some("c")));
        // The token of the environment is another server's.
        assert_eq!(found(&choice(Some("hall"), None, None)), pair("http://hall:7480", None));
        let named = folder.surroundings(&[("OFFTAKE_CONTEXT", "hall")]);
        assert_eq!(url(&named, &Choice::default()).expect("it is known"), pair("http://hall:7480", None));
    }

    #[test]
    fn contexts_are_kept_for_the_user_alone() {
        let folder = Folder::new("mode");
        let file = folder.0.join("config/offtake/contexts.toml");
        assert_eq!(Contexts::read(&file).expect("no file is no context"), Contexts::default());
        two().write(&file).expect("the file can be written");
        assert_eq!(Contexts::read(&file).expect("the file can be read"), two());
        let mode = |path: &Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(file.parent().expect("it lies in a folder"))), (0o600, 0o700));
        std::fs::write(&file, "current = 1").expect("the file can be written");
        let error = Contexts::read(&file).expect_err("a number is no name");
        assert!(error.is::<BadInput>() && error.to_string().contains("contexts.toml"), "{error}");
    }

    #[test]
    fn tokens_and_fingerprints_are_checked() {
        let folder = Folder::new("token");
        let file = folder.0.join("token");
        let known = Known { url: "http://x".to_owned(), token_file: Some(file.clone()), ..Known::default() };
        assert!(known.server().expect_err("there is no file").to_string().contains("cannot read the token"));
        std::fs::write(&file, "secret\n").expect("the file can be written");
        assert_eq!(known.server().expect("there is a token").token.as_deref(), Some("secret"));
        let known = Known { fingerprint: Some("abc".to_owned()), ..known };
        assert!(known.server().expect_err("too short").is::<BadInput>());
    }
}
