//! Kernel modules with those they depend on, in the order to load them.
//!
//! An unpacked package has no `modules.dep` (depmod runs when it is installed), so the dependencies are read from the
//! modules themselves: `depends=` in their `.modinfo` section.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, apt, io};

/// A module, unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    /// With `_` for `-`, without `.ko`.
    pub(crate) name: String,
    /// The ELF file.
    pub(crate) bytes: Vec<u8>,
}

/// The modules of these names below `dir`, each behind what it depends on. A name that is not there is built into the
/// kernel, or not needed by it.
pub(crate) fn load_order(dir: &Path, names: &[&str]) -> Result<Vec<Module>, Error> {
    let mut index = HashMap::new();
    collect(dir, &mut index)?;
    let (mut seen, mut order) = (HashSet::new(), Vec::new());
    for name in names {
        add(&index, name, &mut seen, &mut order)?;
    }
    Ok(order)
}

fn collect(dir: &Path, index: &mut HashMap<String, PathBuf>) -> Result<(), Error> {
    for entry in fs::read_dir(dir).map_err(io(dir))? {
        let entry = entry.map_err(io(dir))?;
        let path = entry.path();
        if entry.file_type().map_err(io(&path))?.is_dir() {
            collect(&path, index)?;
        } else if let Some(name) = module_name(&entry.file_name().to_string_lossy()) {
            index.insert(name, path);
        }
    }
    Ok(())
}

fn module_name(file: &str) -> Option<String> {
    let stem = file.strip_suffix(".ko").or_else(|| file.strip_suffix(".ko.xz"))?;
    Some(stem.replace('-', "_"))
}

fn add(
    index: &HashMap<String, PathBuf>,
    name: &str,
    seen: &mut HashSet<String>,
    order: &mut Vec<Module>,
) -> Result<(), Error> {
    let name = name.replace('-', "_");
    let Some(path) = index.get(&name).filter(|_| seen.insert(name.clone())) else {
        return Ok(());
    };
    let bytes = match path.extension() {
        Some(extension) if extension == "xz" => {
            apt::run(Command::new("xz").arg("-dc").arg(path), b"")?.stdout
        }
        _ => fs::read(path).map_err(io(path))?,
    };
    for needed in dependencies(&bytes) {
        add(index, &needed, seen, order)?;
    }
    order.push(Module { name, bytes });
    Ok(())
}

/// The names in `depends=A,B` and `softdep=pre: A B` of a module.
fn dependencies(module: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    for text in module.split(|&byte| byte == 0).filter_map(|text| str::from_utf8(text).ok()) {
        if let Some(list) = text.strip_prefix("depends=") {
            names.extend(list.split(',').filter(|name| !name.is_empty()).map(str::to_owned));
        } else if let Some(list) = text.strip_prefix("softdep=pre: ") {
            names.extend(list.split_whitespace().map(str::to_owned));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_come_first_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        write("ext4.ko", "ELF\0depends=jbd2,crc16\0softdep=pre: crc32c\0");
        write("sub/jbd2.ko", "ELF\0depends=crc16\0");
        write("sub/crc16.ko", "ELF\0depends=\0");
        write("crc32c.ko", "ELF");
        write("a-b.ko", "ELF\0depends=gone\0");
        let order = load_order(dir.path(), &["ext4", "jbd2", "a-b", "builtin"]).unwrap();
        let names: Vec<&str> = order.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["crc16", "jbd2", "crc32c", "ext4", "a_b"]);
    }

    #[test]
    fn modules_that_need_each_other_end() {
        // No kernel has such a pair; a damaged file must not hang the builder.
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.ko"), "\0depends=b\0").unwrap();
        fs::write(dir.path().join("b.ko"), "\0depends=a\0").unwrap();
        assert_eq!(load_order(dir.path(), &["a"]).unwrap().len(), 2);
    }
}
