//! A folder of our own for the nodes' data and logs, removed at the end unless kept.

use std::io;
use std::path::{Path, PathBuf};

/// Removed with everything in it on drop, unless [`Folder::keep`] was called.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    kept: bool,
}

impl Folder {
    /// Creates `PARENT/understudy-PURPOSE-RANDOM`; the parent defaults to the system's temporary
    /// folder. Fails if it exists already: nobody else's data is ever used or removed.
    pub fn create(parent: Option<&Path>, purpose: &str) -> io::Result<Folder> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let random = getrandom::u64().map_err(io::Error::other)?;
        let path = std::path::absolute(parent.join(format!("understudy-{purpose}-{random:016x}")))?;
        std::fs::create_dir(&path).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot create {}: {error}", path.display()),
            )
        })?;
        Ok(Folder { path, kept: false })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the folder in place on drop, for a person to look into.
    pub fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            anstream::eprintln!("warning: cannot remove {}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_removed_unless_kept() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let folder = Folder::create(Some(parent.path()), "test").expect("it can be created");
        let path = folder.path().to_owned();
        std::fs::write(path.join("x"), "y").expect("it is writable");
        drop(folder);
        assert!(!path.exists());
        let mut folder = Folder::create(Some(parent.path()), "test").expect("it can be created");
        let path = folder.path().to_owned();
        folder.keep();
        drop(folder);
        assert!(path.exists());
    }
}
