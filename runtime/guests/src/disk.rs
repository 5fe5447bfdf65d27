//! A disk image that starts as most PCs' disks do: boot sector and partition table, GRUB behind it, one ext4 partition.
//!
//! Made without root and without a loop device: the table and GRUB's two parts are written by us, the file system by
//! `mke2fs -d`. Sources: GRUB's manual, "BIOS installation"; the partition entry is the one of every MBR.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use crate::tools::{DEBUGFS, E2FSCK, GRUB_MKIMAGE, MKE2FS};
use crate::{Arch, Error, Store, apt, io};

/// First sector of the partition; the sectors before it are GRUB's.
pub const START_SECTOR: u32 = 2048;
const SECTOR: u64 = 512;
const MIB: u64 = 1 << 20;
/// Partition type: Linux.
const LINUX: u8 = 0x83;
/// In GRUB's boot sector: a jump that doubts the drive number the firmware passed, taken out as grub-install does for
/// hard disks.
const DRIVE_CHECK: std::ops::Range<usize> = 0x66..0x68;
/// GRUB modules in the core image; nothing else is loaded from the disk.
const GRUB_MODULES: &[&str] = &[
    "biosdisk",
    "part_msdos",
    "ext2",
    "normal",
    "configfile",
    "linux",
    "serial",
    "terminal",
    "echo",
    "boot",
    "test",
    "sleep",
    "minicmd",
    "reboot",
    "halt",
];

/// What becomes a disk.
#[derive(Clone, Copy, Debug)]
pub struct DiskLayout<'a> {
    /// The folder whose contents are the root file system; `boot/grub/grub.cfg` is GRUB's configuration.
    pub root: &'a Path,
    /// Room in the file system beyond its contents.
    pub free_mib: u64,
    /// The image to write.
    pub image: &'a Path,
}

/// Builds the image.
pub fn boot_disk(store: &Store, layout: &DiskLayout<'_>) -> Result<(), Error> {
    let core = grub_core(store, layout.image)?;
    let boot_sector = grub_file(store, "boot.img")?;
    let contents = size_of_tree(layout.root)?;
    // Inodes, bitmaps and the journal take room, too.
    let size = (contents * 11 / 10).next_multiple_of(MIB) + (layout.free_mib + 24) * MIB;
    let start = u64::from(START_SECTOR) * SECTOR;
    let mut file = File::create(layout.image).map_err(io(layout.image))?;
    file.set_len(start + size).map_err(io(layout.image))?;
    store.say("making the ext4 file system");
    let mut command = MKE2FS.command(store)?;
    command.args(["-q", "-F", "-t", "ext4", "-L", "stele", "-m", "0"]);
    command.arg("-E").arg(format!("offset={start},root_owner=0:0")).arg("-d").arg(layout.root);
    command.arg(layout.image).arg(format!("{}k", size >> 10));
    apt::run(&mut command, b"")?;
    give_to_root(store, layout)?;
    let sectors = u32::try_from(size / SECTOR)
        .map_err(|_| Error::Layout("a partition is below 2 TiB".into()))?;
    let head = head(&boot_sector, &core, sectors)?;
    file.seek(SeekFrom::Start(0)).map_err(io(layout.image))?;
    file.write_all(&head).map_err(io(layout.image))
}

/// A file's bytes from the root file system of an image that [`boot_disk`] made.
pub fn read_back(store: &Store, image: &Path, file: &str) -> Result<Vec<u8>, Error> {
    let mut command = DEBUGFS.command(store)?;
    command.arg("-R").arg(format!("cat {file}")).arg(file_system(image));
    let output = apt::run(&mut command, b"")?;
    let said = String::from_utf8_lossy(&output.stderr);
    match said.lines().find(|line| line.contains(file)) {
        Some(line) => Err(Error::Failed { program: "debugfs".into(), line: line.to_owned() }),
        None => Ok(output.stdout),
    }
}

/// Checks the file system of an image that [`boot_disk`] made, after replaying its journal as a mount does; returns
/// whether nothing beyond that had to be mended.
pub fn recover(store: &Store, image: &Path) -> Result<bool, Error> {
    // Behind a replayed journal e2fsck opens its file anew and forgets an offset: it gets the partition alone.
    let start = u64::from(START_SECTOR) * SECTOR;
    let part = image.with_extension("partition");
    let mut disk = File::options().read(true).write(true).open(image).map_err(io(image))?;
    disk.seek(SeekFrom::Start(start)).map_err(io(image))?;
    let mut alone = File::create(&part).map_err(io(&part))?;
    std::io::copy(&mut disk, &mut alone).map_err(io(&part))?;
    let mut command = E2FSCK.command(store)?;
    let output = command.args(["-f", "-p"]).arg(&part).output().map_err(io(image))?;
    let mut alone = File::open(&part).map_err(io(&part))?;
    disk.seek(SeekFrom::Start(start)).map_err(io(image))?;
    std::io::copy(&mut alone, &mut disk).map_err(io(image))?;
    fs::remove_file(&part).map_err(io(&part))?;
    // e2fsck(8): 0 no errors, 1 errors corrected; a replayed journal alone counts as neither.
    match output.status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => {
            let line = String::from_utf8_lossy(&output.stdout).trim().replace('\n', "; ");
            Err(Error::Failed { program: "e2fsck".into(), line })
        }
    }
}

/// What e2fsprogs calls a file system inside an image.
fn file_system(image: &Path) -> String {
    format!("{}?offset={}", image.display(), u64::from(START_SECTOR) * SECTOR)
}

