//! Answers to those who want to read output: sends it to the server in pieces, as it grows.
//!
//! Which files hold a worker's output was written down when the task was prepared, from what was ordered; a request
//! names only the task. A file that the job named is read only if it is an ordinary file that belongs to the job's own
//! user, so that neither a link nor a name can lead to what the user could not read anyway.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::OFlag;
use offtake_protocol::agent::{LOG_END_QUERY, LogPiece, LogRequest, Stream};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::link::{Link, LinkError};
use crate::store::{Store, file, read};
use crate::supervisor::{log_end, log_read};

/// The most of one stream in one piece, in bytes.
const PIECE: usize = 64 << 10;
/// No more is added to a post that has so much, in bytes. With the last piece, in which JSON may write a byte as six, it
/// stays below the MiB that a server takes.
const POST: usize = 256 << 10;
/// Time between two looks at files that grow: at first, and after a while without news.
const LOOK: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(400));
/// Time until the next try when the server cannot be reached.
const AGAIN: Duration = Duration::from_secs(1);
const POST_LIMIT: Duration = Duration::from_secs(30);

/// Where the output of a task goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Streams {
    /// Whose files they are.
    pub uid: u32,
    /// By worker.
    pub workers: Vec<WorkerStreams>,
}

/// Where the output of a worker goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkerStreams {
    /// Its place in the step.
    pub rank: u32,
    /// The file that the job named for its standard output; none for files that the node keeps.
    pub output: Option<NamedFile>,
    /// The same for its standard error; also none where that goes to the same file.
    pub error: Option<NamedFile>,
    /// Whether standard error goes where standard output goes.
    pub together: bool,
}

/// A file that a job named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NamedFile {
    /// Its path; absolute.
    pub path: PathBuf,
    /// Its length before this task.
    pub from: u64,
}

impl Streams {
    pub fn names_files(&self) -> bool {
        self.workers.iter().any(|worker| worker.output.is_some() || worker.error.is_some())
    }

    fn sources(&self, only: Option<u32>) -> Vec<Source> {
        let mut sources: Vec<Source> = Vec::new();
        for worker in self.workers.iter().filter(|worker| only.is_none_or(|rank| rank == worker.rank)) {
            let mut add = |stream, named: &Option<NamedFile>| {
                let place = match named {
                    Some(file) => Place::Named { file: file.clone(), uid: self.uid },
                    None => Place::Kept,
                };
                // Workers may share a file, which is told once.
                if !sources.iter().any(|other| other.is_same_file(&place)) {
                    sources.push(Source { rank: worker.rank, stream, place, offset: 0 });
                }
            };
            add(Stream::Output, &worker.output);
            if !worker.together {
                add(Stream::Error, &worker.error);
            }
        }
        sources
    }
}

/// A stream that is read.
#[derive(Debug)]
struct Source {
    rank: u32,
    stream: Stream,
    place: Place,
    offset: u64,
}

#[derive(Debug)]
enum Place {
    /// In the worker's folder, which moves when the task is forgotten.
    Kept,
    Named {
        file: NamedFile,
        uid: u32,
    },
}

impl Source {
    fn is_same_file(&self, other: &Place) -> bool {
        match (&self.place, other) {
            (Place::Named { file, .. }, Place::Named { file: other, .. }) => file.path == other.path,
            _ => false,
        }
    }

    /// Goes to where the reader wants to begin. `folder` is the task's.
    fn begin(&mut self, folder: &Path, tail_bytes: Option<u64>) {
        let (first, end) = match &self.place {
            Place::Kept => (0, log_end(&folder.join(self.rank.to_string()), self.stream).unwrap_or(0)),
            Place::Named { file, uid } => (file.from, open(&file.path, *uid).map_or(0, |(_, length)| length)),
        };
        self.offset = tail_bytes.map_or(first, |tail| end.saturating_sub(tail).max(first));
    }

