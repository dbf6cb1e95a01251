//! What a process has used, from `/proc`.

use std::fs::read_to_string;

use anyhow::Context as _;

/// Ticks of `/proc/<pid>/stat` per second: `USER_HZ`, 100 on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has used since it started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Seconds of CPU, user and system.
    pub(crate) cpu_seconds: f64,
    /// Bytes that it caused to be written to storage.
    pub(crate) written_bytes: f64,
    /// The most memory it ever had resident, in bytes.
    pub(crate) peak_rss_bytes: f64,
}

impl Usage {
    /// Of a process that runs.
    pub(crate) fn of(process: u32) -> anyhow::Result<Self> {
        let stat = read_to_string(format!("/proc/{process}/stat"))?;
        // The name in parentheses may hold anything; what follows it is regular.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |field: usize| fields.get(field).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
        Ok(Self {
            cpu_seconds: (ticks(11) + ticks(12)) / TICKS_PER_SECOND,
            written_bytes: line_of(&format!("/proc/{process}/io"), "write_bytes:")?,
            peak_rss_bytes: line_of(&format!("/proc/{process}/status"), "VmHWM:")? * 1024.0,
        })
    }

    /// What was used since an earlier look; the peak stays the peak.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            cpu_seconds: self.cpu_seconds - earlier.cpu_seconds,
            written_bytes: self.written_bytes - earlier.written_bytes,
            peak_rss_bytes: self.peak_rss_bytes,
        }
    }
}

/// Bytes that a process has resident at present.
pub(crate) fn resident_bytes(process: u32) -> anyhow::Result<f64> {
    Ok(line_of(&format!("/proc/{process}/status"), "VmRSS:")? * 1024.0)
}

/// Lets a process's peak start anew from what it has resident.
pub(crate) fn forget_peak(process: u32) -> anyhow::Result<()> {
    Ok(std::fs::write(format!("/proc/{process}/clear_refs"), "5")?)
}

fn line_of(path: &str, name: &str) -> anyhow::Result<f64> {
    let text = read_to_string(path)?;
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let number = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("{path} has no {name}"))
}
