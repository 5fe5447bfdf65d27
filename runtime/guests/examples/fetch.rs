//! Fetches and builds the guests that `stele demo linux` and the boot tests use, and prints where they are.
//!
//!     cargo run -p guests --example fetch

use guests::{Arch, Error, Linux, Store};

fn main() -> Result<(), Error> {
    let store = Store::open(&Store::default_root(), Box::new(|text| eprintln!("{text}")))?;
    for arch in [Arch::Amd64, Arch::I386] {
        let linux = Linux::fetch(&store, arch, Linux::flavour(arch))?;
        println!("{}", linux.kernel.image.display());
        println!("{}", linux.initramfs(&store)?.display());
        println!("{}", linux.disk(&store)?.display());
    }
    Ok(())
}
