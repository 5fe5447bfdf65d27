//! Commands that write files, and the log's.

use std::fs::File;
use std::io::{BufWriter, Write};

use super::{Call, memory};
use crate::log::Items;

type Answer = Result<String, String>;

pub(super) fn memsave(call: &mut Call<'_>) -> Answer {
    save(call, false)
}

pub(super) fn pmemsave(call: &mut Call<'_>) -> Answer {
    save(call, true)
}

fn save(call: &mut Call<'_>, is_physical: bool) -> Answer {
    let [at, size, path] = call.exactly()?;
    let (at, size) = (call.value(&at)?, call.value(&size)?);
    let failed = |error| format!("cannot write {path}: {error}");
    let mut file = BufWriter::new(File::create(&path).map_err(failed)?);
    let mut page = [0; 4096];
    let mut done = 0;
    while done < size {
        let n = (size - done).min(4096) as usize;
        let here = at.wrapping_add(done);
        let what = &mut page[..n];
        let found = match is_physical {
            true => memory::read_phys(call.machine, here, what),
            false => memory::read_linear(call.machine, here, what),
        };
        found.ok_or_else(|| format!("Cannot access memory at {here:#x}"))?;
        file.write_all(what).map_err(failed)?;
        done += n as u64;
    }
    file.flush().map_err(failed)?;
    Ok(String::new())
}

pub(super) fn screendump(call: &mut Call<'_>) -> Answer {
    let list = call.list()?;
    let (path, format) = match list.as_slice() {
        [path] => (path, None),
        [path, flag, format] | [flag, format, path] if flag == "-f" => {
            (path, Some(format.as_str()))
        }
        _ => return Err(call.usage()),
    };
    let is_png = match format {
        Some("png") => true,
        Some("ppm") => false,
        Some(other) => return Err(format!("format {other} is neither png nor ppm")),
        None => path.ends_with(".png"),
    };
    let picture = call.machine.board().vga().map(|vga| vga.picture());
    let picture = picture.ok_or("there is no VGA card")?;
    let failed = |error: &dyn std::fmt::Display| format!("cannot write {path}: {error}");
    let mut file = BufWriter::new(File::create(path).map_err(|error| failed(&error))?);
    // Sizes are bounded by what the chip can show.
    let (width, height) = (picture.width as u32, picture.height as u32);
    if is_png {
        let mut encoder = png::Encoder::new(&mut file, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(|error| failed(&error))?;
        writer.write_image_data(&picture.rgb).map_err(|error| failed(&error))?;
        writer.finish().map_err(|error| failed(&error))?;
    } else {
        write!(file, "P6\n{width} {height}\n255\n").map_err(|error| failed(&error))?;
        file.write_all(&picture.rgb).map_err(|error| failed(&error))?;
    }
    file.flush().map_err(|error| failed(&error))?;
    Ok(String::new())
}

pub(super) fn log(call: &mut Call<'_>) -> Answer {
    let items = match call.rest {
        "" | "help" | "?" => return Ok(crate::log::help()),
        "none" => Items::default(),
        list => Items::parse(list).map_err(|item| format!("unknown log item {item}"))?,
    };
    call.machine.log().set_items(items);
    Ok(String::new())
}

pub(super) fn logfile(call: &mut Call<'_>) -> Answer {
    let [path] = call.exactly()?;
    call.machine
        .log()
        .write_to(path.as_ref())
        .map_err(|error| format!("cannot write {path}: {error}"))?;
    Ok(String::new())
}
