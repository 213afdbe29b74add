//! History: the jobs that have ended, for lists and look-ups. It is a projection of the journal: whoever keeps it fills it
//! from the facts again when it is lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params_from_iter};

use crate::error::Error;
use crate::file;

/// Another number than this is another form of the table: it is made anew.
const FORMAT: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE job (
        id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL, user TEXT NOT NULL, state TEXT NOT NULL,
        array INTEGER, ended INTEGER NOT NULL, document BLOB NOT NULL
    ) STRICT;
    CREATE INDEX by_tenant ON job (tenant, id);
    CREATE INDEX by_name ON job (name, id);
    CREATE INDEX by_user ON job (user, id);
    CREATE INDEX by_array ON job (array, id) WHERE array IS NOT NULL;
    CREATE TABLE applied (one INTEGER PRIMARY KEY CHECK (one = 1), sequence INTEGER NOT NULL) STRICT;
    INSERT INTO applied (one, sequence) VALUES (1, 0);
";

const COLUMNS: &str = "id, tenant, name, user, state, array, ended, document";

/// The most rows of one list.
const MAX_ROWS: u32 = 10_000;

/// The jobs that have ended. Any thread may use it.
#[derive(Debug)]
pub struct History {
    file: PathBuf,
    open: RwLock<Open>,
}

#[derive(Debug)]
struct Open {
    writer: Mutex<Connection>,
    /// Connections that nobody reads with at the moment.
    idle: Mutex<Vec<Connection>>,
}

/// A job that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Its identity.
    pub id: u64,
    /// Who paid.
    pub tenant: String,
    /// Its name.
    pub name: String,
    /// The user it ran as.
    pub user: String,
    /// How it ended.
    pub state: String,
    /// The array it is of, if any.
    pub array: Option<u64>,
    /// When it ended, in milliseconds since 1970.
    pub ended_ms: i64,
    /// All that is known of it, as JSON.
    pub document: Vec<u8>,
}

/// Which jobs to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only this tenant's.
    pub tenant: Option<String>,
    /// Only those of this name.
    pub name: Option<String>,
    /// Only those that ran as this user.
    pub user: Option<String>,
    /// Only those in one of these states; empty means any.
    pub states: Vec<String>,
    /// Only those of this array.
    pub array: Option<u64>,
    /// Only identities below this one.
    pub before: Option<u64>,
    /// At most so many, and at most 10,000.
    pub limit: u32,
}

impl History {
    /// Opens `history.sqlite` in `folder`; makes it where there is none, or where it is damaged or of another form.
    ///
    /// # Errors
    /// It can be neither opened nor made.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        file::make_folder(folder)?;
        let file = folder.join("history.sqlite");
        let open = Open::new(&file)?;
        Ok(Self { file, open: RwLock::new(open) })
    }

    /// Adds rows, replaces those of the same identity, and notes that all facts up to `applied` are in. All or nothing. A
    /// crash may take the last calls back, as a whole.
    ///
    /// # Errors
    /// It cannot be written, or is damaged: [`History::clear`], and fill it again.
    pub fn upsert(&self, rows: &[Row], applied: u64) -> Result<(), Error> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        upsert(&mut lock(&open.writer), rows, applied).map_err(Error::store(&self.file))
    }

    /// The job `id`, if it has ended.
    ///
    /// # Errors
    /// It cannot be read, or is damaged: [`History::clear`], and fill it again.
    pub fn get(&self, id: u64) -> Result<Option<Row>, Error> {
        if i64::try_from(id).is_err() {
            return Ok(None);
        }
        let query = format!("SELECT {COLUMNS} FROM job WHERE id = ?1");
        self.read(|connection| connection.prepare_cached(&query)?.query_row([id], row).optional())
    }

    /// The jobs that `filter` lets through, the youngest first.
    ///
    /// # Errors
    /// As for [`History::get`].
    pub fn list(&self, filter: &Filter) -> Result<Vec<Row>, Error> {
        let (query, values) = filter.query();
        self.read(|connection| connection.prepare_cached(&query)?.query_map(params_from_iter(&values), row)?.collect())
    }

    /// The sequence up to which facts are in.
    ///
    /// # Errors
    /// As for [`History::get`].
    pub fn applied_sequence(&self) -> Result<u64, Error> {
        self.read(|connection| connection.query_row("SELECT sequence FROM applied", (), |row| row.get(0)))
    }

    /// Begins with an empty file: nothing is in.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn clear(&self) -> Result<(), Error> {
        // Nobody reads or writes now, so that no connection stays at the file that goes.
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let nowhere = Connection::open_in_memory().map_err(Error::store(&self.file))?;
        *open = Open { writer: Mutex::new(nowhere), idle: Mutex::default() };
        remove(&self.file)?;
        *open = Open::new(&self.file)?;
        Ok(())
    }

    fn read<R>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<R>) -> Result<R, Error> {
        let failed = Error::store(&self.file);
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let idle = lock(&open.idle).pop();
        let connection = idle.map_or_else(|| connect(&self.file), Ok).map_err(&failed)?;
        let result = query(&connection).map_err(&failed);
        lock(&open.idle).push(connection);
        result
    }
}