    /// What comes next; none when there is nothing new. `last` says that nothing more will be written. `folder` tells
    /// where the task's folder is now.
    fn next(&mut self, folder: &impl Fn() -> PathBuf, last: bool) -> Option<LogPiece> {
        let read_kept = || log_read(&folder().join(self.rank.to_string()), self.stream, self.offset, PIECE);
        let (offset, mut bytes) = match &self.place {
            Place::Kept => {
                // It may have been moved between the look and the reading, once.
                let chunk = read_kept().or_else(|_| read_kept()).ok()?;
                (chunk.offset, chunk.bytes)
            }
            Place::Named { file, uid } => (self.offset, read_named(&file.path, *uid, self.offset).ok()?),
        };
        let begun = begun_character(&bytes);
        // The rest of a character comes later, unless nothing does.
        if !(last && begun == bytes.len()) {
            bytes.truncate(bytes.len() - begun);
        }
        if bytes.is_empty() {
            return None;
        }
        self.offset = offset + bytes.len() as u64;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Some(LogPiece { rank: self.rank, stream: self.stream, offset, text })
    }
}

/// How many bytes at the end begin a character whose rest is not there.
fn begun_character(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let byte = bytes[bytes.len() - back];
        let length = match byte {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            0x80..=0xbf => continue,
            _ => return 0,
        };
        return if length > back { back } else { 0 };
    }
    0
}

/// Opens a file that a job named, and tells its length.
fn open(path: &Path, uid: u32) -> io::Result<(fs::File, u64)> {
    // A pipe must not hold us, and a terminal not become ours.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.uid() != uid {
        return Err(io::Error::other("not an ordinary file of the job's user"));
    }
    Ok((file, metadata.len()))
}

