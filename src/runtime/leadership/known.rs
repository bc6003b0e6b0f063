//! Who leads, by name: each replica logs it when it learns it, so that the log of any of them has it.

use std::sync::Arc;

use parking_lot::Mutex;

/// The leader that this process has logged last; cheap to clone, and all clones know the same.
#[derive(Clone, Debug, Default)]
pub struct KnownLeader(Arc<Mutex<Option<String>>>);

impl KnownLeader {
    /// Logs who leads, unless that was the last one logged. `holder` is what the leadership's row tells: the name of the Pod, a
    /// slash, and the id of the process.
    pub fn learn(&self, holder: &str) {
        if let Some(leader) = self.news(holder) {
            tracing::info!(leader, "learned who leads");
        }
    }

    /// The name of the leader's Pod, where the process that leads is another one than before.
    fn news<'holder>(&self, holder: &'holder str) -> Option<&'holder str> {
        let mut last = self.0.lock();
        if last.as_deref() == Some(holder) {
            return None;
        }
        *last = Some(holder.to_owned());
        Some(holder.rsplit_once('/').map_or(holder, |(name, _)| name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_of_the_leading_process_is_told_once_by_the_name_of_its_pod() {
        let known = KnownLeader::default();
        for (holder, news) in [
            ("operator-a/1", Some("operator-a")),
            ("operator-a/1", None),
            ("operator-b/2", Some("operator-b")),
            ("operator-b/2", None),
            // The container was started again: another process in the same Pod.
            ("operator-b/3", Some("operator-b")),
            ("operator-a/1", Some("operator-a")),
            ("no process id", Some("no process id")),
        ] {
            assert_eq!(known.clone().news(holder), news, "{holder}");
        }
    }
}
