//! A small Debian guest: stock kernel, busybox, our init scripts; as an initramfs, and as a disk.
//!
//! What it does is said on the kernel's command line, whose words reach init as environment variables: `action=…` is
//! a shell command run when the system is up; without it there is a shell (`login=1` on the disk: a login prompt).

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::disk::{DiskLayout, boot_disk};
use crate::{Arch, Archive, Error, Kernel, Store, io, modules};

/// Printed by the initramfs as soon as it runs.
pub const INIT_MARKER: &str = "initramfs is up";
/// The user of the disk's login prompt, who has no password.
pub const LOGIN_USER: &str = "root";

/// Goes into the names of built things: raised when what is built changes.
const FORMAT: u32 = 5;
/// Drivers of the disks we emulate, and the file system.
const MODULES: &[&str] =
    &["ata_piix", "sd_mod", "virtio_pci", "virtio_blk", "crc32c_generic", "ext4"];
/// Programs scripts need before `busybox --install` made links for all.
const EARLY: &[&str] = &[
    "sh",
    "mount",
    "umount",
    "cat",
    "echo",
    "insmod",
    "switch_root",
    "usleep",
    "setsid",
    "mkdir",
    "cttyhack",
    "hostname",
    "uname",
    "poweroff",
    "reboot",
    "getty",
    "login",
    "init",
    "stty",
];

/// What an initramfs of its own runs.
const INIT: &str = r#"#!/bin/sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /tmp; mount -t tmpfs tmp /tmp
hostname stele
[ -e /modules.list ] && for m in $(cat /modules.list); do insmod /modules/$m; done
echo "initramfs is up: $(uname -srm)"
if [ -n "$action" ]; then eval "$action"; poweroff -f; fi
echo; echo "This is busybox on Debian's kernel. 'exit' switches the machine off."
export HOME=/root TERM=${TERM:-vt100} PS1='stele:\w# '; cd /root
setsid cttyhack sh
poweroff -f
"#;

/// What the disk's initramfs runs: drivers, then the root file system.
const DISK_INIT: &str = r#"#!/bin/sh
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for m in $(cat /modules.list); do insmod /modules/$m; done
n=0
while [ $n -lt 200 ] && [ -z "$disk" ]; do
  for d in /dev/sda1 /dev/vda1; do [ -b $d ] && disk=$d; done
  n=$((n+1)); [ -n "$disk" ] || usleep 50000
done
mount -t ext4 $disk /root || { echo "no root file system"; exec sh; }
umount /sys; umount /proc; mount --move /dev /root/dev
exec switch_root /root /sbin/init
"#;

const INITTAB: &str = "::sysinit:/etc/rc\nttyS0::respawn:/etc/console\n::ctrlaltdel:/sbin/reboot\n\
                       ::shutdown:/bin/umount -a -r\n";

const RC: &str = r#"#!/bin/sh
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs tmp /tmp
mount -o remount,rw /
[ -e /bin/vi ] || /bin/busybox --install -s /bin
hostname stele
echo "disk system is up: $(uname -srm)" > /dev/ttyS0
"#;

const CONSOLE: &str = r#"#!/bin/sh
export HOME=/root TERM=vt100 PS1='stele:\w# '; cd /root
if grep -q login=1 /proc/cmdline; then exec getty -L ttyS0 115200 vt100; fi
echo; echo "This is busybox on Debian's kernel. 'poweroff' switches the machine off."
exec sh
"#;

const GRUB_CFG: &str = r#"serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
set timeout=1
set default=0
menuentry "Debian's kernel, a shell" {
  linux /boot/vmlinuz console=ttyS0 no_timer_check net.ifnames=0
  initrd /boot/initrd
}
menuentry "Debian's kernel, a login prompt" {
  linux /boot/vmlinuz console=ttyS0 no_timer_check net.ifnames=0 login=1
  initrd /boot/initrd
}
"#;

/// A guest of one width and kernel.
#[derive(Clone, Debug)]
pub struct Linux {
    /// Width.
    pub arch: Arch,
    /// The kernel.
    pub kernel: Kernel,
    busybox: PathBuf,
}

