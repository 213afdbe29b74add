//! Whatever is wrong with what was given: it is refused at once, one line says where, what and how to mend it, and
//! nothing is written.
//!
//! The messages are checked in together, to be read as the person who gets them.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::support::{Folder, JOBS, files};

/// What is wrong: in which file, which of its text is replaced by what.
const EDITS: &[(&str, &str, &str, &str)] = &[
    // The scenario.
    ("an unknown key", "scenario.toml", "seed = 7", "sede = 7"),
    ("an unknown key of the workload", "scenario.toml", "trace = \"jobs.csv\"", "trace = \"jobs.csv\"\nload = 1"),
    ("a key twice", "scenario.toml", "seed = 7", "seed = 7\nseed = 8"),
    ("no TOML", "scenario.toml", "[workload]", "[workload"),
    ("no name", "scenario.toml", "name = \"small\"\n", ""),
    ("a name that leaves the folder", "scenario.toml", "name = \"small\"", "name = \"../small\""),
    ("an empty name", "scenario.toml", "name = \"small\"", "name = \"\""),
    ("no fleet of that name", "scenario.toml", "\"fleet.toml\"", "\"flet.toml\""),
    ("no trace of that name", "scenario.toml", "\"jobs.csv\"", "\"job.csv\""),
    ("no prices of that name", "scenario.toml", "\"prices.csv\"", "\"price.csv\""),
    ("no zones of that name", "scenario.toml", "\"carbon-zones.csv\"", "\"zones.csv\""),
    ("a folder for a trace", "scenario.toml", "\"jobs.csv\"", "\".\""),
    ("prices without zones", "scenario.toml", "price_zones = \"price-zones.csv\"\n", ""),
    (
        "zones of a site that is not there",
        "scenario.toml",
        "[signals]",
        "[signals.zone_of]\nhal = { price = \"Z1\" }\n[signals]",
    ),
    ("a seed that is a word", "scenario.toml", "seed = 7", "seed = \"seven\""),
    ("a negative seed", "scenario.toml", "seed = 7", "seed = -7"),
    ("no policy", "scenario.toml", "[\"fifo\", \"backfill\"]", "[]"),
    ("a policy twice", "scenario.toml", "\"backfill\"]", "\"fifo\"]"),
    ("an unknown policy", "scenario.toml", "\"backfill\"]", "\"backfil\"]"),
    ("a focus that is no policy", "scenario.toml", "seed = 7", "seed = 7\nfocus = \"fast\""),
    ("a start that is no instant", "scenario.toml", "2022-01-01T00:00:00Z", "yesterday"),
    ("no horizon", "scenario.toml", "\"5h\"", "\"0s\""),
    ("a negative horizon", "scenario.toml", "\"5h\"", "\"-5h\""),
    ("a horizon without a unit", "scenario.toml", "\"5h\"", "\"5\""),
    ("a horizon of a thousand years", "scenario.toml", "\"5h\"", "\"365000d\""),
    ("a horizon that is a number", "scenario.toml", "\"5h\"", "5"),
    ("an unknown format", "scenario.toml", "[signals]", "format = \"xml\"\n[signals]"),
    ("the wrong format", "scenario.toml", "[signals]", "format = \"philly\"\n[signals]"),
    ("an unknown answer to misfits", "scenario.toml", "[signals]", "unplaceable = \"drop\"\n[signals]"),
    ("no load", "scenario.toml", "[signals]", "offered_load = 0.0\n[signals]"),
    ("a negative load", "scenario.toml", "[signals]", "offered_load = -1.0\n[signals]"),
    ("a load that is no number", "scenario.toml", "[signals]", "offered_load = nan\n[signals]"),
    ("an infinite load", "scenario.toml", "[signals]", "offered_load = inf\n[signals]"),
    ("an absurd load", "scenario.toml", "[signals]", "offered_load = 1e6\n[signals]"),
    ("a load that is a word", "scenario.toml", "[signals]", "offered_load = \"high\"\n[signals]"),
    (
        "a load without a horizon",
        "scenario.toml",
        HORIZON_TO_WORKLOAD,
        "policies = [\"fifo\"]\n[workload]\noffered_load = 1.0\n",
    ),
    ("a service name twice", "scenario.toml", "[signals]", TWINS),
    ("a trace and classes", "scenario.toml", "trace = \"jobs.csv\"", "trace = \"jobs.csv\"\njobs = 5"),
    ("neither a trace nor classes", "scenario.toml", "trace = \"jobs.csv\"", ""),
    ("classes without jobs", "scenario.toml", "trace = \"jobs.csv\"", CLASS),
    (
        "classes that are not whole",
        "scenario.toml",
        "trace = \"jobs.csv\"",
        "jobs = 5\n[[workload.classes]]\nname = \"a\"",
    ),
    ("a class with a reservation that is not there", "scenario.toml", "trace = \"jobs.csv\"", UNRESERVED),
    ("a class with a maintenance window for a reservation", "scenario.toml", "trace = \"jobs.csv\"", RESERVED),
    ("a job with a reservation that is not there", "jobs.csv", JOBS, NAMED),
    ("a service of no chips", "scenario.toml", "[signals]", NO_CHIPS),
    ("a service that no domain can hold", "scenario.toml", "[signals]", TOO_LARGE),
    (
        "a feed that is lost and not there",
        "scenario.toml",
        "[signals]",
        "[[feed_losses]]\ncircuit = \"feed-a\"\nat = \"2022-01-01T02:00:00Z\"\nhold = \"1h\"\n[signals]",
    ),
    (
        "a utility that is lost at a site that is not there",
        "scenario.toml",
        "[signals]",
        "[[utility_losses]]\nsite = \"hal\"\nat = \"2022-01-01T02:00:00Z\"\nhold = \"1h\"\n[signals]",
    ),
    (
        "a utility that is lost while it is lost",
        "scenario.toml",
        "[signals]",
        "[[utility_losses]]\nsite = \"hall\"\nat = \"2022-01-01T02:00:00Z\"\nhold = \"1h\"\n[[utility_losses]]\nsite = \"hall\"\nat = \"2022-01-01T02:30:00Z\"\nhold = \"1h\"\n[signals]",
    ),
    (
        "a utility that is lost before the run",
        "scenario.toml",
        "[signals]",
        "[[utility_losses]]\nsite = \"hall\"\nat = \"2021-12-31T23:00:00Z\"\nhold = \"1h\"\n[signals]",
    ),
    (
        "a utility that is lost for no time",
        "scenario.toml",
        "[signals]",
        "[[utility_losses]]\nsite = \"hall\"\nat = \"2022-01-01T02:00:00Z\"\nhold = \"0s\"\n[signals]",
    ),
    (
        "a loss of cooling nowhere",
        "scenario.toml",
        "[signals]",
        "[[cooling_losses]]\non = \"hal\"\nat = \"2022-01-01T02:00:00Z\"\nhold = \"1h\"\nleaves = 0.5\n[signals]",
    ),
    (
        "a loss of cooling of which nothing is known",
        "scenario.toml",
        "[signals]",
        "[[cooling_losses]]\non = \"hall\"\nat = \"2022-01-01T02:00:00Z\"\nhold = \"1h\"\nleaves = 0.5\n[signals]",
    ),
    ("weather of a site that is not there", "scenario.toml", "[signals]", "[signals]\nweather = \"prices.csv\""),
    (
        "a grid event before the run",
        "scenario.toml",
        "[signals]",
        "[[grid_events]]\nname = \"peak\"\non = \"hall\"\nat = \"2021-12-31T23:00:00Z\"\nhold = \"1h\"\ncut = 0.2\n[signals]",
    ),
    (
        "a grid event that is announced before the run",
        "scenario.toml",
        "[signals]",
        "[[grid_events]]\nname = \"peak\"\non = \"hall\"\nat = \"2022-01-01T02:00:00Z\"\nhold = \"1h\"\ncut = 0.2\nnotice = \"3h\"\n[signals]",
    ),
    (
        "a notice that is no time",
        "scenario.toml",
        "[signals]",
        "[[grid_events]]\nname = \"peak\"\non = \"hall\"\nat = \"2022-01-01T02:00:00Z\"\nhold = \"1h\"\ncut = 0.2\nnotice = \"soon\"\n[signals]",
    ),
    (
        "a grid event on a domain that is not there",
        "scenario.toml",
        "[signals]",
        "[[grid_events]]\nname = \"peak\"\non = \"hal\"\nat = \"2022-01-01T02:00:00Z\"\nhold = \"1h\"\ncut = 0.2\n[signals]",
    ),
    (
        "a grid event on a cap that is not there",
        "scenario.toml",
        "[signals]",
        "[[grid_events]]\nname = \"peak\"\ncap = \"mains\"\nat = \"2022-01-01T02:00:00Z\"\nhold = \"1h\"\ncut = 0.2\n[signals]",
    ),
    (
        "a grid event on two",
        "scenario.toml",
        "[signals]",
        "[[grid_events]]\nname = \"peak\"\non = \"hall\"\ncap = \"mains\"\nat = \"2022-01-01T02:00:00Z\"\nhold = \"1h\"\ncut = 0.2\n[signals]",
    ),
    (
        "a grid event of no depth",
        "scenario.toml",
        "[signals]",
        "[[grid_events]]\nname = \"peak\"\non = \"hall\"\nat = \"2022-01-01T02:00:00Z\"\nhold = \"1h\"\n\n[signals]",
    ),
    (
        "a grid event of two depths",
        "scenario.toml",
        "[signals]",
        "[[grid_events]]\nname = \"peak\"\non = \"hall\"\nat = \"2022-01-01T02:00:00Z\"\nhold = \"1h\"\ncut = 0.2\nmegawatts = 1\n[signals]",
    ),
    (
        "a cut of more than there is",
        "scenario.toml",
        "[signals]",
        "[[grid_events]]\nname = \"peak\"\non = \"hall\"\nat = \"2022-01-01T02:00:00Z\"\nhold = \"1h\"\ncut = 1.2\n[signals]",
    ),
    (
        "a negative power",
        "scenario.toml",
        "[signals]",
        "[[grid_events]]\nname = \"peak\"\non = \"hall\"\nat = \"2022-01-01T02:00:00Z\"\nhold = \"1h\"\nkilowatts = -1\n[signals]",
    ),
    (
        "grid events that contradict",
        "scenario.toml",
        "[signals]",
        "[[grid_events]]\nname = \"peak\"\non = \"hall\"\nat = \"2022-01-01T02:00:00Z\"\nhold = \"1h\"\ncut = 0.2\n[[grid_events]]\nname = \"again\"\non = \"hall\"\nat = \"2022-01-01T02:30:00Z\"\nhold = \"1h\"\ncut = 0.4\n[signals]",
    ),
    (
        "a programme of no events",
        "scenario.toml",
        "[signals]",
        "[[grid_programmes]]\nname = \"season\"\non = \"hall\"\nevents = 0\nhold = [\"1h\"]\ncut = [0.2]\n[signals]",
    ),
    (
        "a programme of more events than fit",
        "scenario.toml",
        "[signals]",
        "[[grid_programmes]]\nname = \"season\"\non = \"hall\"\nevents = 9\nhold = [\"1h\"]\ncut = [0.2]\n[signals]",
    ),
    (
        "a programme without a hold",
        "scenario.toml",
        "[signals]",
        "[[grid_programmes]]\nname = \"season\"\non = \"hall\"\nevents = 1\nhold = []\ncut = [0.2]\n[signals]",
    ),
    (
        "a programme of two depths",
        "scenario.toml",
        "[signals]",
        "[[grid_programmes]]\nname = \"season\"\non = \"hall\"\nevents = 1\nhold = [\"1h\"]\ncut = [0.2]\nmegawatts = [1.0]\n[signals]",
    ),
    // The fleet.
    ("negative watts", "fleet.toml", "idle_watts = 10_000", "idle_watts = -10_000"),
    ("a PUE that is no number", "fleet.toml", "pue = 1.5", "pue = nan"),
    ("an infinite PUE", "fleet.toml", "pue = 1.5", "pue = inf"),
    ("a PUE below one", "fleet.toml", "pue = 1.5", "pue = 0.9"),
    ("an unknown key of a site", "fleet.toml", "pue = 1.5", "peu = 1.5"),
    ("an unknown kind of node", "fleet.toml", "{ node = 2 }", "{ nod = 2 }"),
    ("no node", "fleet.toml", "{ node = 2 }", "{ node = 0 }"),
    ("too many nodes", "fleet.toml", "{ node = 2 }", "{ node = 2_000_000_000 }"),
    ("a name twice", "fleet.toml", "[sites.hall]", "[sites.hall]\nnodes = { node = 1 }\n[sites.hall]"),
    ("templates in a circle", "fleet.toml", "[sites.hall]", CIRCLE),
    (
        "a cap that nothing can keep",
        "fleet.toml",
        "[sites.hall]",
        "[caps.low]\non = \"hall\"\nwatts = 5\nmeter = \"it\"\nkind = \"breaker\"\n[sites.hall]",
    ),
    (
        "generators behind a UPS that is empty before they run",
        "fleet.toml",
        "pue = 1.5",
        "pue = 1.5\nbackup = { ups_seconds = 5, generators = { count = 1, kilowatts = 900, start = \"10s\", kg_co2_per_kwh = 0.7 } }",
    ),
    // The trace.
    ("a gang of no chips", "jobs.csv", "1h,2,8", "1h,2,0"),
    ("negative chips", "jobs.csv", "1h,2,8", "1h,2,-8"),
    ("a gang that no domain can hold", "jobs.csv", "1h,2,8", "1h,3,8"),
    ("a worker that no node can hold", "jobs.csv", "1h,2,8", "1h,2,9"),
    ("a name twice in the trace", "jobs.csv", "late,", "long,"),
    ("a row short of columns", "jobs.csv", "1h,2,8", "1h,2"),
    ("a row of too many columns", "jobs.csv", "1h,2,8", "1h,2,8,9"),
    ("an unknown column", "jobs.csv", "workers,chips", "workers,gpus"),
    ("a time without a unit", "jobs.csv", "1h,2,8", "60,2,8"),
    ("an instant without a zone", "jobs.csv", "2022-01-01T00:30:00Z", "2022-01-01T00:30:00"),
    ("an empty trace", "jobs.csv", JOBS, ""),
    ("a trace of no jobs", "jobs.csv", JOBS, "name,tenant,submitted\n"),
    ("a quote without an end", "jobs.csv", "wide,", "\"wide,"),
    ("a shape of a torus", "jobs.csv", JOBS, TORUS),
    ("a gang that prefers fewer workers than it needs", "jobs.csv", JOBS, ELASTIC),
    ("another version of our lines", "jobs.csv", JOBS, "{\"format\":\"offtake-workload\",\"version\":2}\n"),
    (
        "JSON that is not whole",
        "jobs.csv",
        JOBS,
        "{\"format\":\"offtake-workload\",\"version\":1}\n{\"job\":{\"name\":\n",
    ),
    // Signals.
    ("a price that is no number", "prices.csv", ",200", ",dear"),
    ("an hour twice", "prices.csv", "T01:00Z", "T00:00Z"),
    ("a row of prices short of columns", "prices.csv", "T01:00Z,200", "T01:00Z"),
    ("a zone that the prices lack", "price-zones.csv", "\nZ1,", "\nZ2,"),
    ("no rate of a currency", "price-zones.csv", "USD,1,", "USD,0,"),
    ("a negative carbon intensity", "carbon.csv", ",300", ",-300"),
];

