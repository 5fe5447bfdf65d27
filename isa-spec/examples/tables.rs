//! Parses and checks a folder of tables: `cargo run -p isa-spec --example tables -- isa-spec/x86`.
use std::path::Path;
use std::time::Instant;

fn main() {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "isa-spec/x86".to_string());
    let start = Instant::now();
    match isa_spec::load(Path::new(&dir)) {
        Ok(isa) => {
            let (insns, rows) = (isa.insns.len(), isa.rows.len());
            let cases: usize = isa.insns.iter().map(|i| i.cases.len()).sum();
            println!("{insns} insns, {rows} rows, {cases} cases, {:?}", start.elapsed());
        }
        Err(errors) => {
            print!("{errors}");
            std::process::exit(1);
        }
    }
}