impl Linux {
    /// The default kernel of a width.
    pub const fn flavour(arch: Arch) -> &'static str {
        match arch {
            Arch::Amd64 => "cloud-amd64",
            Arch::I386 => "686-pae",
        }
    }

    /// Fetches what such a guest is made of; `flavour` is that of `linux-image-FLAVOUR`.
    pub fn fetch(store: &Store, arch: Arch, flavour: &str) -> Result<Self, Error> {
        let kernel = store.kernel(arch, flavour)?;
        let package = store.package(arch, "busybox-static")?;
        let busybox = ["bin/busybox", "usr/bin/busybox"].map(|path| package.join(path));
        let busybox = busybox.into_iter().find(|path| path.is_file()).ok_or_else(|| {
            Error::Contents { package: "busybox-static".into(), what: "busybox".into() }
        })?;
        Ok(Self { arch, kernel, busybox })
    }

    /// The program that is its userland.
    pub fn busybox(&self) -> &Path {
        &self.busybox
    }

    /// An initramfs that runs `action`, or a shell.
    pub fn initramfs(&self, store: &Store) -> Result<PathBuf, Error> {
        let dir = store.make(&format!("initramfs-{}-v{FORMAT}", self.arch.name()), |temp| {
            store.say("building the initramfs");
            let path = temp.join("initramfs");
            fs::write(&path, self.initramfs_with(&[])?).map_err(io(&path))
        })?;
        Ok(dir.join("initramfs"))
    }

    /// An initramfs that first loads these modules of the kernel's, as far as they are modules, and what they need.
    pub fn initramfs_with_modules(
        &self,
        store: &Store,
        modules: &[&str],
    ) -> Result<PathBuf, Error> {
        let (arch, release) = (self.arch.name(), &self.kernel.release);
        let name = format!("initramfs-{arch}-{release}-{}-v{FORMAT}", modules.join("+"));
        let dir = store.make(&name, |temp| {
            let path = temp.join("initramfs");
            let mut archive = self.plain_initramfs()?;
            self.add_modules(&mut archive, modules)?;
            fs::write(&path, archive.finish()).map_err(io(&path))
        })?;
        Ok(dir.join("initramfs"))
    }

    fn plain_initramfs(&self) -> Result<Archive, Error> {
        let mut archive = self.skeleton(INIT)?;
        archive.directory("root").directory("tmp").symlink("sbin", "bin");
        Ok(archive)
    }

    fn add_modules(&self, archive: &mut Archive, modules: &[&str]) -> Result<(), Error> {
        archive.directory("modules");
        let mut list = String::new();
        for module in modules::load_order(&self.kernel.modules, modules)? {
            list.push_str(&format!("{}.ko\n", module.name));
            archive.file(&format!("modules/{}.ko", module.name), 0o644, &module.bytes);
        }
        archive.file("modules.list", 0o644, list.as_bytes());
        Ok(())
    }

    /// The bytes of such an initramfs with further programs in `/bin`, by name.
    pub fn initramfs_with(&self, programs: &[(&str, &Path)]) -> Result<Vec<u8>, Error> {
        let mut archive = self.plain_initramfs()?;
        for (name, path) in programs {
            archive.host_file(&format!("bin/{name}"), 0o755, path)?;
        }
        Ok(archive.finish())
    }

    /// A disk with GRUB and this guest on an ext4 file system. The file is shared: attach it with `snapshot=on`, or copy.
    pub fn disk(&self, store: &Store) -> Result<PathBuf, Error> {
        // Fetched here, because a maker holds the store's lock.
        store.package(Arch::Amd64, "grub-pc-bin")?;
        for tool in [crate::tools::GRUB_MKIMAGE, crate::tools::MKE2FS, crate::tools::DEBUGFS] {
            tool.command(store)?;
        }
        let name = format!("disk-{}-{}-v{FORMAT}", self.arch.name(), self.kernel.release);
        let dir = store.make(&name, |temp| {
            store.say("building the disk image");
            let root = temp.join("root");
            self.root(&root)?;
            let image = temp.join("disk.img");
            boot_disk(store, &DiskLayout { root: &root, free_mib: 64, image: &image })?;
            fs::remove_dir_all(&root).map_err(io(&root))
        })?;
        Ok(dir.join("disk.img"))
    }

    /// Folders, busybox with the links scripts need at once, device nodes, `/init`.
    fn skeleton(&self, init: &str) -> Result<Archive, Error> {
        let mut archive = Archive::default();
        for dir in ["bin", "proc", "sys", "dev"] {
            archive.directory(dir);
        }
        archive.host_file("bin/busybox", 0o755, &self.busybox)?;
        for name in EARLY {
            archive.symlink(&format!("bin/{name}"), "busybox");
        }
        archive.character("dev/console", 5, 1).character("dev/null", 1, 3);
        archive.file("init", 0o755, init.as_bytes());
        Ok(archive)
    }

    /// The initramfs on the disk: modules and the switch to the root file system.
    fn disk_initramfs(&self) -> Result<Vec<u8>, Error> {
        let mut archive = self.skeleton(DISK_INIT)?;
        archive.directory("root");
        self.add_modules(&mut archive, MODULES)?;
        Ok(archive.finish())
    }

    /// The disk's root file system as a folder.
    fn root(&self, root: &Path) -> Result<(), Error> {
        for dir in ["bin", "boot/grub", "etc", "proc", "sys", "dev", "tmp", "root"] {
            let dir = root.join(dir);
            fs::create_dir_all(&dir).map_err(io(&dir))?;
        }
        let copies = [(&self.busybox, "bin/busybox"), (&self.kernel.image, "boot/vmlinuz")];
        for (from, to) in copies {
            let to = root.join(to);
            fs::copy(from, &to).map_err(io(&to))?;
        }
        for name in EARLY {
            let link = root.join("bin").join(name);
            symlink("busybox", &link).map_err(io(&link))?;
        }
        symlink("bin", root.join("sbin")).map_err(io(root))?;
        let files: [(&str, u32, &[u8]); 7] = [
            ("etc/inittab", 0o644, INITTAB.as_bytes()),
            ("etc/rc", 0o755, RC.as_bytes()),
            ("etc/console", 0o755, CONSOLE.as_bytes()),
            ("etc/passwd", 0o644, b"root::0:0:root:/root:/bin/sh\n"),
            ("etc/group", 0o644, b"root:x:0:\n"),
            ("boot/grub/grub.cfg", 0o644, GRUB_CFG.as_bytes()),
            ("boot/initrd", 0o644, &self.disk_initramfs()?),
        ];
        for (name, permissions, contents) in files {
            let path = root.join(name);
            fs::write(&path, contents).map_err(io(&path))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(permissions))
                .map_err(io(&path))?;
        }
        Ok(())
    }
}
