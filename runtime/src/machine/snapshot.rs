//! Snapshots of a machine: what is saved, and how a machine takes it.
//!
//! Loading looks at everything before it changes anything, and takes the old state back if the
//! machine's parts refuse the new one: what was running goes on.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use devices::block::{Clusters, SECTOR};
use mem::state::Field;

use super::{Machine, MachineError};
use crate::snapshot::{
    Contents, DiskEntry, Info, PAGE, Reader, SnapshotError, Store, Writer, describe,
};

/// File systems stamp changes no finer than this.
const STAMP_GRAIN: Duration = Duration::from_millis(20);
/// Sectors of a cluster.
const CLUSTER: u64 = PAGE / SECTOR as u64;

/// The state that is small enough to be kept in hand.
struct Small {
    cpu: Vec<u8>,
    board: Vec<u8>,
    icount: Option<u64>,
}

impl Machine {
    /// Saves the whole machine to a file. What the guest wrote to disks is made durable before.
    /// Not to be called from within a run.
    ///
    /// # Errors
    /// The file or a disk refuses. What was at `path` is as before.
    pub fn save_snapshot(&mut self, path: &Path) -> Result<Info, MachineError> {
        let start = Instant::now();
        self.flush()?;
        let mut writer = Writer::new(path)?;
        let mut disks = self.disk_entries()?;
        let Small { cpu, board, icount } = self.small_state();
        let (ram, now) = (self.vcpu.cpu().ram.clone(), self.board.borrow().now());
        let chunks = writer.memory(&ram)?;
        for ((_, disk), entry) in self.board.borrow_mut().disks().into_iter().zip(&mut disks) {
            entry.clusters = writer.clusters(disk)?;
        }
        if disks.iter().any(|disk| disk.stamp.is_some()) {
            // What the guest writes from now on must give the image another stamp.
            thread::sleep(STAMP_GRAIN.saturating_sub(start.elapsed()));
        }
        let machine = self.fingerprint();
        let contents = Contents { machine, cpu, board, icount, disks, chunks };
        Ok(writer.finish(&contents, now)?)
    }

    /// Takes the state of a snapshot of an equal machine; the run goes on from there. Not to be
    /// called from within a run.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or is of another machine. This one is as before.
    pub fn load_snapshot(&mut self, path: &Path) -> Result<Info, MachineError> {
        let reader = Reader::open(path)?;
        self.check_machine(&reader)?;
        reader.check_memory()?;
        let clusters = reader.clusters()?;
        let old = self.small_state();
        let Contents { cpu, board, icount, .. } = &reader.contents;
        let new = Small { cpu: cpu.clone(), board: board.clone(), icount: *icount };
        let ram = self.vcpu.cpu().ram.clone();
        let taken = self.take(&new).and_then(|()| reader.show_memory(&ram));
        if let Err(error) = taken {
            if let Err(worse) = self.take(&old) {
                log::error!("the machine cannot take its own state back: {worse}");
            }
            self.vcpu.state_changed();
            return Err(error.into());
        }
        self.vcpu.state_changed();
        self.take_clusters(clusters);
        Ok(reader.info().clone())
    }

    /// Saves a snapshot by name (`savevm`).
    ///
    /// # Errors
    /// As [`Machine::save_snapshot`], or the name cannot be one.
    pub fn save_named(&mut self, name: &str) -> Result<Info, MachineError> {
        let path = self.snapshots.path(name)?;
        self.save_snapshot(&path)
    }

    /// Loads a snapshot by name (`loadvm`).
    ///
    /// # Errors
    /// As [`Machine::load_snapshot`], or there is none of the name.
    pub fn load_named(&mut self, name: &str) -> Result<Info, MachineError> {
        let path = self.snapshots.path(name)?;
        if !path.exists() {
            return Err(SnapshotError::Missing(name.to_owned()).into());
        }
        self.load_snapshot(&path)
    }

    /// The machine's snapshots (`info snapshots`, `delvm`).
    pub fn snapshots(&self) -> &Store {
        &self.snapshots
    }

    /// A hash of everything a guest can see: two machines of equal hash go on alike.
    pub fn state_hash(&mut self) -> u64 {
        let Small { cpu, board, icount } = self.small_state();
        let mut pages = Vec::new();
        for chunk in describe(&self.vcpu.cpu().ram) {
            chunk.used.put(&mut pages);
            chunk.crc.put(&mut pages);
        }
        icount.put(&mut pages);
        let small = crc32fast::hash(&[cpu, board].concat());
        u64::from(small) << 32 | u64::from(crc32fast::hash(&pages))
    }