const HORIZON_TO_WORKLOAD: &str = "horizon = \"5h\"\nseed = 7\npolicies = [\"fifo\", \"backfill\"]\n\n[workload]\n";
const TWINS: &str = "[[services]]\nname = \"a\"\ntenant = \"t\"\ntier = \"spot\"\nminimum = 1\nmaximum = 2\nreplica = { chips = 1 }\n\
    demand_ppm = [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]\n[[services]]\nname = \"a\"\ntenant = \"t\"\ntier = \"spot\"\n\
    minimum = 1\nmaximum = 2\nreplica = { chips = 1 }\ndemand_ppm = [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]\n[signals]";
const CLASS: &str = "[[workload.classes]]\nname = \"a\"\nweight = 1\ntenant = \"t\"\ntier = \"standard\"\n\
    duration = { fixed = \"1h\" }\ngangs = [{ chips = 8 }]";
const UNRESERVED: &str = "jobs = 5\n[[workload.classes]]\nname = \"a\"\nweight = 1\ntenant = \"t\"\ntier = \"standard\"\n\
    duration = { fixed = \"1h\" }\nreservation = \"demo\"\ngangs = [{ chips = 8 }]";
const RESERVED: &str = "jobs = 5\n[[workload.classes]]\nname = \"a\"\nweight = 1\ntenant = \"t\"\ntier = \"standard\"\n\
    duration = { fixed = \"1h\" }\nreservation = \"demo\"\ngangs = [{ chips = 8 }]\n[[workload.classes]]\nname = \"b\"\n\
    weight = 1\ntenant = \"t\"\ntier = \"standard\"\nduration = { fixed = \"1h\" }\nreservation = \"care\"\n\
    gangs = [{ chips = 8 }]\n[[reservations]]\nname = \"demo\"\nnodes = 1\nstart = \"2022-01-01T02:00:00Z\"\nlength = \"1h\"\n\
    [[reservations]]\nname = \"care\"\npurpose = \"maintenance\"\nnodes = 1\nstart = \"2022-01-01T02:00:00Z\"\nlength = \"1h\"";
