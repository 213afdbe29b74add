//! Only one process appends to a journal.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::Path;

use crate::error::Error;
use crate::file;

/// A folder's lock. It goes when this is dropped, and when the process dies in whatever way.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of `folder`, which is made where it is missing.
    pub(crate) fn take(folder: &Path) -> Result<Self, Error> {
        file::make_folder(folder)?;
        let path = folder.join("journal.lock");
        let failed = Error::file(&path);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(|source| {
                match source.kind() {
                    ErrorKind::PermissionDenied => Error::ReadOnly { path: path.clone() },
                    _ => failed(source),
                }
            })?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let holder = file.take(20).read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(Error::Held { folder: folder.to_owned(), holder });
            }
        }
        // The pid is for people: a disk without room for it is no reason to refuse.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}
