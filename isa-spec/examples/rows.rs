//! Writes a boot's column of `coverage.txt`: the rows in logs of `-d rows`.
//!
//!     stele -d rows -D a.log OPTIONS; cargo run -p isa-spec --example rows -- linux64 a.log …
use isa_spec::reach::{COLUMNS, Reach, read_log};
use std::path::Path;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, logs @ ..] = arguments.as_slice() else {
        return Err("usage: rows COLUMN LOG…".into());
    };
    let column = COLUMNS.iter().position(|column| column.name == name);
    let column = column.ok_or("no such column")?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let isa = isa_spec::load(&folder.join("x86")).map_err(|errors| errors.to_string())?;
    let file = folder.join("coverage.txt");
    let (mut reach, _) = Reach::parse(&isa, &std::fs::read_to_string(&file).unwrap_or_default());
    reach.set(column, &[]);
    for log in logs {
        let text = String::from_utf8_lossy(&std::fs::read(log)?).into_owned();
        let rows = read_log(&isa, &text)?;
        println!("{log}: {} rows", rows.len());
        reach.add(column, rows);
    }
    Ok(std::fs::write(file, reach.to_string())?)
}
