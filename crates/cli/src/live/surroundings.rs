//! What a job takes from where it is submitted.

use std::collections::BTreeMap;

use offtake_units::{Duration, Timestamp};
use offtake_workload::sbatch::Surroundings;

use crate::show::figures;
use crate::terminal::BadInput;

/// All that a batch script may take.
///
/// # Errors
/// As [`directory`].
pub fn of_script() -> anyhow::Result<Surroundings> {
    Ok(Surroundings {
        now: Timestamp::from_millis(figures::now_ms()),
        utc_offset: Duration::from_secs(i64::from(jiff::Zoned::now().offset().seconds())),
        directory: directory()?,
        environment: environment(),
    })
}

/// Where this command runs.
///
/// # Errors
/// When the folder is gone, or its name is none that a job can have.
pub fn directory() -> anyhow::Result<String> {
    let folder = std::env::current_dir()?;
    let text = folder.into_os_string().into_string();
    text.map_err(|path| BadInput(format!("{}: a job's folder has a name in UTF-8", path.display())).into())
}

/// This command's environment, as far as it is the user's: neither secrets nor places that are another job's own.
pub fn environment() -> BTreeMap<String, String> {
    let is_users = |name: &str| !["OFFTAKE_", "SLURM_"].iter().any(|prefix| name.starts_with(prefix));
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| is_users(name))
        .collect()
}
