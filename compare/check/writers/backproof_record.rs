//! Records the inputs and results of training steps, so that `backproof check` can check them.
//!
//! Copy this file into your project (`mod backproof_record;`). It needs std only, and writes a .safetensors file:
//!
//!     let mut record = Recording::create("run.safetensors")?;
//!     for step in 1..=2 {
//!         record.step(step)?;
//!         record.tensor("parameters/W1", &w1, &[rows, columns])?;
//!         record.tensor("inputs/x", &x, &[examples, columns])?;
//!         record.tensor("loss", &[loss], &[])?;
//!         record.tensor("gradients/W1", &dw1, &[rows, columns])?;
//!         record.tensor("next/W1", &w1, &[rows, columns])?;
//!     }
//!     record.close()?;
//!
//! The names in a recording:
//!
//!     step.1/...                       in front of each name below if there are several steps, counted from 1
//!     parameters/W1   inputs/x         the first argument of the loss, and its other arguments by their names
//!     loss            gradients/W1     the loss and its gradients, as the step computed them
//!     values/h        intermediates/h  values that the loss marks with tap, and the gradients with respect to them
//!     next/W1                          the parameters after the update
//!
//! Arrays are written when `tensor` is called, row by row, and may change afterwards. The file appears when `close` is
//! called. If a recording is dropped before that, there is no file, not even that of an earlier run. Names are
//! printable ASCII without quotes and backslashes.
//!
//! SPDX-License-Identifier: MIT
#![allow(dead_code)]

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Error, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The types of the entries of an array. Rust lacks 16-bit floating-point numbers, so these are given by their bits.
pub trait Element {
    const DTYPE: &'static str;
    const SIZE: u64;
    fn write(&self, out: &mut dyn Write) -> io::Result<()>;
}

#[derive(Clone, Copy)]
pub struct F16(pub u16);

#[derive(Clone, Copy)]
pub struct BF16(pub u16);

macro_rules! elements {
    ($($type:ty, $dtype:literal, $size:literal, $value:ident => $bytes:expr;)*) => {$(
        impl Element for $type {
            const DTYPE: &'static str = $dtype;
            const SIZE: u64 = $size;
            fn write(&self, out: &mut dyn Write) -> io::Result<()> {
                let $value = *self;
                out.write_all(&$bytes)
            }
        }
    )*};
}

elements! {
    f64, "F64", 8, value => value.to_le_bytes();
    f32, "F32", 4, value => value.to_le_bytes();
    F16, "F16", 2, value => value.0.to_le_bytes();
    BF16, "BF16", 2, value => value.0.to_le_bytes();
    i64, "I64", 8, value => value.to_le_bytes();
    i32, "I32", 4, value => value.to_le_bytes();
    i16, "I16", 2, value => value.to_le_bytes();
    i8, "I8", 1, value => value.to_le_bytes();
    u8, "U8", 1, value => [value];
    bool, "BOOL", 1, value => [u8::from(value)];
}

const PARTS: [&str; 6] = ["parameters/", "inputs/", "gradients/", "values/", "intermediates/", "next/"];

pub struct Recording {
    path: PathBuf,
    part: PathBuf, // holds the data until the header is complete
    numbers: BufWriter<File>,
    header: String,
    at: u64, // the number of bytes of data so far
    step: u64,
    of_step: HashSet<String>,
    failed: bool,
}

impl Recording {
    /// Begin a recording. An older file of that name is removed, so that it is not mistaken for the new one.
    pub fn create(path: impl AsRef<Path>) -> io::Result<Recording> {
        let path = path.as_ref().to_path_buf();
        let mut part = path.clone().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        if path.exists() {
            fs::remove_file(&path)?;
        }
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&part)?;
        let (numbers, of_step) = (BufWriter::new(file), HashSet::new());
        Ok(Recording { path, part, numbers, header: String::from("{"), at: 0, step: 0, of_step, failed: false })
    }

    /// Begin step `number`: 1, 2, 3 and so on. The tensors that are recorded next belong to it.
    pub fn step(&mut self, number: u64) -> io::Result<()> {
        let result = self.begin(number);
        self.failed |= result.is_err();
        result
    }

    /// Record an array: `data` has as many entries as the product of `shape`; a scalar has the shape `&[]`.
    pub fn tensor<T: Element>(&mut self, name: &str, data: &[T], shape: &[usize]) -> io::Result<()> {
        let result = self.add(name, data, shape);
        self.failed |= result.is_err();
        result
    }

    /// End the recording. The file appears, unless a call before returned an error.
    pub fn close(mut self) -> io::Result<()> {
        let name = self.path.display().to_string();
        if self.failed {
            return refused(&name, "there is no file, because something was refused before");
        }
        if !self.has_tensors() {
            return refused(&name, "nothing was recorded");
        }
        self.header.push('}');
        while self.header.len() % 8 != 0 {
            self.header.push(' '); // the data begin at a multiple of eight bytes
        }
        let written = self.put_together();
        if written.is_err() {
            let _ = fs::remove_file(&self.path);
        }
        written
    }

    fn begin(&mut self, number: u64) -> io::Result<()> {
        if number <= self.step {
            return refused("step", "the numbers of steps must increase from 1");
        }
        if self.step == 0 && self.has_tensors() {
            return refused("step", "a tensor was recorded before the first step");
        }
        self.step = number;
        self.of_step.clear();
        Ok(())
    }

    fn add<T: Element>(&mut self, name: &str, data: &[T], shape: &[usize]) -> io::Result<()> {
        let printable = name.bytes().all(|c| (b' '..=b'~').contains(&c) && c != b'"' && c != b'\\');
        let follows = name == "loss" || PARTS.iter().any(|part| name.starts_with(part) && name.len() > part.len());
        if !printable || !follows || name.len() > 1000 {
            return refused(
                name,
                "a name is loss, or begins with parameters/, inputs/, gradients/, values/, intermediates/ or next/; it \
                 is printable ASCII without quotes and backslashes",
            );
        }
        let count = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        if shape.len() > 32 || count != Some(data.len()) {
            return refused(name, &format!("{} numbers do not fill the shape {:?}", data.len(), shape));
        }
        if !self.of_step.insert(name.to_string()) {
            return refused(name, "the name is recorded twice in one step");
        }
        let prefix = if self.step > 0 { format!("step.{}/", self.step) } else { String::new() };
        let comma = if self.has_tensors() { "," } else { "" };
        let sizes = shape.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let end = self.at + data.len() as u64 * T::SIZE;
        self.header.push_str(&format!(
            "{comma}\"{prefix}{name}\":{{\"dtype\":\"{}\",\"shape\":[{sizes}],\"data_offsets\":[{},{end}]}}",
            T::DTYPE,
            self.at,
        ));
        self.at = end;
        data.iter().try_for_each(|value| value.write(&mut self.numbers))
    }

    fn put_together(&mut self) -> io::Result<()> {
        self.numbers.flush()?;
        let mut file = File::create(&self.path)?;
        file.write_all(&(self.header.len() as u64).to_le_bytes())?;
        file.write_all(self.header.as_bytes())?;
        let numbers = self.numbers.get_mut();
        numbers.seek(SeekFrom::Start(0))?;
        io::copy(numbers, &mut file)?;
        Ok(())
    }

    fn has_tensors(&self) -> bool {
        self.header.len() > 1
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.part);
    }
}

fn refused(name: &str, message: &str) -> io::Result<()> {
    Err(Error::new(ErrorKind::InvalidInput, format!("backproof_record: {name}: {message}")))
}
