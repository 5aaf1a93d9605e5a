//! `gantry catalog sql`, where the engine is in the program.

use anyhow::anyhow;
use gantry_cloud_sync::catalog::{Form, Limits, Mirror, query};

use super::{Failure, SqlArgs, failed, key, source, wait};

pub(super) fn run(args: &SqlArgs) -> Result<(), Failure> {
    let key = key(&args.reach)?;
    let folder = tempfile::tempdir().map_err(|e| (1, e.into()))?;
    let limits = Limits { memory_max_mib: args.memory_max_mib, rows_max: args.rows_max as usize };
    let form = match (args.json, args.csv) {
        (true, _) => Form::Json,
        (_, true) => Form::Csv,
        _ => Form::Table,
    };
    let mut printed = Ok(());
    let whole = wait(async {
        let source = source(Some(&args.source), &args.reach).await?;
        let mirror = Mirror { folder: folder.path(), mirror_max_mib: args.mirror_max_mib };
        let local = source.local(mirror, key.as_ref()).await.map_err(failed)?;
        let mut out = |piece: &[u8]| {
            if printed.is_ok() {
                printed = crate::print(piece);
            }
        };
        query(&local, &args.sql, limits, form, &mut out).await.map_err(failed)
    })?;
    printed?;
    match whole {
        true => Ok(()),
        false => Err((5, anyhow!("there are more rows than --rows-max = {}: these are the first", args.rows_max))),
    }
}
