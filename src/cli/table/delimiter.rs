//! Finding the character between cells: commas, or what spreadsheets of other countries and databases write.

/// Candidates; the first wins a tie.
const CANDIDATES: [u8; 4] = [b',', b';', b'\t', b'|'];

/// What a table's first line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The character between cells.
    pub(super) delimiter: u8,
    /// Lines before the header.
    pub(super) skip_lines: u64,
}

/// Reads the first line of a table: the candidate that stands there most often outside of quotes, or the one that
/// Excel's line `sep=;` names.
pub(super) fn read(text: &[u8]) -> Header {
    let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let first = first.strip_suffix(b"\r").unwrap_or(first);
    if let Some([delimiter]) = first.strip_prefix(b"sep=") {
        return Header { delimiter: *delimiter, skip_lines: 1 };
    }
    let (mut counts, mut quoted) = ([0_usize; CANDIDATES.len()], false);
    for byte in text {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' if !quoted => break,
            _ if quoted => {}
            byte => {
                if let Some(index) = CANDIDATES.iter().position(|candidate| candidate == byte) {
                    counts[index] += 1;
                }
            }
        }
    }
    let most = counts.iter().max().copied().unwrap_or(0);
    let index = counts.iter().position(|count| *count == most).unwrap_or(0);
    Header { delimiter: CANDIDATES[index], skip_lines: 0 }
}
