//! `offtake grid follow`, against OpenLEADR's VTN on a PostgreSQL of its own, and against one that answers nonsense.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User, chown};
use offtake_openadr::Scope;
use serde_json::{Value, json};

use crate::fake::{Answer, Server, alone, no, ok, text};
use crate::support::{FLEET, Folder, repository};

/// A process that ends with the test, however that ends.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("it can be started"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that is free, and not one of those that systems give to whoever asks for any: it stays free while the VTN is away.
fn free_port() -> u16 {
    let first = 20_000 + u16::try_from(std::process::id() % 10_000).expect("it is small");
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (first..32_000).find(is_free).expect("a port is free")
}

/// Asks until there is an answer, for a minute at most.
#[track_caller]
fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A PostgreSQL in a folder of its own, which listens on a socket there.
struct Postgres {
    process: Process,
    folder: PathBuf,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // It ends in good order, and takes its shared memory with it; a kill would leave that and its children.
        let id = self.process.0.id().try_into().expect("it is small");
        let _ = kill(Pid::from_raw(id), Signal::SIGINT);
        let begun = Instant::now();
        while matches!(self.process.0.try_wait(), Ok(None)) && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.process.0.kill();
        let _ = self.process.0.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Postgres {
    fn start() -> Self {
        // Sockets have short names, and the user below can look into no home.
        let folder = std::env::temp_dir().join(format!("offtake-postgres-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).expect("the folder can be made");
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).expect("it is ours");
        // PostgreSQL refuses to run as root.
        let user = Uid::effective().is_root().then(|| {
            let user = ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten());
            let user = user.expect("there is a user without rights");
            chown(&folder, Some(user.uid), Some(user.gid)).expect("root may");
            user
        });
        let command = |program: &str| {
            let mut command = Command::new(server_program(program));
            if let Some(user) = &user {
                command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
            }
            command.current_dir(&folder).stdout(Stdio::null()).stderr(log(&folder, program));
            command
        };
        let initialised = command("initdb")
            .args(["-D", "data", "-U", "vtn", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"])
            .status()
            .expect("it can be started");
        assert!(initialised.success(), "{}", said(&folder.join("initdb.log")));
        let process = Process::start(
            command("postgres")
                .args(["-D", "data", "-c", "listen_addresses=", "-c", "fsync=off"])
                .arg("-k")
                .arg(&folder),
        );
        let postgres = Self { process, folder };
        eventually("PostgreSQL does not start", || postgres.query("SELECT 1"));
        postgres
    }

    fn query(&self, query: &str) -> Option<()> {
        let mut command = Command::new(server_program("psql"));
        command.arg("-h").arg(&self.folder).args([
            "-U",
            "vtn",
            "-d",
            "postgres",
            "-v",
            "ON_ERROR_STOP=1",
            "-q",
            "-c",
            query,
        ]);
        let ran = command.output().expect("it is there with the server");
        ran.status.success().then_some(())
    }

    fn url(&self) -> String {
        format!("postgres://vtn@localhost/postgres?host={}", self.folder.display())
    }
}

/// A program of the server: Debian keeps them out of the path, by version.
fn server_program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        versions.map(|version| version.path().join("bin").join(name)).filter(|path| path.exists()).collect();
    found.sort();
    found.pop().unwrap_or_else(|| PathBuf::from(name))
}

fn log(folder: &Path, program: &str) -> File {
    File::create(folder.join(format!("{program}.log"))).expect("the folder can be written")
}

fn said(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

/// OpenLEADR's VTN. Who makes events is `bl-client`, who follows them `ven-client-client-id`.
struct Vtn<'a> {
    postgres: &'a Postgres,
    process: Option<Process>,
    port: u16,
    http: reqwest::blocking::Client,
    token: String,
}

/// Clients and the digests of their secrets, as in OpenLEADR's own tests: `bl-client` and `ven-client`.
const CLIENTS: &str = r#"
INSERT INTO "user" (id, reference, description, scopes, created, modified) VALUES
  ('bl-client', 'bl-client-ref', null, '{"read_all", "write_programs", "write_events"}', now(), now()),
  ('ven-client', 'ven-client-ref', null, '{"read_targets", "read_ven_objects", "write_reports"}', now(), now());
INSERT INTO user_credentials (user_id, client_id, client_secret) VALUES
  ('bl-client', 'bl-client', '$argon2id$v=19$m=16,t=2,p=1$MWt1QVNFdHdlZVJhNEZzUA$Rmkguwgaz+A2GWIaDRtv8w'),
  ('ven-client', 'ven-client-client-id', '$argon2id$v=19$m=16,t=2,p=1$YWlOSE8xRGFVdVVIa212Ug$tjmQC+zNC3QXc9K8mEXRrA');
"#;

impl<'a> Vtn<'a> {
    fn start(postgres: &'a Postgres) -> Self {
        let tls = offtake_client::Trust::System.configuration().expect("nothing is read yet");
        let http = reqwest::blocking::Client::builder()
            .pool_max_idle_per_host(0)
            .tls_backend_preconfigured(tls)
            .build()
            .expect("a client can be made");
        let mut vtn = Self { postgres, process: None, port: free_port(), http, token: String::new() };
        vtn.run();
        postgres.query(CLIENTS).expect("the VTN has made its tables");
        vtn.sign_in();
        vtn
    }

    /// Starts it, always at the same port.
    fn run(&mut self) {
        let mut command = Command::new(built());
        command.env_clear().current_dir(&self.postgres.folder);
        command.env("DATABASE_URL", self.postgres.url()).env("PORT", self.port.to_string());
        command.env("OAUTH_TOKEN_URL", "http://localhost/auth/token");
        // It goes on printing, and would not survive a closed pipe.
        let folder = &self.postgres.folder;
        command.stdout(log(folder, "port")).stderr(log(folder, "vtn"));
        let process = Process::start(&mut command);
        let printed = || said(&folder.join("port.log")).lines().next().and_then(|line| line.parse().ok());
        let port: u16 = eventually("the VTN does not start", printed);
        assert_eq!(port, self.port);
        self.process = Some(process);
    }

    fn kill(&mut self) {
        self.process = None;
    }

    fn sign_in(&mut self) {
        let form = [("grant_type", "client_credentials"), ("client_id", "bl-client"), ("client_secret", "bl-client")];
        let answer = self.http.post(format!("{}/auth/token", self.url())).form(&form).send().expect("it answers");
        let answer: Value = answer.json().expect("it is JSON");
        self.token = answer["access_token"].as_str().expect("a token").to_owned();
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    #[track_caller]
    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let method = method.parse().expect("it is a method");
        let mut request = self.http.request(method, format!("{}{path}", self.url())).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().expect("it answers");
        let status = answer.status();
        let text = answer.text().expect("it is text");
        assert!(status.is_success(), "{status}: {text}");
        serde_json::from_str(&text).expect("it is JSON")
    }
}

/// Builds the VTN, which takes a minute or two at first; `./test` has done so before.
fn built() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it lies in the target folder").join("peers");
    let manifest = repository().join("peers/openleadr-vtn/Cargo.toml");
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--locked", "--manifest-path"]).arg(manifest).arg("--target-dir").arg(&folder);
    // What cargo tells tests of this crate would have it build the VTN anew.
    let of_this_crate = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_PRIMARY_"];
    let told =
        std::env::vars().map(|(name, _)| name).filter(|name| of_this_crate.iter().any(|of| name.starts_with(of)));
    for name in told {
        command.env_remove(name);
    }
    // Its queries are checked against what it was released with, not against a database that happens to be there.
    command.env("SQLX_OFFLINE", "true").env_remove("DATABASE_URL");
    let ran = command.output().expect("cargo runs");
    assert!(ran.status.success(), "the VTN cannot be built: {}", String::from_utf8_lossy(&ran.stderr));
    folder.join("debug/peer-openleadr-vtn")
}

/// A control plane without machines, and who follows a VTN for it.
struct Fleet {
    folder: Folder,
    _up: Process,
    server: String,
}

impl Fleet {
    fn start(name: &str, sockets: &Path) -> Self {
        let folder = Folder::new(name);
        let cap = "\n[caps.grid]\non = \"hall\"\nmegawatts = 2\nmeter = \"facility\"\nkind = \"contract\"\n";
        folder.write("fleet.toml", format!("{FLEET}{cap}"));
        folder.write("secret", "ven-client\n");
        let socket = sockets.join("offtake.sock");
        let mut command =
            alone(&folder, "offtake", "up --no-agent --fleet fleet.toml --data data --listen 127.0.0.1:0");
        command.arg("--socket").arg(&socket).stdout(Stdio::null()).stderr(log(&folder.path(""), "up"));
        let up = Process::start(&mut command);
        let fleet = Self { folder, _up: up, server: format!("unix:{}", socket.display()) };
        eventually("the server does not start", || socket.exists().then_some(()));
        fleet
    }

