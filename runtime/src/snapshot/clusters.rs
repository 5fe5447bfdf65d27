//! Clusters of disks in a snapshot.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use devices::block::{BlockDev, CLUSTER_BYTES, Clusters};

/// Writes a disk's clusters from `offset` on; returns number and checksum of each.
pub(super) fn write(disk: &dyn BlockDev, file: &File, offset: u64) -> io::Result<Vec<(u64, u32)>> {
    let mut list = Vec::new();
    let mut at = offset;
    disk.each_cluster(&mut |number, bytes| {
        file.write_all_at(bytes, at)?;
        at += CLUSTER_BYTES as u64;
        list.push((number, crc32fast::hash(bytes)));
        Ok(())
    })?;
    Ok(list)
}

/// Reads clusters back; `None` if one is damaged.
pub(super) fn read(file: &File, offset: u64, list: &[(u64, u32)]) -> io::Result<Option<Clusters>> {
    let mut clusters = Clusters::new();
    let mut at = offset;
    for &(number, crc) in list {
        let mut bytes = Box::new([0; CLUSTER_BYTES]);
        file.read_exact_at(&mut bytes[..], at)?;
        if crc32fast::hash(&bytes[..]) != crc {
            return Ok(None);
        }
        clusters.insert(number, bytes);
        at += CLUSTER_BYTES as u64;
    }
    Ok(Some(clusters))
}
