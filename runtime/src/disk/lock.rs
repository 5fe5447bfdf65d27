//! Locks on image files, of the kind QEMU and qemu-img take and look for: open-file-description locks on single
//! bytes. Byte 100 + n says "I use permission n", byte 200 + n "nobody else may use permission n".

use std::fs::File;
use std::io;
use std::ops::Deref;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

const USES: i64 = 100;
const FORBIDS: i64 = 200;

// Permissions, by their number in both rows of bytes.
const READ: i64 = 0;
const WRITE: i64 = 1;
const RESIZE: i64 = 3;

/// What the holder of an image does with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Reads it and relies on nobody changing it.
    Read,
    /// Writes within its size.
    Write,
    /// Writes and makes the file longer.
    Grow,
}

/// An open file with its locks, which end with it.
///
/// Closing alone would not do: a process that is just being started by another thread has copies of all open
/// files until it executes its program, and locks last until the last copy is gone.
#[derive(Debug)]
pub(super) struct Locked(File);

impl Deref for Locked {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let all = libc::flock { l_len: 0, ..region(libc::F_UNLCK, 0) };
        // Where there are no locks there is nothing to give back.
        let _ = fcntl(&self.0, FcntlArg::F_OFD_SETLK(&all));
    }
}

/// Takes the locks. `Ok(None)`: somebody else's use stands against it.
pub(super) fn take(file: File, usage: Use) -> io::Result<Option<Locked>> {
    let file = Locked(file);
    Ok(if is_granted(&file, usage)? { Some(file) } else { None })
}

fn is_granted(file: &File, usage: Use) -> io::Result<bool> {
    let (uses, forbids): (&[i64], &[i64]) = match usage {
        Use::Read => (&[READ], &[WRITE]),
        Use::Write => (&[READ, WRITE], &[WRITE]),
        Use::Grow => (&[READ, WRITE, RESIZE], &[WRITE, RESIZE]),
    };
    let ours = uses.iter().map(|n| USES + n).chain(forbids.iter().map(|n| FORBIDS + n));
    for byte in ours {
        match fcntl(file, FcntlArg::F_OFD_SETLK(&region(libc::F_RDLCK, byte))) {
            Ok(_) => {}
            Err(Errno::EAGAIN | Errno::EACCES) => return Ok(false),
            // The file system has no locks: as without them.
            Err(Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => {
                return Ok(true);
            }
            Err(error) => return Err(error.into()),
        }
    }
    let theirs = uses.iter().map(|n| FORBIDS + n).chain(forbids.iter().map(|n| USES + n));
    for byte in theirs {
        let mut found = region(libc::F_WRLCK, byte);
        fcntl(file, FcntlArg::F_OFD_GETLK(&mut found))?;
        if i32::from(found.l_type) != libc::F_UNLCK {
            return Ok(false);
        }
    }
    Ok(true)
}

fn region(kind: i32, byte: i64) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_the_open_file_do_not_keep_the_locks() {
        let image = tempfile::NamedTempFile::new().unwrap();
        let open = || File::options().read(true).write(true).open(image.path()).unwrap();
        let first = take(open(), Use::Grow).unwrap().unwrap();
        // As a process has that another thread is starting.
        let _copy = first.try_clone().unwrap();
        assert!(take(open(), Use::Write).unwrap().is_none());
        assert!(take(open(), Use::Read).unwrap().is_none());
        drop(first);
        assert!(take(open(), Use::Grow).unwrap().is_some());
    }
}
