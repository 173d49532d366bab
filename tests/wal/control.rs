//! Stories of a control file.

use std::path::Path;
use std::sync::Arc;

use understudy::wal::sim_disk::SimDisk;
use understudy::wal::{ControlError, ControlFile, Disk, Loaded};

use super::DIR;
use super::search::Search;

/// How the control file is opened: whole, or without a rule.
pub type Load<'a> = &'a dyn Fn(Arc<dyn Disk>) -> Result<(ControlFile, Loaded), ControlError>;

/// As it should be.
pub fn load(disk: Arc<dyn Disk>) -> Result<(ControlFile, Loaded), ControlError> {
    ControlFile::load(disk, Path::new(DIR))
}

/// Stores 1 to 4; the last one stored.
fn store_four(disk: &SimDisk, load: Load<'_>) -> u32 {
    let Ok((mut file, _)) = load(Arc::new(disk.clone())) else {
        return 0;
    };
    let mut stored = 0;
    for version in 1..=4_u32 {
        if file.store(&version.to_le_bytes()).is_err() {
            break;
        }
        stored = version;
    }
    stored
}

fn found(disk: SimDisk) -> Result<u32, String> {
    match load(Arc::new(disk)).map_err(|error| error.to_string())?.1 {
        Loaded::Found(bytes) => Ok(u32::from_le_bytes(bytes.try_into().unwrap())),
        Loaded::Missing => Ok(0),
        Loaded::Damaged => Err("no copy is whole".into()),
    }
}

/// Dead at each operation: the old state or the new.
pub fn crashes(load: Load<'_>) -> Search {
    let mut search = Search::default();
    let whole = super::disk();
    assert_eq!(store_four(&whole, load), 4);
    for boundary in 1..=whole.operations() + 1 {
        let dying = super::disk();
        dying.crash_at(boundary);
        let stored = store_four(&dying, load);
        for seed in 0..20 {
            let due = match found(dying.after_crash(seed * 77 + boundary)) {
                Ok(found) if found == stored || found == stored + 1 => Ok(()),
                Ok(found) => Err(format!("found {found}, stored {stored}")),
                Err(what) => Err(what),
            };
            let place = || format!("dead at operation {boundary}, seed {seed}");
            if !search.look(place, due) {
                return search;
            }
        }
    }
    search
}

/// Any bit of one copy rots: the other has it all.
pub fn rot(load: Load<'_>) -> Search {
    let mut search = Search::default();
    let whole = super::disk();
    let stored = store_four(&whole, load);
    for file in whole.durable_files() {
        for bit in 0..file.len * 8 {
            let image = whole.after_crash(0);
            assert!(image.rot(&file.path, bit), "durable bytes can rot");
            let due = match found(image) {
                Ok(found) if found == stored => Ok(()),
                Ok(found) => Err(format!("found {found}, stored {stored}")),
                Err(what) => Err(what),
            };
            if !search.look(|| format!("{} bit {bit}", file.path.display()), due) {
                return search;
            }
        }
    }
    search
}

/// The process dies at each operation, or the operation fails; the next one finds the page cache,
/// stores one more or not, and the power goes: what it had found, it may have acted upon.
pub fn second_lives(load: Load<'_>) -> Search {
    let mut search = Search::default();
    let whole = super::disk();
    store_four(&whole, load);
    for operation in 1..=whole.operations() {
        for dies in [true, false] {
            let first = super::disk();
            match dies {
                true => first.crash_at(operation),
                false => first.fail_at(operation),
            }
            let stored = store_four(&first, load);
            let second = first.kill();
            for stores in [true, false] {
                let known = match load(Arc::new(second.clone())) {
                    Ok((mut file, Loaded::Found(bytes))) => {
                        let known = u32::from_le_bytes(bytes.try_into().unwrap());
                        match stores {
                            true => file.store(&(known + 1).to_le_bytes()).map(|()| known + 1),
                            false => Ok(known),
                        }
                    }
                    Ok(_) => Ok(0),
                    Err(error) => Err(error),
                };
                let due = match known {
                    Ok(known) if known < stored => Err(format!("found {known}, stored {stored}")),
                    Ok(known) => match found(second.after_crash(operation)) {
                        Ok(found) if found == known => Ok(()),
                        Ok(found) => Err(format!("found {found}, it was {known}")),
                        Err(what) => Err(what),
                    },
                    Err(error) => Err(error.to_string()),
                };
                let place = || format!("operation {operation}, dies: {dies}, stores: {stores}");
                if !search.look(place, due) {
                    return search;
                }
            }
        }
    }
    search
}