const NAMED: &str = "{\"format\":\"offtake-workload\",\"version\":1}\n{\"job\":{\"name\":\"a\",\"tenant\":\"t\",\
    \"submitted\":\"2022-01-01T00:00:00Z\",\"duration\":\"1h\",\"reservation\":\"demo\",\"gangs\":[{\"chips\":4}]}}\n";
const NO_CHIPS: &str = "[[services]]\nname = \"chat\"\ntenant = \"t\"\ntier = \"reserved\"\nminimum = 1\nmaximum = 2\n\
    replica = { chips = 0 }\ndemand_ppm = [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]\n[signals]";
const TOO_LARGE: &str = "[[services]]\nname = \"chat\"\ntenant = \"t\"\ntier = \"reserved\"\nminimum = 1\nmaximum = 2\n\
    replica = { chips = 9 }\ndemand_ppm = [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]\n[signals]";
const CIRCLE: &str = "[templates.a]\nlevel = \"site\"\ndomains = { b = 1 }\n[templates.b]\nlevel = \"site\"\n\
    domains = { a = 1 }\n[sites.hall]";
const TORUS: &str = "{\"format\":\"offtake-workload\",\"version\":1}\n{\"job\":{\"name\":\"a\",\"tenant\":\"t\",\
    \"submitted\":\"2022-01-01T00:00:00Z\",\"gangs\":[{\"chips\":4,\"torus\":\"4x4x8\"}]}}\n";
