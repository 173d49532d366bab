//! CONFIG REWRITE: values that were changed while the node ran go into its configuration file.
//!
//! Promise: everything else in it stays as it stands, comments included; the file is replaced whole or
//! not at all, also by a crash; what the node could not read back is not written.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use toml_edit::{DocumentMut, Item, Table, value};

use crate::node;
use crate::server::Written;

/// Writes these values, by section and key, into the file at `path`.
pub(super) fn rewrite(
    path: &Path,
    values: &[(&'static str, &'static str, Written)],
) -> Result<(), String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(|error| named(&error))?;
    let text = edited(&text, values).map_err(|error| named(&error))?;
    // Beside it, for a rename stays within one file system.
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".rewritten");
    let beside = path.with_file_name(name);
    let replaced = write_whole(&beside, &text, path).and_then(|()| fs::rename(&beside, path));
    if let Err(error) = replaced {
        // What is left of it is of no use to anybody.
        let _ = fs::remove_file(&beside);
        return Err(named(&error));
    }
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = File::open(folder.unwrap_or(Path::new(".")));
    folder
        .and_then(|folder| folder.sync_all())
        .map_err(|error| named(&error))
}

fn write_whole(beside: &Path, text: &str, like: &Path) -> std::io::Result<()> {
    let mut file = File::create(beside)?;
    file.set_permissions(fs::metadata(like)?.permissions())?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// The text with these values in it.
fn edited(text: &str, values: &[(&'static str, &'static str, Written)]) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|error| format!("{error}"))?;
    for (section, key, written) in values {
        let table = document
            .entry(section)
            .or_insert_with(|| Item::Table(Table::new()));
        let table = table
            .as_table_like_mut()
            .ok_or_else(|| format!("{section} is no table"))?;
        let new = match written {
            Written::Number(number) => value(*number),
            Written::Text(text) => value(text.as_str()),
        };
        match (
            table.get_mut(key).and_then(Item::as_value_mut),
            new.as_value(),
        ) {
            (Some(old), Some(new)) => {
                // A comment behind the old value stays.
                let decor = old.decor().clone();
                *old = new.clone();
                *old.decor_mut() = decor;
            }
            _ => {
                table.insert(key, new);
            }
        }
    }
    let text = document.to_string();
    node::parse(&text).map_err(|error| error.to_string())?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_changed() {
        let text = "# a node\nid = 1 # the first\n\n[limits] # of it\nmax_clients = 10 # few\n";
        let values = [
            ("limits", "max_clients", Written::Number(500)),
            (
                "server",
                "notify_keyspace_events",
                Written::Text("AKE".into()),
            ),
        ];
        let wanted = "# a node\nid = 1 # the first\n\n[limits] # of it\nmax_clients = 500 # few\n\n\
                      [server]\nnotify_keyspace_events = \"AKE\"\n";
        assert_eq!(edited(text, &values).unwrap(), wanted);
        assert_eq!(edited(wanted, &values).unwrap(), wanted);
        assert!(edited("limits = 3\n", &values).is_err());
    }

    #[test]
    fn the_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.toml");
        fs::write(&path, "id = 1\n").unwrap();
        let values = [("server", "slowlog_max_len", Written::Number(7))];
        rewrite(&path, &values).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "id = 1\n\n[server]\nslowlog_max_len = 7\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(rewrite(&folder.path().join("none.toml"), &values).is_err());
    }
}
