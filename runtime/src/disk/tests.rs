//! Images opened, locked, written, and refused.

use std::path::Path;

use super::*;

fn image(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

fn drive(path: &Path) -> DriveConfig {
    DriveConfig::file(path, 0)
}

fn opened(config: &DriveConfig) -> Box<dyn BlockDev> {
    open(config).unwrap().unwrap()
}

fn message(config: &DriveConfig) -> String {
    let error = open(config).err().expect("it is refused");
    format!("{:#}", anyhow::Error::from(error))
}

/// An empty qcow2 image of `bytes` bytes, made by the library.
fn qcow2(path: &Path, bytes: u64, backing: Option<&str>) {
    use imago::qcow2::Qcow2;
    use imago::{FormatCreateBuilder, Storage, StorageCreateOptions};
    let options = StorageCreateOptions::new().filename(path).overwrite(true);
    let file = imago::file::File::create_open(options).unwrap();
    let mut builder = Qcow2::<imago::file::File>::create_builder(file).size(bytes);
    if let Some(backing) = backing {
        builder = builder.backing(backing.to_owned(), "raw".to_owned());
    }
    builder.create().unwrap();
}

#[test]
fn raw_reads_writes_and_pads() {
    let file = image(&[7; 3 * SECTOR + 10]);
    let mut disk = opened(&drive(file.path()));
    assert_eq!(disk.sectors(), 4);
    let mut buf = [1; 2 * SECTOR];
    disk.read(2, &mut buf).unwrap();
    assert_eq!((buf[SECTOR + 9], buf[SECTOR + 10]), (7, 0));
    disk.write(1, &[9; SECTOR]).unwrap();
    disk.flush().unwrap();
    assert_eq!(std::fs::read(file.path()).unwrap()[SECTOR], 9);
    assert!(disk.read(3, &mut buf).is_err());
    assert!(disk.write(u64::MAX, &[0; SECTOR]).is_err());
}

#[test]
fn what_is_refused() {
    assert!(message(&drive(Path::new("/nonexistent/disk.img"))).starts_with("cannot open"));
    assert!(message(&drive(image(&[]).path())).ends_with("is empty"));
    let folder = tempfile::tempdir().unwrap();
    for read_only in [false, true] {
        let config = DriveConfig { read_only, ..drive(folder.path()) };
        assert!(message(&config).ends_with("is a directory"));
    }
    assert!(message(&drive(Path::new("/dev/tty0"))).len() > 9);
    assert!(message(&drive(image(&[0; 100]).path())).contains("less than one sector"));
    let vmdk = image(b"KDMV".repeat(128).as_slice());
    assert!(message(&drive(vmdk.path())).contains("is in vmdk format"));
    let as_raw = DriveConfig { format: Some(Format::Raw), ..drive(vmdk.path()) };
    assert_eq!(opened(&as_raw).sectors(), 1);
    let as_qcow2 = DriveConfig { format: Some(Format::Qcow2), ..drive(vmdk.path()) };
    assert!(message(&as_qcow2).starts_with("cannot use qcow2 image"));
}

#[test]
fn one_writer_or_many_readers() {
    let file = image(&[0; SECTOR]);
    let writer = opened(&drive(file.path()));
    let reading = DriveConfig { snapshot: true, ..drive(file.path()) };
    assert!(message(&drive(file.path())).contains("failed to get \"write\" lock"));
    assert!(message(&reading).contains("failed to get shared \"write\" lock"));
    drop(writer);
    let _readers = [opened(&reading), opened(&reading)];
    assert!(message(&drive(file.path())).contains("in use by another process"));
}

#[test]
fn a_guessed_raw_disk_stays_raw() {
    let file = image(&[0; 4 * SECTOR]);
    let mut evil = [0; 2 * SECTOR];
    evil[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    let mut guessed = opened(&drive(file.path()));
    let refused = guessed.write(0, &evil).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    guessed.write(1, &evil).unwrap();
    drop(guessed);
    let named = DriveConfig { format: Some(Format::Raw), ..drive(file.path()) };
    opened(&named).write(0, &evil).unwrap();
}

#[test]
fn overlay_keeps_the_image_clean() {
    let file = image(&[3; 20 * SECTOR]);
    let mut disk = opened(&DriveConfig { snapshot: true, ..drive(file.path()) });
    disk.write(6, &[4; 4 * SECTOR]).unwrap();
    disk.write(19, &[5; SECTOR]).unwrap();
    let mut buf = [0; 20 * SECTOR];
    disk.read(0, &mut buf).unwrap();
    let seen: Vec<u8> = buf.iter().step_by(SECTOR).copied().collect();
    assert_eq!(seen, [3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 3, 3, 3, 3, 3, 3, 3, 3, 3, 5]);
    let mut one = [0; SECTOR];
    disk.read(9, &mut one).unwrap();
    assert_eq!(one[0], 4);
    assert!(disk.write(20, &[0; SECTOR]).is_err());
    assert_eq!(std::fs::read(file.path()).unwrap(), vec![3; 20 * SECTOR]);
}

#[test]
fn qcow2_keeps_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.qcow2");
    qcow2(&path, 1 << 20, None);
    let config = drive(&path);
    let mut disk = opened(&config);
    assert_eq!(disk.sectors(), 2048);
    disk.write(2047, &[8; SECTOR]).unwrap();
    disk.write(0, b"QFI\xfb".repeat(SECTOR / 4).as_slice()).unwrap();
    disk.flush().unwrap();
    assert!(disk.write(2047, &[8; 2 * SECTOR]).is_err());
    assert!(message(&config).contains("in use"));
    drop(disk);
    let mut buf = [1; 2 * SECTOR];
    opened(&config).read(2046, &mut buf).unwrap();
    assert_eq!((buf[0], buf[SECTOR]), (0, 8));
}

#[test]
fn backing_files_must_be_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let (base, path) = (folder.path().join("base.img"), folder.path().join("a.qcow2"));
    std::fs::write(&base, [6; 4 * SECTOR]).unwrap();
    qcow2(&path, 4 * SECTOR as u64, Some("base.img"));
    let denied = drive(&path);
    assert!(message(&denied).contains("has the backing file base.img"));
    let allowed = DriveConfig { backing: true, ..drive(&path) };
    let mut disk = opened(&allowed);
    disk.write(1, &[9; SECTOR]).unwrap();
    let mut buf = [0; 2 * SECTOR];
    disk.read(0, &mut buf).unwrap();
    assert_eq!((buf[0], buf[SECTOR]), (6, 9));
    assert!(message(&drive(&base)).contains("in use"), "the backing file is locked, too");
    // A chain that leads back to its start ends, and so does one to a file that is not there.
    for backing in ["a.qcow2", "/nonexistent"] {
        let path = folder.path().join("b.qcow2");
        qcow2(&path, 4 * SECTOR as u64, Some(backing));
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.is_empty());
        assert!(message(&DriveConfig { backing: true, ..drive(&path) }).contains("cannot use"));
    }
}

