//! The folder of fetched and built things.
//!
//! One lock file serialises all makers, in this process and others; readers need none, because a thing appears by
//! being renamed into place.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::{Arch, Error, apt, io};

/// What is told about progress: one short line for each step.
pub type Progress = Box<dyn Fn(&str) + Send + Sync>;

/// A folder of guests, see the crate's head.
pub struct Store {
    root: PathBuf,
    progress: Progress,
    /// Whether apt's lists were fetched in this run: one attempt is enough.
    updated: Mutex<Vec<Arch>>,
}

/// A kernel of a package: the file to boot, and its modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The bzImage.
    pub image: PathBuf,
    /// `lib/modules/RELEASE` of the package.
    pub modules: PathBuf,
    /// What `uname -r` says.
    pub release: String,
}

impl Store {
    /// The store in this folder, made if it is not there.
    pub fn open(root: &Path, progress: Progress) -> Result<Self, Error> {
        fs::create_dir_all(root).map_err(io(root))?;
        let root = root.canonicalize().map_err(io(root))?;
        Ok(Self { root, progress, updated: Mutex::default() })
    }

    /// Where the store is unless told: `guests` in cargo's target folder if this program is in one, else the user's
    /// cache folder. `STELE_GUESTS` names another.
    pub fn default_root() -> PathBuf {
        if let Some(root) = std::env::var_os("STELE_GUESTS").filter(|root| !root.is_empty()) {
            return PathBuf::from(root);
        }
        // What cargo leaves in its target folder, the second also in one that was there before.
        let is_target = |dir: &&Path| {
            ["CACHEDIR.TAG", ".rustc_info.json"].iter().any(|f| dir.join(f).is_file())
        };
        let exe = std::env::current_exe().unwrap_or_default();
        if let Some(target) = exe.ancestors().find(is_target) {
            return target.join("guests");
        }
        let cache = std::env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty());
        let home = || Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".cache");
        cache.map_or_else(home, PathBuf::from).join("stele/guests")
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Says what is being done.
    pub fn say(&self, text: &str) {
        (self.progress)(text);
    }

    /// The unpacked files of a Debian package: the folder that stands for `/`.
    pub fn package(&self, arch: Arch, name: &str) -> Result<PathBuf, Error> {
        self.make(&format!("packages/{}/{name}", arch.name()), |temp| self.fetch(arch, name, temp))
    }

    /// The kernel that the metapackage `linux-image-FLAVOUR` stands for at this time.
    pub fn kernel(&self, arch: Arch, flavour: &str) -> Result<Kernel, Error> {
        let meta = format!("linux-image-{flavour}");
        let path = self.make(&format!("packages/{}/{meta}", arch.name()), |temp| {
            self.update(arch)?;
            let real = apt::Apt::new(&self.root, arch)?.dependency(&meta, "linux-image-")?;
            self.fetch(arch, &real, temp)
        })?;
        let missing = |what: &str| Error::Contents { package: meta.clone(), what: what.to_owned() };
        let image = find(&path.join("boot"), "vmlinuz-").ok_or_else(|| missing("kernel"))?;
        let name = image.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let release = name.trim_start_matches("vmlinuz-").to_owned();
        let modules = ["lib/modules", "usr/lib/modules"].map(|dir| path.join(dir).join(&release));
        let modules = modules.into_iter().find(|dir| dir.is_dir());
        Ok(Kernel { image, modules: modules.ok_or_else(|| missing("modules"))?, release })
    }

    /// What `name` is in the store: made by `make` in an empty folder that is then renamed, if it is not there yet.
    ///
    /// `make` must not call this function: fetch first what it needs.
    pub fn make(
        &self,
        name: &str,
        make: impl FnOnce(&Path) -> Result<(), Error>,
    ) -> Result<PathBuf, Error> {
        let path = self.root.join(name);
        if path.exists() {
            return Ok(path);
        }
        let _lock = self.lock()?;
        if path.exists() {
            return Ok(path); // another process or thread was faster
        }
        // Under the lock any work folder is one that an interrupted run left behind.
        let temp = self.root.join("unfinished");
        if temp.exists() {
            fs::remove_dir_all(&temp).map_err(io(&temp))?;
        }
        fs::create_dir(&temp).map_err(io(&temp))?;
        make(&temp)?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io(parent))?;
        }
        fs::rename(&temp, &path).map_err(io(&path))?;
        Ok(path)
    }

    fn lock(&self) -> Result<File, Error> {
        let path = self.root.join("lock");
        let file = File::options().create(true).append(true).open(&path).map_err(io(&path))?;
        file.lock().map_err(io(&path))?;
        Ok(file)
    }

    /// Fetches and unpacks one package into `to`. Lists that are too old to name a file that still exists are renewed.
    fn fetch(&self, arch: Arch, name: &str, to: &Path) -> Result<(), Error> {
        let apt = apt::Apt::new(&self.root, arch)?;
        if !apt.has_lists() {
            self.update(arch)?;
        }
        let fetch = || {
            self.say(&format!("fetching {name} ({})", arch.name()));
            apt.download(name, to, &self.progress)
        };
        let file = match fetch() {
            Err(Error::Package { .. }) if self.update(arch)? => fetch()?,
            other => other?,
        };
        self.say(&format!("unpacking {name}"));
        apt::unpack(&file, to)?;
        fs::remove_file(&file).map_err(io(&file))
    }

    /// Renews apt's lists, once a run; returns whether it did.
    fn update(&self, arch: Arch) -> Result<bool, Error> {
        let mut updated = self.updated.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if updated.contains(&arch) {
            return Ok(false);
        }
        self.say(&format!("fetching Debian's package lists ({})", arch.name()));
        apt::Apt::new(&self.root, arch)?.update()?;
        updated.push(arch);
        Ok(true)
    }
}

/// The file in `dir` whose name begins so; the last one by name if there are several.
fn find(dir: &Path, prefix: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(dir).ok()?.filter_map(Result::ok);
    let names = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    names.map(|entry| entry.path()).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(dir: &Path) -> Store {
        Store::open(dir, Box::new(|_| {})).unwrap()
    }

    #[test]
    fn a_thing_is_made_once_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let failing = store.make("a/b", |temp| {
            fs::write(temp.join("half"), "x").unwrap();
            Err(Error::Layout("no".into()))
        });
        assert!(failing.is_err() && !dir.path().join("a/b").exists());
        let path = store.make("a/b", |temp| {
            assert!(!temp.join("half").exists(), "an unfinished attempt is cleared away");
            fs::write(temp.join("f"), "1").map_err(io(temp))
        });
        assert_eq!(fs::read(path.unwrap().join("f")).unwrap(), b"1");
        store.make("a/b", |_| unreachable!("it is there")).unwrap();
    }

    #[test]
    fn makers_wait_for_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let count = Mutex::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let made = store(dir.path()).make("x", |temp| {
                        *count.lock().unwrap() += 1;
                        std::thread::sleep(std::time::Duration::from_millis(20));
                        fs::write(temp.join("f"), "1").map_err(io(temp))
                    });
                    assert!(made.unwrap().join("f").exists());
                });
            }
        });
        assert_eq!(*count.lock().unwrap(), 1);
    }

    #[test]
    fn an_unwritable_place_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        let error = Store::open(&file.join("sub"), Box::new(|_| {})).err().unwrap().to_string();
        assert!(error.contains("file/sub"), "{error}");
    }
}
