//! The fuzz targets' corpus (`tests/fuzz/corpus`), replayed. Inputs that once failed go there, too.

use std::fs;
use std::path::{Path, PathBuf};

use stele_tests::fuzz::{self, HostCheck};

/// The inputs of a target, by name.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 10, "only {} inputs", paths.len());
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn replay(target: &str, mut run: impl FnMut(&[u8])) {
    for (path, bytes) in corpus(target) {
        println!("{}", path.display()); // shown when it fails
        run(&bytes);
    }
}

#[test]
fn decoder() {
    replay("decoder", fuzz::decoder);
}

#[test]
fn engines() {
    replay("engines", fuzz::engines);
}

#[test]
fn host() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../isa-spec/x86");
    let isa = isa_spec::load(&folder).unwrap_or_else(|errors| panic!("{errors}"));
    match HostCheck::new(isa) {
        Ok(mut check) => replay("host", |bytes| check.check(bytes)),
        Err(error) => {
            println!("SKIPPED: the native oracle cannot run here: {error}");
            assert!(std::env::var_os("STELE_REQUIRE_ALL").is_none(), "{error}");
        }
    }
}
