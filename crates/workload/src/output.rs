//! Files that are whole or not there.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

/// Writes a file beside its place and moves it there once it is whole and on disk, so that a failure leaves what was
/// there before. `wrap` turns an error of the system into the caller's.
///
/// # Errors
/// Those of `fill`, and those of the system.
pub fn write_atomically<E>(
    path: &Path,
    wrap: impl Fn(io::Error) -> E,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let (beside, file) = create_beside(path).map_err(&wrap)?;
    let mut out = BufWriter::new(file);
    let done = fill(&mut out).and_then(|()| settle(out, &beside, path).map_err(&wrap));
    if done.is_err() {
        // The first error is the one to tell; a file left behind is harmless, as its name is never read.
        let _ = fs::remove_file(&beside);
    }
    done
}

/// Makes a new hidden file in the folder of `path`. The process in the name keeps two writers apart; the attempt steps
/// over what a process of the same id may have left.
fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    const ATTEMPTS: u32 = 16;
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not the name of a file"))?;
    let mut attempt = 1;
    loop {
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}-{attempt}.tmp", std::process::id()));
        let beside = path.with_file_name(hidden);
        match OpenOptions::new().write(true).create_new(true).open(&beside) {
            Ok(file) => return Ok((beside, file)),
            Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists && attempt < ATTEMPTS => attempt += 1,
            Err(other) => return Err(other),
        }
    }
}

fn settle(out: BufWriter<File>, beside: &Path, path: &Path) -> io::Result<()> {
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    fs::rename(beside, path)?;
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Makes the new name last too; not every system can open a folder, and the content is safe already.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_failure_leaves_what_was_there() {
        let folder = std::env::temp_dir().join(format!("offtake-output-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for the test");
        let path = folder.join("x.csv");
        write_atomically(&path, |e| e, |out| out.write_all(b"first")).expect("written");
        let failed = write_atomically(
            &path,
            |e| e,
            |out| {
                out.write_all(b"half")?;
                Err(io::Error::other("broke off"))
            },
        );
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).expect("still there"), b"first");
        assert_eq!(fs::read_dir(&folder).expect("readable").count(), 1, "nothing is left beside it");
        fs::remove_dir_all(&folder).expect("removed");
    }
}
