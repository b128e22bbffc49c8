//! Lines in, lines out: a bad line gets its answer and does not stop the rest.

use std::io::{self, BufRead, BufReader, BufWriter, Write};

use super::super::{Answer, Exit, Failure};

/// Longer lines are refused: no payload is this large, and memory is bounded.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What one line gave.
pub(super) struct Line {
    /// The text to print, without a line end.
    pub(super) text: String,
    /// Whether it was good.
    pub(super) is_fine: bool,
}

/// Answers each line of stdin. Exit 1 if any was bad.
pub(super) fn each_line(mut answer: impl FnMut(&[u8]) -> Line) -> Answer {
    let mut input = BufReader::new(io::stdin().lock());
    let mut out = BufWriter::new(io::stdout().lock());
    let mut all_fine = true;
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let read = read_line(&mut input, &mut buffer).map_err(Failure::could_not_tell)?;
        if !read {
            break;
        }
        let line = answer(buffer.trim_ascii());
        all_fine &= line.is_fine;
        writeln!(out, "{}", line.text).map_err(Failure::could_not_tell)?;
        // Whoever feeds us line by line waits for each answer before the next line comes.
        if input.buffer().is_empty() {
            out.flush().map_err(Failure::could_not_tell)?;
        }
    }
    out.flush().map_err(Failure::could_not_tell)?;
    Ok(if all_fine { Exit::Fine } else { Exit::Findings })
}

fn read_line(input: &mut impl BufRead, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let mut limited = io::Read::take(&mut *input, LINE_BYTES_MAX as u64 + 1);
    let read = limited.read_until(b'\n', buffer)?;
    if read > LINE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is longer than 64 MiB"));
    }
    Ok(read > 0)
}