const ELASTIC: &str = "{\"format\":\"offtake-workload\",\"version\":1}\n{\"job\":{\"name\":\"a\",\"tenant\":\"t\",\
    \"submitted\":\"2022-01-01T00:00:00Z\",\"gangs\":[{\"chips\":4,\"workers_min\":2,\"workers_max\":4}]}}\n";

/// What is wrong on the command line.
const ARGUMENTS: &[(&str, &str)] = &[
    ("no scenario of that name", "simulate none.toml"),
    ("a folder for a scenario", "simulate ."),
    ("a trace for a scenario", "simulate jobs.csv"),
    ("an unknown policy", "simulate scenario.toml --policy fifo,best"),
    ("a policy twice", "simulate scenario.toml --policy fifo,fifo"),
    ("an empty policy", "simulate scenario.toml --policy fifo,"),
    ("set without a value", "simulate scenario.toml --set horizon"),
    ("set without a key", "simulate scenario.toml --set =5h"),
    ("set of an unknown key", "simulate scenario.toml --set workload.ofered_load=1"),
    ("set below a value", "simulate scenario.toml --set seed.value=1"),
    ("set of a key with a hole", "simulate scenario.toml --set workload..trace=1"),
    ("set to the wrong kind", "simulate scenario.toml --set seed=[1,2]"),
    ("set to what is not allowed", "simulate scenario.toml --set horizon=-5h"),
    ("set to a load without end", "simulate scenario.toml --set workload.offered_load=inf"),
    ("no fleet of that name", "fleet check none.toml"),
    ("a scenario for a fleet", "fleet show scenario.toml"),
    ("no trace of that name", "trace convert none.csv all.csv"),
    ("an unknown format to read", "trace convert jobs.csv all.csv --from xml"),
    ("an unknown format to write", "trace convert jobs.csv all.csv --to xml"),
    ("a format that is only read", "trace convert jobs.csv all.csv --to openb"),
    ("a name that tells no format", "trace convert jobs.csv all.txt"),
    ("a scenario for a trace", "trace convert scenario.toml all.csv"),
];

