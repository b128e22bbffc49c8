//! Who a process is: pid and start time, as `/proc` tells them. A pid that was given to another
//! process since is never signalled; nothing is ever ended by name.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::wait;

/// The kernel ends a killed process at once, unless it hangs in a device.
pub(super) const KILL_DEADLINE: Duration = Duration::from_secs(5);

/// A process, told apart from a later one with the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub pid: i32,
    /// Clock ticks after boot.
    pub start_ticks: u64,
}

impl Identity {
    /// The process that has this pid now.
    pub fn of(pid: u32) -> Option<Self> {
        let pid = i32::try_from(pid).ok()?;
        let stat = Stat::read(pid)?;
        Some(Self { pid, start_ticks: stat.start_ticks })
    }

    /// Whether it still runs; a zombie does not.
    pub fn is_alive(self) -> bool {
        Stat::read(self.pid)
            .is_some_and(|stat| stat.start_ticks == self.start_ticks && !stat.is_zombie)
    }

    /// Sends a signal, unless the process is gone.
    pub fn signal(self, signal: Signal) {
        if let (true, Some(pid)) = (self.is_alive(), Pid::from_raw(self.pid)) {
            // It may end between the look and the signal; that is what was wanted.
            let _ = kill_process(pid, signal);
        }
    }

    /// Whether it was gone within the deadline.
    pub fn is_gone_within(self, deadline: Duration) -> bool {
        wait::until(deadline, || (!self.is_alive()).then_some(())).is_some()
    }

    /// Ends it and its children at once and without a chance to tidy up, as a power cut would.
    pub fn kill9(self) {
        let children = self.children();
        self.signal(Signal::KILL);
        for child in &children {
            child.signal(Signal::KILL);
        }
        for process in std::iter::once(self).chain(children) {
            process.is_gone_within(KILL_DEADLINE);
        }
    }

    /// Sends a signal to it and its children.
    pub(super) fn signal_all(self, signal: Signal) {
        for process in std::iter::once(self).chain(self.children()) {
            process.signal(signal);
        }
    }

    fn children(self) -> Vec<Self> {
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter_map(|pid| Stat::read(pid).map(|stat| (pid, stat)))
            .filter(|(_, stat)| stat.parent == self.pid)
            .map(|(pid, stat)| Self { pid, start_ticks: stat.start_ticks })
            .collect()
    }
}

struct Stat {
    is_zombie: bool,
    parent: i32,
    start_ticks: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Field 2 is the program's name in brackets and may hold anything, brackets included: count
    /// from the last one.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        let is_zombie = matches!(fields.next()?, "Z" | "X");
        let parent = fields.next()?.parse().ok()?;
        // starttime is field 22 of proc(5): 17 fields after the parent's pid.
        let start_ticks = fields.nth(17)?.parse().ok()?;
        Some(Self { is_zombie, parent, start_ticks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let text = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2";
        let stat = Stat::parse(text).expect("a stat line");
        assert_eq!((stat.is_zombie, stat.parent, stat.start_ticks), (false, 7, 98765));
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let me = Identity::of(std::process::id()).expect("this process");
        assert!(me.is_alive());
        assert!(!Identity { start_ticks: me.start_ticks + 1, ..me }.is_alive());
    }
}