/// Every byte of the header and the tables behind it, spoilt: an error or a disk that answers, never a panic.
#[test]
fn damaged_qcow2_images_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.qcow2");
    qcow2(&path, 1 << 20, None);
    {
        let mut disk = opened(&drive(&path));
        disk.write(5, &[8; SECTOR]).unwrap();
        disk.flush().unwrap();
    }
    let good = std::fs::read(&path).unwrap();
    let tables = (0..good.len()).filter(|&at| at < 112 || good[at] != 0 && good[at] != 8);
    for at in tables {
        for value in [0, 0x7f, good[at].wrapping_add(1)] {
            let mut bad = good.clone();
            bad[at] = value;
            std::fs::write(&path, &bad).unwrap();
            let config = DriveConfig { format: Some(Format::Qcow2), ..drive(&path) };
            if let Ok(Some(mut disk)) = open(&config) {
                let mut buf = [0; 4 * SECTOR];
                let _ = disk.read(4, &mut buf);
                let _ = disk.write(4, &buf);
                let _ = disk.flush();
            }
        }
    }
    for len in (0..good.len()).step_by(SECTOR) {
        std::fs::write(&path, &good[..len]).unwrap();
        if let Ok(Some(mut disk)) = open(&drive(&path)) {
            let _ = disk.read(4, &mut [0; SECTOR]);
        }
    }
}