fn read_named(path: &Path, uid: u32, offset: u64) -> io::Result<Vec<u8>> {
    let (mut file, _) = open(path, uid)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(PIECE as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Sends what a request asks for, until all is sent or nobody reads any more. `over` tells when the task has ended.
pub(crate) async fn answer(link: Arc<Link>, store: Arc<Store>, request: LogRequest, over: watch::Receiver<bool>) {
    let id = request.id;
    let mut answer = Answer { store, request, sources: None };
    let mut look = LOOK.0;
    loop {
        // Asked before the files are: what is written before the end is found after it.
        let last = *over.borrow() || !answer.request.follow;
        let gathered = tokio::task::spawn_blocking(move || {
            let body = answer.gather(last);
            (answer, body)
        });
        let Ok((again, body)) = gathered.await else { return };
        answer = again;
        let nothing = body.is_empty();
        if nothing && !last {
            tokio::time::sleep(look).await;
            look = (look * 2).min(LOOK.1);
            continue;
        }
        look = LOOK.0;
        let path = format!("/v1/agents/logs/{id}");
        let path = if nothing { format!("{path}?{LOG_END_QUERY}") } else { path };
        if !send(&link, &path, body).await || nothing {
            return;
        }
    }
}

/// How far a request has been answered.
#[derive(Debug)]
struct Answer {
    store: Arc<Store>,
    request: LogRequest,
    /// None before the task has been prepared.
    sources: Option<Vec<Source>>,
}

impl Answer {
    /// The next pieces of all streams, one JSON object a line; empty when there is nothing new.
    fn gather(&mut self, last: bool) -> Vec<u8> {
        let (store, request) = (&self.store, &self.request);
        let folder = || store.output(request.task);
        if self.sources.is_none() {
            let at = folder();
            self.sources = read::<Streams>(&at.join(file::STREAMS)).map(|streams| {
                let mut sources = streams.sources(request.rank);
                sources.iter_mut().for_each(|source| source.begin(&at, request.tail_bytes));
                sources
            });
        }
        gather(self.sources.as_deref_mut().unwrap_or_default(), &folder, last)
    }
}

fn gather(sources: &mut [Source], folder: &impl Fn() -> PathBuf, last: bool) -> Vec<u8> {
    let mut body = Vec::new();
    for source in sources {
        if body.len() >= POST {
            break;
        }
        if let Some(piece) = source.next(folder, last) {
            serde_json::to_writer(&mut body, &piece).expect("text and numbers can be written");
            body.push(b'\n');
        }
    }
    body
}

/// Whether the server took it and wants more.
async fn send(link: &Link, path: &str, body: Vec<u8>) -> bool {
    loop {
        match link.post(path, &body, POST_LIMIT).await {
            Ok(_) => return true,
            Err(LinkError::Refused { status, .. }) if status < 500 && status != 429 => return false,
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::testing::Folder;

    fn own_uid() -> u32 {
        nix::unistd::geteuid().as_raw()
    }

    fn worker(rank: u32, output: Option<&Path>, from: u64) -> WorkerStreams {
        let output = output.map(|path| NamedFile { path: path.to_owned(), from });
        WorkerStreams { rank, together: output.is_some(), output, error: None }
    }

    fn texts(sources: &mut [Source], folder: &Folder) -> Vec<(u32, Stream, u64, String)> {
        let body = gather(sources, &|| folder.path().to_owned(), true);
        let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_slice::<LogPiece>(line).expect("a piece"))
            .map(|piece| (piece.rank, piece.stream, piece.offset, piece.text))
            .collect()
    }

    #[test]
    fn both_streams_of_the_ranks_that_were_asked_for() {
        let folder = Folder::new("streams");
        folder.write("0/output.0.log", "zero");
        folder.write("1/output.0.log", "one");
        folder.write("1/error.0.log", "wrong");
        let streams = Streams { uid: own_uid(), workers: vec![worker(0, None, 0), worker(1, None, 0)] };
        let mut all = streams.sources(None);
        all.iter_mut().for_each(|source| source.begin(folder.path(), None));
        let expected = [(0, Stream::Output, "zero"), (1, Stream::Output, "one"), (1, Stream::Error, "wrong")];
        let expected = expected.map(|(rank, stream, text)| (rank, stream, 0, text.to_owned()));
        assert_eq!(texts(&mut all, &folder), expected);
        assert_eq!(texts(&mut all, &folder), [], "told once");
        let mut tail = streams.sources(Some(1));
        tail.iter_mut().for_each(|source| source.begin(folder.path(), Some(2)));
        assert_eq!(texts(&mut tail, &folder)[0], (1, Stream::Output, 1, "ne".to_owned()));
    }

    #[test]
    fn a_shared_file_is_told_once_and_from_where_the_task_began() {
        let folder = Folder::new("shared");
        folder.write("out.txt", "before|after");
        let path = folder.path().join("out.txt");
        let workers = vec![worker(0, Some(&path), 7), worker(1, Some(&path), 7)];
        let mut sources = Streams { uid: own_uid(), workers }.sources(None);
        sources.iter_mut().for_each(|source| source.begin(folder.path(), None));
        assert_eq!(texts(&mut sources, &folder), [(0, Stream::Output, 7, "after".to_owned())]);
    }

    #[test]
    fn no_way_leads_to_files_of_others() {
        let folder = Folder::new("paths");
        folder.write("own", "own");
        let (own, link) = (folder.path().join("own"), folder.path().join("link"));
        assert!(open(&own, own_uid()).is_ok());
        assert!(open(&own, own_uid() + 1).is_err(), "somebody else's");
        symlink("/etc/hostname", &link).expect("linked");
        assert!(open(&link, 12_345).is_err(), "a link to somebody else's");
        assert!(open(Path::new("/dev/null"), own_uid()).is_err(), "no ordinary file");
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("made");
        assert!(open(&pipe, own_uid()).is_err(), "a pipe, which would hold us");
    }

    #[test]
    fn characters_stay_whole() {
        let folder = Folder::new("characters");
        let euro = "€".as_bytes();
        folder.write("0/output.0.log", "");
        fs::write(folder.path().join("0/output.0.log"), [b"a", &euro[..2]].concat()).expect("written");
        let streams = Streams { uid: 0, workers: vec![worker(0, None, 0)] };
        let mut sources = streams.sources(None);
        let (source, at) = (&mut sources[0], || folder.path().to_owned());
        assert_eq!(source.next(&at, false).expect("something").text, "a");
        assert_eq!(source.next(&at, false), None, "half a character");
        fs::write(folder.path().join("0/output.0.log"), [b"a", euro].concat()).expect("written");
        assert_eq!(source.next(&at, false).expect("the rest").text, "€");
        fs::write(folder.path().join("0/output.0.log"), [b"a", euro, &euro[..1]].concat()).expect("written");
        assert_eq!(source.next(&at, true).expect("it ends so").text, "\u{fffd}");
        assert_eq!(begun_character(b"\x80\x80\x80\x80"), 0, "no character at all");
    }
}
