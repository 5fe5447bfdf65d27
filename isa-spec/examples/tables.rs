//! Parses and checks a folder of tables: `cargo run -p isa-spec --example tables -- isa-spec/x86 [list|QUERY]`.
use isa_spec::coverage::render;
use std::path::Path;
use std::time::Instant;

fn main() {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "isa-spec/x86".to_string());
    let start = Instant::now();
    match isa_spec::load(Path::new(&dir)) {
        Ok(isa) => {
            let (insns, rows) = (isa.insns.len(), isa.rows.len());
            let cases: usize = isa.insns.iter().map(|i| i.cases.len()).sum();
            if let Some(query) = std::env::args().nth(2) {
                let list = query == "list";
                print!("{}", if list { render(&isa) } else { isa_spec::show(&isa, &query) });
            }
            println!("{insns} insns, {rows} rows, {cases} cases, {:?}", start.elapsed());
        }
        Err(errors) => {
            print!("{errors}");
            std::process::exit(1);
        }
    }
}