#[test]
fn it_is_refused_with_words_that_help() {
    let mut transcript = Transcript::default();
    for (what, file, given, instead) in EDITS {
        let folder = Folder::with_scenario("bad-input");
        let text = files().iter().find(|(name, _)| name == file).expect("a file of the scenario").1;
        assert!(text.contains(given), "{file} lacks {given}");
        folder.write(file, text.replacen(given, instead, 1));
        transcript.refuses(&folder, what, "simulate scenario.toml");
    }
    for (what, file, bytes) in wild_files() {
        let folder = Folder::with_scenario("bad-input");
        folder.write(file, bytes);
        transcript.refuses(&folder, what, "simulate scenario.toml");
    }
    insta::assert_snapshot!(transcript.text());
}

#[test]
fn arguments_are_refused_with_words_that_help() {
    let mut transcript = Transcript::default();
    for (what, arguments) in ARGUMENTS {
        transcript.refuses(&Folder::with_scenario("bad-arguments"), what, arguments);
    }
    insta::assert_snapshot!(transcript.text());
}

/// Files that no editor writes.
fn wild_files() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let cut = |text: &str| {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(text.as_bytes()).expect("memory takes all");
        let mut bytes = gzip.finish().expect("memory takes all");
        bytes.truncate(bytes.len() / 2);
        bytes
    };
    let latin = |text: &str| {
        text.replacen("lab", "caf?", 1).bytes().map(|byte| if byte == b'?' { 0xe9 } else { byte }).collect()
    };
    let [(_, scenario), (_, fleet), _, (_, prices), ..] = files();
    vec![
        ("a trace whose gzip ends early", "jobs.csv", cut(JOBS)),
        ("prices whose gzip ends early", "prices.csv", cut(prices)),
        ("a trace that is not UTF-8", "jobs.csv", latin(JOBS)),
        ("a scenario that is not UTF-8", "scenario.toml", latin(&format!("{scenario}# lab\n"))),
        ("a fleet that is not UTF-8", "fleet.toml", latin(&format!("{fleet}# lab\n"))),
        ("a trace of one line of 64 MiB", "jobs.csv", vec![b'x'; 64 << 20]),
        ("prices of one line of 64 MiB", "prices.csv", vec![b'x'; 64 << 20]),
        ("a scenario of one line of 8 MiB", "scenario.toml", vec![b'x'; 8 << 20]),
        ("a fleet of one line of 8 MiB", "fleet.toml", vec![b'x'; 8 << 20]),
    ]
}

