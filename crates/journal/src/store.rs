//! `journal.sqlite`: its format, and the ways to open it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::error::{Damage, Error};
use crate::hash::{Hash, Position};

/// "OftK": tells `journal.sqlite` from other databases.
const APPLICATION_ID: i64 = 0x4f66_744b;

/// The format that is written.
const FORMAT: i64 = 1;

/// The formats that can be read. A journal of an older one is read as it is; `tests/fixtures` has one of each.
const READABLE: &[i64] = &[1];

const SCHEMA: &str = "
    CREATE TABLE journal (one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL) STRICT;
    CREATE TABLE batch (
        last INTEGER PRIMARY KEY, count INTEGER NOT NULL, chain BLOB NOT NULL, records BLOB NOT NULL
    ) STRICT;
    CREATE TABLE segment (last INTEGER PRIMARY KEY, first INTEGER NOT NULL, chain BLOB NOT NULL) STRICT;
    INSERT INTO journal (one, epoch) VALUES (1, 0);
";

/// Pages that the write-ahead log may have before they are carried into the database: 16 MiB.
const CHECKPOINT_PAGES: i64 = 4_096;

/// The log's file is cut to this size once its pages are carried over.
const LOG_BYTES: i64 = 64 << 20;

/// The database in `folder`.
pub(crate) fn file_of(folder: &Path) -> PathBuf {
    folder.join("journal.sqlite")
}

/// Opens the journal in `folder` for appending; makes it where there is none.
pub(crate) fn open(folder: &Path) -> Result<Connection, Error> {
    let file = file_of(folder);
    let failed = Error::store(&file);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(&file, flags).map_err(&failed)?;
    if connection.is_readonly("main").map_err(&failed)? {
        return Err(Error::ReadOnly { path: file.clone() });
    }
    prepare(&connection).map_err(&failed)?;
    if is_empty(&connection).map_err(&failed)? {
        create(&mut connection).map_err(&failed)?;
        crate::file::sync_folder(folder)?;
    }
    check_format(&connection, &file)?;
    connection.pragma_update(None, "journal_mode", "wal").map_err(&failed)?;
    Ok(connection)
}

/// Opens a new journal at `file` that is not safe against a crash until it is closed and synced.
pub(crate) fn open_draft(file: &Path) -> Result<Connection, Error> {
    let failed = Error::store(file);
    let mut connection = Connection::open(file).map_err(&failed)?;
    prepare(&connection).map_err(&failed)?;
    connection.pragma_update(None, "journal_mode", "off").map_err(&failed)?;
    connection.pragma_update(None, "synchronous", "off").map_err(&failed)?;
    create(&mut connection).map_err(&failed)?;
    Ok(connection)
}

/// Opens the journal in `folder` for reading only.
pub(crate) fn open_read_only(folder: &Path) -> Result<Connection, Error> {
    let file = file_of(folder);
    if !file.is_file() {
        return Err(Error::Missing { folder: folder.to_owned() });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(&file, flags).map_err(Error::store(&file))?;
    // In a folder that cannot be written to SQLite cannot make its shared memory; it need not where no log is left.
    if connection.query_row("SELECT count(*) FROM sqlite_schema", (), |_| Ok(())).is_err() && !has_log(&file) {
        let flags = flags | OpenFlags::SQLITE_OPEN_URI;
        connection = Connection::open_with_flags(immutable_uri(&file), flags).map_err(Error::store(&file))?;
    }
    prepare(&connection).map_err(Error::store(&file))?;
    check_format(&connection, &file)?;
    Ok(connection)
}

fn has_log(file: &Path) -> bool {
    let mut log = file.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).is_ok_and(|log| log.len() > 0)
}

/// The address of a file that nobody changes.
fn immutable_uri(file: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte);
    let path = file.as_os_str().as_bytes().iter().map(|&byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02x}"),
    });
    format!("file:{}?immutable=1", path.collect::<String>())
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(32);
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    // An answer goes out after its facts are on disk: every commit waits for it.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    Ok(tables == 0)
}

fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(SCHEMA)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()
}

fn check_format(connection: &Connection, file: &Path) -> Result<(), Error> {
    let number =
        |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(Error::store(file));
    if number("application_id")? != APPLICATION_ID {
        let what = "it is another program's database".to_owned();
        return Err(Error::NotAJournal { file: file.to_owned(), what });
    }
    let found = number("user_version")?;
    if found > FORMAT {
        return Err(Error::Newer { file: file.to_owned(), found, newest: FORMAT });
    }
    if !READABLE.contains(&found) {
        return Err(Error::NotAJournal { file: file.to_owned(), what: format!("there is no format {found}") });
    }
    Ok(())
}

/// How often the journal was opened for appending.
pub(crate) fn epoch(connection: &Connection) -> rusqlite::Result<u64> {
    connection.prepare_cached("SELECT epoch FROM journal")?.query_row((), |row| row.get(0))
}

/// The journal's end, as it is written there.
pub(crate) fn head(connection: &Connection) -> rusqlite::Result<Position> {
    for table in ["batch", "segment"] {
        let query = format!("SELECT last, chain FROM {table} ORDER BY last DESC LIMIT 1");
        let found = connection.prepare_cached(&query)?.query_row((), position).optional()?;
        if let Some(head) = found {
            return Ok(head);
        }
    }
    Ok(Position::START)
}

/// The chain that is written down for `sequence`; none where no batch or segment ends there.
pub(crate) fn written_chain(connection: &Connection, sequence: u64) -> rusqlite::Result<Option<Hash>> {
    if sequence == 0 {
        return Ok(Some(Hash::ZERO));
    }
    for table in ["batch", "segment"] {
        let query = format!("SELECT last, chain FROM {table} WHERE last = ?1");
        let found = connection.prepare_cached(&query)?.query_row([sequence], position).optional()?;
        if let Some(found) = found {
            return Ok(Some(found.chain));
        }
    }
    Ok(None)
}

fn position(row: &rusqlite::Row<'_>) -> rusqlite::Result<Position> {
    Ok(Position { sequence: row.get(0)?, chain: Hash(row.get(1)?) })
}

/// How many records the batch that ends with `sequence` was written with; none where no batch does.
pub(crate) fn count(connection: &Connection, sequence: u64) -> rusqlite::Result<Option<u64>> {
    connection.query_row("SELECT count FROM batch WHERE last = ?1", [sequence], |row| row.get(0)).optional()
}

/// The records of the batch that ends with `sequence`.
pub(crate) fn records(connection: &Connection, sequence: u64) -> rusqlite::Result<Vec<u8>> {
    connection.query_row("SELECT records FROM batch WHERE last = ?1", [sequence], |row| row.get(0))
}

/// Writes a batch that ends at `head`.
pub(crate) fn insert(connection: &Connection, head: Position, count: u64, records: &[u8]) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO batch (last, count, chain, records) VALUES (?1, ?2, ?3, ?4)")?
        .execute((head.sequence, count, head.chain.0, records))
        .map(|_| ())
}

/// An error of SQLite while it read what begins at `sequence`: what it cannot read as it should be is damage.
pub(crate) fn reading(file: &Path, sequence: u64, source: rusqlite::Error) -> Error {
    match is_damage(&source) {
        true => Error::Damaged(Damage {
            file: file.to_owned(),
            records: Some((sequence, sequence)),
            what: source.to_string(),
        }),
        false => Error::store(file)(source),
    }
}

/// Whether SQLite, or what a value should be, tells of damage.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, QueryReturnedNoRows};
    match error {
        FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) | QueryReturnedNoRows => {
            true
        }
        other => other.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseCorrupt),
    }
}