    fn offtake(&self, arguments: &str) -> Value {
        let mut command = alone(&self.folder, "offtake", &format!("{arguments} --json --server {}", self.server));
        self.folder.run(&mut command).succeeds().json()
    }

    /// What the cap allows, in kilowatts.
    fn allows(&self) -> u64 {
        self.offtake("grid")[0]["watts"].as_u64().expect("a number") / 1000
    }

    fn follow(&self, url: &str) -> Process {
        let arguments = format!(
            "grid follow --vtn {url} --client-id ven-client-client-id --secret-file secret --program peak --cap grid \
             --emergency 40% --every 1s --server {}",
            self.server
        );
        let mut command = alone(&self.folder, "offtake", &arguments);
        command.stdout(log(&self.folder.path(""), "done")).stderr(log(&self.folder.path(""), "told"));
        Process::start(&mut command)
    }

    /// What the operator was told.
    fn told(&self) -> String {
        said(&self.folder.path("told.log"))
    }
}

fn rfc3339(at: SystemTime) -> String {
    let ms = at.duration_since(SystemTime::UNIX_EPOCH).expect("it is later").as_millis();
    let at = jiff::Timestamp::from_millisecond(i64::try_from(ms).expect("it is not so late"));
    at.expect("it is an instant").to_string()
}

#[test]
fn a_utility_curtails_a_fleet_and_learns_what_it_drew() {
    let postgres = Postgres::start();
    let mut vtn = Vtn::start(&postgres);
    let fleet = Fleet::start("openadr", &postgres.folder);
    let program = vtn.call("POST", "/programs", Some(&json!({ "objectType": "PROGRAM", "programName": "peak" })));
    let follow = fleet.follow(&vtn.url());
    assert_eq!(fleet.allows(), 2000);

    // Half a minute at 1,000 kW, then an hour at 900 kW.
    let limit = |id: u32, kilowatts: u32, duration: &str, start: SystemTime| {
        let payload = json!({ "type": "IMPORT_CAPACITY_LIMIT", "values": [f64::from(kilowatts)] });
        json!({ "id": id, "intervalPeriod": { "start": rfc3339(start), "duration": duration }, "payloads": [payload] })
    };
    let start = SystemTime::now() + Duration::from_secs(15);
    let end = start + Duration::from_secs(30);
    let event = |last: u32| {
        json!({
            "objectType": "EVENT", "programID": program["id"], "eventName": "hot", "priority": 1,
            "reportDescriptors": [{ "payloadType": "DEMAND", "units": "KW", "frequency": 1, "repeat": -1 }],
            "payloadDescriptors": [{ "payloadType": "IMPORT_CAPACITY_LIMIT", "units": "KW" }],
            "intervals": [limit(0, 1000, "PT30S", start), limit(1, last, "PT1H", end)]
        })
    };
    let made = vtn.call("POST", "/events", Some(&event(900)));
    let id = made["id"].as_str().expect("a text").to_owned();
    let names = || -> Vec<String> {
        let events = fleet.offtake("grid events");
        let events = events.as_array().expect("a list").iter();
        events.map(|event| event["name"].as_str().expect("a text").to_owned()).collect()
    };
    let announced = eventually("nothing is announced", || Some(names()).filter(|names| names.len() == 2));
    let is_of = |name: &String| name.starts_with("openadr/peak-") && name.contains(&format!("/{id}/"));
    assert!(announced.iter().all(is_of), "{announced:?}");
    eventually("the cap does not fall", || (fleet.allows() == 1000).then_some(()));
    eventually("the cap does not fall further", || (fleet.allows() == 900).then_some(()));

    // What the cap counts of two idle nodes was reported, and as what it is.
    let report = eventually("no report comes", || {
        let reports = vtn.call("GET", &format!("/reports?eventID={id}"), None);
        reports.get(0).cloned()
    });
    assert_eq!(report["payloadDescriptors"][0]["readingType"], "ESTIMATED", "{report}");
    let interval = &report["resources"][0]["intervals"][0];
    assert_eq!((&interval["id"], &interval["payloads"][0]["values"][0]), (&json!(0), &json!(540.0)), "{report}");

    // Started anew, it goes on where it was.
    drop(follow);
    let before = names();
    let _follow = fleet.follow(&vtn.url());
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!((names(), fleet.allows(), fleet.told().as_str()), (before, 900, ""));

    // A VTN that is away takes nothing back, and the operator is told once.
    vtn.kill();
    eventually("nobody is told", || fleet.told().contains("cannot be reached").then_some(()));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(fleet.allows(), 900);
    assert_eq!(fleet.told().matches("the limits that stand hold").count(), 1, "{}", fleet.told());
    vtn.run();
    vtn.sign_in();
    eventually("nobody is told", || fleet.told().contains("the VTN: all is well again").then_some(()));

    // What changes is replaced, and the old limit holds until then.
    vtn.call("PUT", &format!("/events/{id}"), Some(&event(800)));
    eventually("the cap does not follow", || {
        let allows = fleet.allows();
        assert!(allows <= 900, "the cap allowed {allows} kW meanwhile");
        (allows == 800 && fleet.offtake("grid events").as_array().is_some_and(|events| events.len() == 1)).then_some(())
    });

    // This VTN deletes no event that has reports.
    postgres.query("DELETE FROM report").expect("it is its table");
    vtn.call("DELETE", &format!("/events/{id}"), None);
    eventually("the cap is not given back", || (fleet.allows() == 2000).then_some(()));

    // An emergency leaves 40% of what the cap allows, from now until it is withdrawn.
    let emergency = json!({
        "objectType": "EVENT", "programID": program["id"], "intervalPeriod": { "start": "0001-01-01T00:00:00Z", "duration": "P9999Y" },
        "intervals": [{ "id": 0, "payloads": [{ "type": "ALERT_GRID_EMERGENCY", "values": ["a line is down"] }] }]
    });
    vtn.call("POST", "/events", Some(&emergency));
    eventually("the cap does not fall", || (fleet.allows() == 800).then_some(()));
    assert!(fleet.told().contains("a grid emergency is announced, `a line is down`"), "{}", fleet.told());
}

/// A control plane on which a limit of event `e1` stands, as the adapter sees it.
fn standing(vtn: &str) -> Server {
    let scope = Scope { vtn: vtn.to_owned(), program: "peak".to_owned(), cap: "grid".to_owned() };
    let name = format!("{}e1/0/0badcafe", scope.prefix());
    let cap = json!({ "name": "grid", "watts": 900_000, "declared_w": 2_000_000, "used_w": 540_000 });
    let fleet = json!({
        "name": "pair", "policy": "offtake", "levels": [], "nodes": 2, "nodes_ready": 2, "chips": 16,
        "chip_milli_in_use": [0, 0, 0, 0], "cpu_milli": 0, "cpu_milli_in_use": 0, "power_w": 360_000,
        "facility_w": 540_000, "jobs": {}, "domains": [], "caps": [cap],
    });
    let event = json!({
        "name": name, "cap": "grid", "watts": 900_000, "from_ms": 0, "until_ms": 9_000_000_000_000_i64,
        "state": "active", "used_w": 540_000,
    });
    Server::answering(&[("GET /v1/fleet", &[ok(fleet)]), ("GET /v1/grid/events", &[ok(json!([event]))])])
}

#[test]
fn a_vtn_that_lies_or_sends_garbage_changes_nothing() {
    let folder = Folder::new("openadr-garbage");
    folder.write("secret", "s3cret\n");
    let event = |start: &str, kilowatts: Value| {
        let payloads = [json!({ "type": "IMPORT_CAPACITY_LIMIT", "values": [kilowatts] })];
        ok(json!([{
            "id": "e1", "programID": "p1", "intervalPeriod": { "start": start, "duration": "PT1H" },
            "intervals": [{ "id": 0, "payloads": payloads }]
        }]))
    };
    let start = "2026-03-02T17:00:00Z";
    // Each with what the operator reads of it.
    let stages: [(Answer, &str); 8] = [
        (text("<html>Bad Gateway</html>"), "is not understood: expected value"),
        (ok(json!({ "events": [] })), "it is no list"),
        (no(500, "out of order"), "says 500"),
        (ok(json!([{ "id": ["e1"] }])), "event of no name: id is [\"e1\"]"),
        (event("in a while", json!(10)), "event e1: intervalPeriod.start is \"in a while\""),
        (event(start, json!(-10)), "values[0] is -10; allowed is a number from 0"),
        (event(start, json!("all of it")), "values[0] is \"all of it\""),
        // The list lacks the event, but the VTN has it: a page has shifted, or the list is a lie.
        (ok(json!([])), "all is well again"),
    ];
    let answers: Vec<Answer> = stages.iter().map(|(answer, _)| answer.clone()).collect();
    let program = ok(json!([{ "id": "p1", "programName": "peak" }]));
    let known = ok(json!({ "id": "e1" }));
    let vtn = Server::answering(&[
        ("POST /auth/token", &[ok(json!({ "access_token": "t0ken", "token_type": "Bearer" }))]),
        ("GET /programs", &[program]),
        ("GET /events", &answers),
        ("GET /events/e1", &[no(500, "ask later"), text("<html>"), known]),
    ]);
    let address = format!("http://{}", vtn.address);
    let server = standing(&address);
    let arguments = format!(
        "grid follow --vtn {address} --client-id ven --secret-file secret --program peak --cap grid --every 1s"
    );
    let mut command = server.command(&folder, "offtake", &arguments);
    command.stdout(Stdio::null()).stderr(log(&folder.path(""), "told"));
    let follow = Process::start(&mut command);
    eventually("the list is not looked into", || (vtn.asked_of("GET /events/e1").len() >= 4).then_some(()));
    drop(follow);
    let told = said(&folder.path("told.log"));
    for (_, reads) in stages {
        assert!(told.contains(reads), "{reads}: {told}");
    }
    assert!(told.contains("the limits that stand hold"), "{told}");
    for odd in ["says 500: ask later; what stands of event e1 holds", "whether an event is gone: all is well again"] {
        assert!(told.contains(odd), "{odd}: {told}");
    }
    assert!(!told.contains("s3cret") && !told.contains("t0ken"), "{told}");
    let changed: Vec<_> = server.asked().into_iter().filter(|asked| !asked.what.starts_with("GET ")).collect();
    assert!(changed.is_empty(), "{changed:?}");
    assert_eq!(vtn.asked()[1].token.as_deref(), Some("Bearer t0ken"));
}

#[test]
fn what_cannot_be_followed_is_refused() {
    let folder = Folder::new("openadr-refused");
    folder.write("secret", "s3cret");
    folder.write("empty", "\n");
    let server = standing("https://vtn.example");
    let refused = |arguments: &str| {
        let all = format!("grid follow --client-id ven --program peak --cap grid {arguments}");
        folder.run(&mut server.command(&folder, "offtake", &all)).refused()
    };
    let here = "--vtn http://127.0.0.1:9";
    for (arguments, said) in [
        (
            "--vtn http://utility.example --secret-file secret".to_owned(),
            "give https://HOST/PATH, or http:// to this machine",
        ),
        ("--vtn utility --secret-file secret".to_owned(), "`utility` is no address of a VTN"),
        (
            format!("{here} --secret-file secret --token-url http://192.0.2.1/token"),
            "http://192.0.2.1/token` is no address",
        ),
        (format!("{here} --secret-file none"), "cannot be read from none"),
        (format!("{here} --secret-file secret --every 10ms"), "allowed is from 1s to 2m"),
        (format!("{here} --secret-file secret --every 3m"), "allowed is from 1s to 2m"),
        (format!("{here} --secret-file empty"), "empty is empty; it is to hold the client's secret"),
        ("--vtn https://ven:pa55@vtn.example --secret-file secret".to_owned(), "has a user, a password, a query"),
        ("--vtn https://vtn.example/?key=pa55 --secret-file secret".to_owned(), "the address at `vtn.example` has"),
        (format!("{here} --secret-file secret --emergency 2"), "`2` is no share"),
    ] {
        let told = refused(&arguments);
        assert!(told.contains(said), "{told}");
        assert!(!told.contains("pa55"), "{told}");
    }
    assert!(server.asked().is_empty());
}