    fn small_state(&mut self) -> Small {
        let now = self.board.borrow().now();
        Small {
            cpu: self.vcpu.cpu().save_state(),
            board: self.board.borrow_mut().save(),
            icount: self.icount.as_ref().map(|_| now),
        }
    }

    fn take(&mut self, new: &Small) -> Result<(), SnapshotError> {
        self.vcpu.cpu_mut().load_state(&new.cpu).map_err(SnapshotError::Cpu)?;
        self.board.borrow_mut().load(&new.board).map_err(SnapshotError::Board)?;
        Ok(())
    }

    /// The machine as lines. Disks are compared by themselves.
    fn fingerprint(&mut self) -> Vec<String> {
        let cpu = self.vcpu.cpu();
        let time = match &self.icount {
            Some(icount) => format!("-icount shift={}", icount.shift()),
            None => "no -icount".to_owned(),
        };
        let mut board = self.board.borrow_mut();
        let mut lines = vec![
            format!("{} bytes of memory (-m, firmware, VGA)", cpu.ram.len()),
            format!("CPU {}", cpu.model().fingerprint()),
            time,
        ];
        lines.extend(board.part_names().into_iter().map(|name| format!("device {name}")));
        lines
    }

    fn disk_entries(&mut self) -> Result<Vec<DiskEntry>, SnapshotError> {
        let mut board = self.board.borrow_mut();
        let entry = |(name, disk): (String, &mut dyn devices::block::BlockDev)| {
            let stamp = disk.stamp();
            let failed = |source| SnapshotError::Disk { disk: name.clone(), source };
            let (stamp, sectors) = (stamp.map_err(failed)?, disk.sectors());
            let is_volatile = disk.is_volatile();
            Ok(DiskEntry { name, sectors, is_volatile, stamp, clusters: Vec::new() })
        };
        board.disks().into_iter().map(entry).collect()
    }

    /// Is the snapshot one of this machine, with these disks?
    fn check_machine(&mut self, reader: &Reader) -> Result<(), SnapshotError> {
        let path = || reader.path().to_owned();
        let differ = |theirs: &str, ours: &str| {
            let (theirs, ours) = (theirs.to_owned(), ours.to_owned());
            Err(SnapshotError::Machine { path: path(), theirs, ours })
        };
        let (theirs, ours) = (&reader.contents.machine, self.fingerprint());
        if let Some((a, b)) = first_difference(theirs, &ours) {
            return differ(a, b);
        }
        if reader.info().memory != self.vcpu.cpu().ram.len() {
            return Err(SnapshotError::Damaged { path: path(), what: "its configuration" });
        }
        let ours = self.disk_entries()?;
        let about = |disk: &DiskEntry| {
            let kept = if disk.is_volatile { "in memory" } else { "in its image" };
            format!("disk {} of {} sectors with writes {kept}", disk.name, disk.sectors)
        };
        let theirs = &reader.contents.disks;
        let (a, b): (Vec<_>, Vec<_>) =
            (theirs.iter().map(about).collect(), ours.iter().map(about).collect());
        if let Some((a, b)) = first_difference(&a, &b) {
            return differ(a, b);
        }
        for (theirs, ours) in theirs.iter().zip(&ours) {
            if theirs.stamp != ours.stamp {
                return Err(SnapshotError::DiskChanged { path: path(), disk: theirs.name.clone() });
            }
            let clusters = theirs.sectors.div_ceil(CLUSTER);
            if theirs.clusters.iter().any(|&(number, _)| number >= clusters) {
                return Err(SnapshotError::Damaged { path: path(), what: "its disks" });
            }
        }
        Ok(())
    }

    /// Gives the disks what they hold only in memory.
    fn take_clusters(&mut self, clusters: Vec<Clusters>) {
        for ((name, disk), clusters) in self.board.borrow_mut().disks().into_iter().zip(clusters) {
            if !disk.set_clusters(clusters) {
                log::error!("disk {name} cannot take the snapshot's contents");
            }
        }
    }
}

/// The first line that two lists do not share.
fn first_difference<'a>(a: &'a [String], b: &'a [String]) -> Option<(&'a str, &'a str)> {
    let n = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    if n == a.len() && n == b.len() {
        return None;
    }
    let line = |list: &'a [String]| list.get(n).map_or("nothing more", String::as_str);
    Some((line(a), line(b)))
}
