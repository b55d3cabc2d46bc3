//! Files that are replaced as a whole: who reads one finds what was there before or all that is there
//! now, also after the machine has lost power.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// How a program is installed.
pub(crate) const PROGRAM: u32 = 0o755;
/// How a file is that everybody may read.
pub(crate) const TEXT: u32 = 0o644;

/// Writes a file, with these permissions, in place of the one that may be there.
///
/// Until it is whole it has a name that begins with a dot and ends in `.next`, which nobody takes for
/// the file's.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let next = path.with_file_name(format!(".{}.next", name.display()));
    let mut file = File::create(&next)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(next, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_is_replaced_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        for (content, mode) in [("long before", TEXT), ("now", PROGRAM)] {
            replace(&path, content.as_bytes(), mode).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
        assert!(replace(&folder.path().join("none/a.json"), b"", TEXT).is_err());
        assert!(replace(Path::new("/"), b"", TEXT).is_err());
    }
}