/// `mke2fs -d` keeps the owners of the host's files; in the guest all belong to root.
fn give_to_root(store: &Store, layout: &DiskLayout<'_>) -> Result<(), Error> {
    let mut script = String::new();
    let mut names = Vec::new();
    walk(layout.root, &mut |path, _| names.push(path.to_path_buf()))?;
    for path in names {
        let name = path.strip_prefix(layout.root).unwrap_or(&path).display();
        for field in ["uid", "gid"] {
            script.push_str(&format!("sif \"/{name}\" {field} 0\n"));
        }
    }
    let mut command = DEBUGFS.command(store)?;
    command.args(["-w", "-f", "-"]).arg(file_system(layout.image));
    apt::run(&mut command, script.as_bytes()).map(drop)
}

/// What stands before the partition: boot sector, table, GRUB's core image from sector 1 on.
fn head(boot_sector: &[u8], core: &[u8], sectors: u32) -> Result<Vec<u8>, Error> {
    let room = (START_SECTOR as usize - 1) * SECTOR as usize;
    if boot_sector.len() != SECTOR as usize || core.len() > room {
        return Err(Error::Layout("GRUB does not fit before the partition".into()));
    }
    let mut head = boot_sector.to_vec();
    head[DRIVE_CHECK].fill(0x90); // nop
    head[440..446].copy_from_slice(b"STELE\0"); // disk signature
    head[446..510].fill(0);
    head[446..462].copy_from_slice(&partition(START_SECTOR, sectors));
    head[510..512].copy_from_slice(&[0x55, 0xaa]);
    head.extend_from_slice(core);
    Ok(head)
}

/// An active entry of the partition table.
fn partition(start: u32, sectors: u32) -> [u8; 16] {
    let mut entry = [0; 16];
    entry[0] = 0x80;
    entry[1..4].copy_from_slice(&chs(start));
    entry[4] = LINUX;
    entry[5..8].copy_from_slice(&chs(start.wrapping_add(sectors).wrapping_sub(1)));
    entry[8..12].copy_from_slice(&start.to_le_bytes());
    entry[12..16].copy_from_slice(&sectors.to_le_bytes());
    entry
}

/// Cylinder, head and sector as the table packs them, for 255 heads of 63 sectors; the highest if there is no such.
fn chs(sector: u32) -> [u8; 3] {
    let (cylinder, rest) = (sector / (255 * 63), sector % (255 * 63));
    if cylinder > 1023 {
        return [254, 255, 255];
    }
    let (head, sector) = (rest / 63, rest % 63 + 1);
    [head as u8, (sector | (cylinder >> 2 & 0xc0)) as u8, cylinder as u8] // each fits its bits
}

/// GRUB's core image: it reads `boot/grub/grub.cfg` of the first partition.
fn grub_core(store: &Store, image: &Path) -> Result<Vec<u8>, Error> {
    let early = image.with_extension("grub.cfg");
    let core = image.with_extension("core");
    let text = "set root=(hd0,msdos1)\nset prefix=(hd0,msdos1)/boot/grub\n\
                configfile /boot/grub/grub.cfg\n";
    fs::write(&early, text).map_err(io(&early))?;
    let mut command = GRUB_MKIMAGE.command(store)?;
    command.args(["-O", "i386-pc", "-p", "(hd0,msdos1)/boot/grub", "-d"]);
    command.arg(grub_dir(store)?).arg("-c").arg(&early).arg("-o").arg(&core).args(GRUB_MODULES);
    apt::run(&mut command, b"")?;
    let bytes = fs::read(&core).map_err(io(&core))?;
    for file in [early, core] {
        fs::remove_file(&file).map_err(io(&file))?;
    }
    Ok(bytes)
}

fn grub_file(store: &Store, name: &str) -> Result<Vec<u8>, Error> {
    let path = grub_dir(store)?.join(name);
    fs::read(&path).map_err(io(&path))
}

fn grub_dir(store: &Store) -> Result<std::path::PathBuf, Error> {
    Ok(store.package(Arch::Amd64, "grub-pc-bin")?.join("usr/lib/grub/i386-pc"))
}

fn size_of_tree(root: &Path) -> Result<u64, Error> {
    let mut total = 0;
    walk(root, &mut |_, size| total += size.next_multiple_of(4096))?;
    Ok(total)
}

/// Calls `see` with each file and folder below `root` and its size.
fn walk(root: &Path, see: &mut dyn FnMut(&Path, u64)) -> Result<(), Error> {
    for entry in fs::read_dir(root).map_err(io(root))? {
        let path = entry.map_err(io(root))?.path();
        let about = path.symlink_metadata().map_err(io(&path))?;
        see(&path, about.len());
        if about.is_dir() {
            walk(&path, see)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_one_active_linux_partition() {
        let head = head(&[0x11; 512], &[0x22; 1024], 0x0002_0000).unwrap();
        assert_eq!(head.len(), 512 + 1024);
        assert_eq!(
            head[446..462],
            [0x80, 32, 33, 0, 0x83, 0x49, 0x01, 0x08, 0, 8, 0, 0, 0, 0, 2, 0]
        );
        assert_eq!((&head[462..510], &head[510..512]), (&[0; 48][..], &[0x55, 0xaa][..]));
        assert_eq!((head[0x66], head[512]), (0x90, 0x22));
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        assert!(head(&[0; 100], &[], 1).is_err());
        assert!(head(&[0; 512], &vec![0; 1 << 20], 1).is_err());
    }

    #[test]
    fn far_sectors_saturate() {
        assert_eq!(chs(0), [0, 1, 0]);
        assert_eq!(chs(2048), [32, 33, 0]);
        assert_eq!(chs(u32::MAX), [254, 255, 255]);
    }
}
