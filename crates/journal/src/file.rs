//! Files and folders that survive a loss of power.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Makes `folder`, readable by its owner alone, and those above it.
pub(crate) fn make_folder(folder: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    if folder.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => Error::ReadOnly { path: folder.to_owned() },
        _ => Error::file(folder)(source),
    })?;
    folder.parent().map_or(Ok(()), sync_folder)
}

/// Puts on disk that files in `folder` came, went or were renamed.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), Error> {
    // The parent of a relative path of one part is empty: it means the current folder.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder).and_then(|file| file.sync_all()).map_err(Error::file(folder))
}

/// Writes `path` as a whole or not at all: `write` fills a file beside it, which then takes its name. A file of that name
/// is replaced.
pub(crate) fn write_whole<R>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<R, Error>,
) -> Result<R, Error> {
    let part = part_of(path);
    let result = write_part(&part, write).and_then(|result| {
        fs::rename(&part, path).map_err(Error::file(path))?;
        path.parent().map_or(Ok(()), sync_folder)?;
        Ok(result)
    });
    if result.is_err() {
        let _ = fs::remove_file(&part);
    }
    result
}

fn write_part<R>(part: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<R, Error>) -> Result<R, Error> {
    let failed = Error::file(part);
    let mut output = BufWriter::with_capacity(1 << 18, private(part).map_err(&failed)?);
    let result = write(&mut output)?;
    let file = output.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(&failed)?;
    Ok(result)
}

/// A new file for its owner alone: facts hold what jobs were given, secrets of theirs too.
fn private(path: &Path) -> std::io::Result<File> {
    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// The name under which `path` is being written.
pub(crate) fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}
