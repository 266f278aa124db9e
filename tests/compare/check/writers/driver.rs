//! Records what a script says: driver OUT SCRIPT NUMBERS. A line is `step N`, `tensor NAME DTYPE SIZE RANK SIZES...`, whose
//! numbers come next in the file NUMBERS, or `short NAME`, whose numbers do not fill its shape.
use std::io::Read;

#[path = "RECORDER"]
mod backproof_record;
use backproof_record::{Element, Recording, BF16, F16};

fn put<T: Element>(
    record: &mut Recording,
    name: &str,
    bytes: &[u8],
    size: usize,
    shape: &[usize],
    read: impl Fn(&[u8]) -> T,
) -> std::io::Result<()> {
    record.tensor(name, &bytes.chunks(size).map(read).collect::<Vec<T>>(), shape)
}

fn run() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let mut numbers = std::fs::File::open(&arguments[3])?;
    let mut record = Recording::create(&arguments[1])?;
    for line in std::fs::read_to_string(&arguments[2])?.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if words[0] == "step" {
            record.step(words[1].parse().unwrap())?;
            continue;
        }
        let name = words[1];
        if words[0] == "short" {
            record.tensor(name, &[1.0f32, 2.0], &[3])?;
            continue;
        }
        let shape: Vec<usize> = words[5..].iter().map(|word| word.parse().unwrap()).collect();
        let size: usize = words[3].parse().unwrap();
        let mut bytes = vec![0u8; size * shape.iter().product::<usize>()];
        numbers.read_exact(&mut bytes)?;
        let (record, bytes, shape) = (&mut record, &bytes, &shape);
        match words[2] {
            "F64" => put(record, name, bytes, size, shape, |b| f64::from_le_bytes(b.try_into().unwrap()))?,
            "F32" => put(record, name, bytes, size, shape, |b| f32::from_le_bytes(b.try_into().unwrap()))?,
            "F16" => put(record, name, bytes, size, shape, |b| F16(u16::from_le_bytes(b.try_into().unwrap())))?,
            "BF16" => put(record, name, bytes, size, shape, |b| BF16(u16::from_le_bytes(b.try_into().unwrap())))?,
            "I64" => put(record, name, bytes, size, shape, |b| i64::from_le_bytes(b.try_into().unwrap()))?,
            "I32" => put(record, name, bytes, size, shape, |b| i32::from_le_bytes(b.try_into().unwrap()))?,
            "I16" => put(record, name, bytes, size, shape, |b| i16::from_le_bytes(b.try_into().unwrap()))?,
            "I8" => put(record, name, bytes, size, shape, |b| b[0] as i8)?,
            "U8" => put(record, name, bytes, size, shape, |b| b[0])?,
            "BOOL" => put(record, name, bytes, size, shape, |b| b[0] != 0)?,
            other => panic!("{other}"),
        }
    }
    record.close()
}

fn main() {
    if let Err(error) = run() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}