/// A transaction that is given up is rolled back: what a panic leaves behind is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Open {
    fn new(file: &Path) -> Result<Self, Error> {
        let writer =
            match connect(file).and_then(|mut connection| prepare(&mut connection).map(|sound| (connection, sound))) {
                Ok((connection, true)) => connection,
                Ok((connection, false)) => {
                    drop(connection);
                    anew(file)?
                }
                Err(error) if is_damage(&error) => anew(file)?,
                Err(error) => return Err(Error::store(file)(error)),
            };
        Ok(Self { writer: Mutex::new(writer), idle: Mutex::default() })
    }
}

fn anew(file: &Path) -> Result<Connection, Error> {
    remove(file)?;
    let failed = Error::store(file);
    let mut connection = connect(file).map_err(&failed)?;
    prepare(&mut connection).map_err(&failed)?;
    Ok(connection)
}

fn remove(file: &Path) -> Result<(), Error> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        match fs::remove_file(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::file(file)(error)),
            _ => {}
        }
    }
    Ok(())
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn connect(file: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(file)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "journal_mode", "wal")?;
    // What a crash takes back comes again from the facts.
    connection.pragma_update(None, "synchronous", "normal")?;
    Ok(connection)
}

/// Makes the tables in a new file; false where another form of them is there.
fn prepare(connection: &mut Connection) -> rusqlite::Result<bool> {
    let transaction = connection.transaction()?;
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    if tables > 0 {
        let format: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        return Ok(format == FORMAT);
    }
    transaction.execute_batch(SCHEMA)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()?;
    Ok(true)
}

fn upsert(connection: &mut Connection, rows: &[Row], applied: u64) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    let query = format!("INSERT OR REPLACE INTO job ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
    let mut insert = transaction.prepare_cached(&query)?;
    for row in rows {
        let Row { id, tenant, name, user, state, array, ended_ms, document } = row;
        insert.execute((id, tenant, name, user, state, array, ended_ms, document))?;
    }
    drop(insert);
    transaction.prepare_cached("UPDATE applied SET sequence = ?1")?.execute([applied])?;
    transaction.commit()
}

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        id: row.get(0)?,
        tenant: row.get(1)?,
        name: row.get(2)?,
        user: row.get(3)?,
        state: row.get(4)?,
        array: row.get(5)?,
        ended_ms: row.get(6)?,
        document: row.get(7)?,
    })
}

impl Filter {
    fn query(&self) -> (String, Vec<Value>) {
        let mut conditions = vec!["true".to_owned()];
        let mut values = Vec::new();
        // No identity is above what SQLite can hold.
        let number = |id: u64| Value::Integer(i64::try_from(id).unwrap_or(i64::MAX));
        let given = [
            ("tenant =", self.tenant.clone().map(Value::Text)),
            ("name =", self.name.clone().map(Value::Text)),
            ("user =", self.user.clone().map(Value::Text)),
            ("array =", self.array.map(number)),
            ("id <", self.before.map(number)),
        ];
        for (condition, value) in given {
            if let Some(value) = value {
                conditions.push(format!("{condition} ?"));
                values.push(value);
            }
        }
        if !self.states.is_empty() {
            conditions.push(format!("state IN ({})", vec!["?"; self.states.len()].join(", ")));
            values.extend(self.states.iter().cloned().map(Value::Text));
        }
        values.push(Value::Integer(i64::from(self.limit.min(MAX_ROWS))));
        let conditions = conditions.join(" AND ");
        (format!("SELECT {COLUMNS} FROM job WHERE {conditions} ORDER BY id DESC LIMIT ?"), values)
    }
}
