//! Complaining once of what goes wrong again and again.

/// Whether somebody was told of a trouble that lasts. Whoever tries until it works says so at the first failure, not each
/// second for as long as a database is away, and says it again only when it had worked in between.
#[derive(Debug, Default)]
pub struct Complaint {
    made: bool,
}

impl Complaint {
    /// It failed; `true`: this is to be told, and counts as told.
    pub const fn begin(&mut self) -> bool {
        !std::mem::replace(&mut self.made, true)
    }

    /// It worked; `true`: a failure was told of, so this is news.
    pub const fn end(&mut self) -> bool {
        std::mem::replace(&mut self.made, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_is_told_of_once() {
        let mut complaint = Complaint::default();
        assert!(!complaint.end(), "nobody was told of anything");
        assert!(complaint.begin());
        assert!(!complaint.begin());
        assert!(complaint.end());
        assert!(!complaint.end());
        assert!(complaint.begin(), "it went wrong anew");
    }
}