/// 64 GiB that take no room on the disk: whoever keeps what it reads does not come back.
#[test]
fn files_without_end_are_refused_at_once() {
    for file in ["scenario.toml", "fleet.toml", "jobs.csv", "prices.csv", "carbon-zones.csv"] {
        let folder = Folder::with_scenario("endless");
        let endless = std::fs::File::create(folder.path(file)).expect("the folder can be written");
        endless.set_len(64 << 30).expect("the file may have holes");
        let said = folder.offtake("simulate scenario.toml --out result").refused();
        assert!(said.starts_with(&format!("error: {file}")), "{said}");
    }
}

#[test]
fn what_cannot_be_written_is_no_bad_input() {
    let folder = Folder::with_scenario("not-writable");
    let before = folder.contents();
    for arguments in ["simulate scenario.toml --out fleet.toml/result", "trace convert jobs.csv none/all.csv"] {
        let ran = folder.offtake(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{}", ran.stderr);
        assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
        assert_eq!(folder.contents(), before);
    }
}

/// What the command said to each case, and where it did more or less than to refuse it.
#[derive(Default)]
struct Transcript {
    text: String,
    faults: String,
}

impl Transcript {
    fn refuses(&mut self, folder: &Folder, what: &str, arguments: &str) {
        folder.write("result/summary.json", "an earlier result");
        let before = folder.contents();
        let out = if arguments.starts_with("simulate") { " --out result" } else { "" };
        let ran = folder.offtake(&format!("{arguments}{out}"));
        let fault = match () {
            () if ran.code != Some(2) => "its exit code is not 2",
            () if !ran.stdout.is_empty() => "it prints data",
            () if !ran.stderr.starts_with("error: ") || ran.stderr.lines().count() != 1 => "it is not told in one line",
            () if folder.contents() != before => "something was written",
            () => "",
        };
        if !fault.is_empty() {
            self.faults += &format!("{what}: {fault}: {:?} {}\n", ran.code, ran.stderr);
        }
        self.text += &format!("# {what}\n{}\n", ran.stderr);
    }

    #[track_caller]
    fn text(self) -> String {
        assert!(self.faults.is_empty(), "\n{}", self.faults);
        self.text
    }
}
